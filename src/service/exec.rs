//! Exec and Rerun: jobs accepted.

use std::{sync::Arc, time::Duration};

use tonic::Request;

use super::{
    JobApi,
    caller::{Caller, deadline},
    convert,
    intake::Held,
    named_job,
    status::Refusal,
    text::TextDecoder,
};
use crate::{
    api,
    job::{Job, Violation},
    operations::Submitted,
    store::{LogReader, Piece, Stream},
};

/// The most bytes of output that a response carries of each stream.
const TAIL_BYTES_MAX: u32 = 64 * 1024;

impl JobApi {
    pub(super) async fn exec(
        &self,
        caller: Caller,
        request: Request<api::ExecRequest>,
    ) -> Result<api::ExecResponse, Refusal> {
        let deadline = deadline(&request);
        let held = Held::of(&request);
        let api::ExecRequest { spec, request_id, wait, output_tail_bytes } = request.into_inner();
        let wait = convert::wait_limit("wait", wait)?.unwrap_or(Duration::ZERO);
        if output_tail_bytes > TAIL_BYTES_MAX {
            let rule = format!("must be at most {TAIL_BYTES_MAX}; use TailLog for more");
            return Err(Violation::new("output_tail_bytes", rule).into());
        }
        let Some(spec) = spec else {
            return Err(Violation::new("spec", "is required; say what to run").into());
        };
        // Before the job is accepted: who is refused has none.
        let waiting = held.as_ref().filter(|_| !wait.is_zero());
        let _waiting = waiting.map(Held::wait).transpose()?;
        let draft = convert::draft(spec);
        let asked = caller.asked(request_id.clone());
        let (audit, recording) = (Arc::clone(&self.0.audit), caller.clone());
        let submitted = self.changing(&caller, "accepting a job", move |operations| {
            // The request is in memory until here, however long it waits for its turn.
            let _held = held;
            let submitted = operations.submit(draft, &asked)?;
            // Now: the caller may wait long for the end, or leave.
            recording.note_job(submitted.job.id());
            recording.record(&audit, "", "ok");
            Ok(submitted)
        });
        let submitted = submitted.await.map_err(|refusal| with_request_id(refusal, &request_id))?;
        let Submitted { mut job, deduplicated } = submitted;
        tracing::info!(job = %job.id(), deduplicated, "job accepted");
        if !wait.is_zero() {
            let limit = self.wait_limit(Some(wait), deadline);
            (job, _) = self.wait_for(job.id(), limit, |job| job.state.is_ended()).await?;
        }
        let [stdout_tail, stderr_tail] = match output_tail_bytes {
            0 => [String::new(), String::new()],
            bytes => self.output_tails(&job, bytes).await?,
        };
        Ok(api::ExecResponse {
            job: Some(self.shown(&job)),
            deduplicated,
            stdout_tail,
            stderr_tail,
        })
    }

    pub(super) async fn rerun(
        &self,
        caller: Caller,
        request: Request<api::RerunRequest>,
    ) -> Result<api::RerunResponse, Refusal> {
        let held = Held::of(&request);
        let api::RerunRequest { job_id, request_id, secret_env } = request.into_inner();
        let id = named_job(&job_id)?;
        self.may_touch(&caller, id).await?;
        let asked = caller.asked(request_id.clone());
        let secrets = secret_env.into_iter().collect();
        let (audit, recording) = (Arc::clone(&self.0.audit), caller.clone());
        let submitted = self.changing(&caller, "accepting a job", move |operations| {
            let _held = held;
            let submitted = operations.rerun(id, secrets, &asked)?;
            recording.note(format!("again as {}", submitted.job.id()));
            recording.record(&audit, &id.to_string(), "ok");
            Ok(submitted)
        });
        let submitted = submitted.await.map_err(|refusal| with_request_id(refusal, &request_id))?;
        let Submitted { job, deduplicated } = submitted;
        tracing::info!(job = %job.id(), deduplicated, "job accepted again");
        Ok(api::RerunResponse { job: Some(self.shown(&job)), deduplicated })
    }

    /// The last bytes of both streams as text, from the first whole character on.
    async fn output_tails(&self, job: &Job, bytes: u32) -> Result<[String; 2], Refusal> {
        let id = job.id();
        self.blocking("reading output", move |operations| {
            let dir = operations.catalog().store().job_dir(id);
            let mut tails = [String::new(), String::new()];
            for stream in Stream::BOTH {
                let place = stream.place();
                let mut wanted = [false; 2];
                wanted[place] = true;
                let size = LogReader::open(&dir, wanted, [0, 0])?.sizes()?[place];
                let start = size.saturating_sub(u64::from(bytes));
                let mut reader = LogReader::open(&dir, wanted, [start, start])?;
                let mut decoder = TextDecoder::default();
                let mut is_first = true;
                while let Some(piece) = reader.next(TAIL_BYTES_MAX as usize)? {
                    let Piece::Data { offset, bytes, .. } = piece else {
                        tails[place].extend(decoder.gap().map(|piece| piece.text));
                        continue;
                    };
                    // A cut inside a character leaves no half of it.
                    let is_cut = is_first && start > 0;
                    let skip = if is_cut { continuation_bytes(&bytes) } else { 0 };
                    is_first = false;
                    let pushed = decoder.push(offset + skip as u64, &bytes[skip..]);
                    tails[place].extend(pushed.map(|piece| piece.text));
                }
                tails[place].extend(decoder.finish().map(|piece| piece.text));
            }
            Ok(tails)
        })
        .await
    }
}

/// How many bytes at the beginning continue a character that began before: at most three.
fn continuation_bytes(bytes: &[u8]) -> usize {
    bytes.iter().take(3).take_while(|byte| (0x80..0xC0).contains(*byte)).count()
}

fn with_request_id(refusal: Refusal, request_id: &str) -> Refusal {
    match refusal {
        Refusal::RequestIdReused { id, .. } => {
            Refusal::RequestIdReused { request_id: request_id.to_owned(), id }
        }
        other => other,
    }
}
