//! Shows the output of a job as it comes, passes on the wish to stop it, and ends as it ends.

use bytes::Bytes;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    api::{
        CancelRequest, Job, KillRequest, KillScope, LogChunk, LogEncoding, LogEnd, LogEndReason,
        LogStream, TailLogRequest, TailLogResponse, log_chunk::Content, tail_log_response::Kind,
    },
    client::{Client, LogFollower},
};

use super::{
    Outcome, end,
    failure::{Failure, INTERRUPTED, NO_SUCH_JOB},
    json, output, signals,
    writer::{Sink, Writer},
};

/// What the user wants with the next interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopRequest {
    /// The job is asked to stop.
    Cancel,
    /// The job is killed.
    Kill,
    /// This command ends; the job goes on.
    Leave,
}

/// The interrupts of this process, taken for the job from here on.
#[derive(Debug)]
pub(super) struct StopRequests {
    interrupt: Signal,
    terminate: Signal,
    interrupts: u32,
}

impl StopRequests {
    pub(super) fn new() -> Result<StopRequests, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::internal(format!("cannot listen to signals: {error}")))
        };
        Ok(StopRequests {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            interrupts: 0,
        })
    }

    /// The next wish. The future may be dropped at any time.
    pub(super) async fn next(&mut self) -> StopRequest {
        tokio::select! {
            _ = self.interrupt.recv() => {
                self.interrupts += 1;
                match self.interrupts {
                    1 => StopRequest::Cancel,
                    2 => StopRequest::Kill,
                    _ => StopRequest::Leave,
                }
            }
            _ = self.terminate.recv() => StopRequest::Cancel,
        }
    }
}

/// Shows the output of the job from its beginning and exits with its exit code.
pub(super) async fn follow(
    client: &Client,
    job_id: &str,
    json: bool,
    mut stops: StopRequests,
) -> Outcome {
    let mut log = client.follow_log(TailLogRequest {
        job_id: job_id.to_owned(),
        follow: true,
        encoding: encoding(json).into(),
        ..TailLogRequest::default()
    });
    let shown = {
        let mut show = std::pin::pin!(show(&mut log, json));
        loop {
            tokio::select! {
                shown = &mut show => break shown?,
                stop = stops.next() => obey(client, job_id, stop)?,
            }
        }
    };
    let job = match shown.job {
        Some(job) if end::is_terminal(job.state()) => job,
        _ if shown.reason() == LogEndReason::Deleted => {
            return Err(Failure::new(NO_SUCH_JOB, format!("job {job_id} was deleted")));
        }
        _ => ended(client, job_id, &mut stops).await?,
    };
    if let Some(remark) = end::remark(&job) {
        output::note(&remark);
    }
    Ok(end::exit_code(&job))
}

/// Writes what `log` brings until its end, and gives back the end.
pub(super) async fn show(log: &mut LogFollower, json: bool) -> Result<LogEnd, Failure> {
    let writer = Writer::new()?;
    let brought = pass_on(log, &writer, json).await;
    // What has come is shown in any case, and a closed pipe outranks a lost connection.
    writer.finish().await?;
    brought?.ok_or_else(|| Failure::internal("the output has no end"))
}

async fn pass_on(
    log: &mut LogFollower,
    writer: &Writer,
    json: bool,
) -> Result<Option<LogEnd>, Failure> {
    while let Some(kind) = log.next().await? {
        let end = match &kind {
            Kind::End(end) => Some(end.clone()),
            Kind::Header(_) | Kind::Chunk(_) | Kind::Gap(_) | Kind::Heartbeat(_) => None,
        };
        let piece = if json { Some(as_json(kind)?) } else { as_output(kind) };
        if let Some(piece) = piece {
            let Some(place) = writer.place().await else {
                return Ok(None);
            };
            place.send(piece);
        }
        if end.is_some() {
            return Ok(end);
        }
    }
    Ok(None)
}

/// The form in which output is asked for.
pub(super) fn encoding(json: bool) -> LogEncoding {
    if json { LogEncoding::Text } else { LogEncoding::Bytes }
}

/// Asks the job to stop, without waiting for the answer.
pub(super) fn cancel(client: &Client, job_id: &str) {
    let (client, job_id) = (client.clone(), job_id.to_owned());
    if output::is_watched() {
        output::note("cancelling the job; press Ctrl-C again to kill it");
    }
    tokio::spawn(async move {
        let reason = "interrupted at the command line".to_owned();
        let request = CancelRequest { job_id, reason, grace_period: None };
        report(client.cancel(request).await.err());
    });
}

fn kill(client: &Client, job_id: &str) {
    let (client, job_id) = (client.clone(), job_id.to_owned());
    if output::is_watched() {
        output::note("killing the job; press Ctrl-C again to leave it");
    }
    tokio::spawn(async move {
        let scope = KillScope::Tree.into();
        let request = KillRequest { job_id, signal: signals::KILL, scope };
        report(client.kill(request).await.err());
    });
}

/// Says what went wrong, unless the job has ended by itself meanwhile.
fn report(error: Option<crate::client::Error>) {
    let is_too_late = |error: &crate::client::Error| {
        error.refusal().is_some_and(|refusal| refusal.reason == "JOB_ENDED")
    };
    if let Some(error) = error.filter(|error| !is_too_late(error)) {
        Failure::from(error).print(&mut std::io::stderr().lock());
    }
}

fn obey(client: &Client, job_id: &str, stop: StopRequest) -> Result<(), Failure> {
    match stop {
        StopRequest::Cancel => cancel(client, job_id),
        StopRequest::Kill => kill(client, job_id),
        StopRequest::Leave => return Err(Failure::silent(INTERRUPTED)),
    }
    Ok(())
}

async fn ended(client: &Client, job_id: &str, stops: &mut StopRequests) -> Result<Job, Failure> {
    let mut wait = std::pin::pin!(client.wait_until_ended(job_id, None));
    loop {
        tokio::select! {
            waited = &mut wait => {
                return waited?.job.ok_or_else(|| Failure::internal("the service named no job"));
            }
            stop = stops.next() => obey(client, job_id, stop)?,
        }
    }
}

fn as_json(kind: Kind) -> Result<(Sink, Bytes), Failure> {
    let mut line = json::line("TailLogResponse", &TailLogResponse { kind: Some(kind) })?;
    line.push('\n');
    Ok((Sink::Stdout, Bytes::from(line)))
}

fn as_output(kind: Kind) -> Option<(Sink, Bytes)> {
    match kind {
        Kind::Chunk(chunk) => Some((sink(chunk.stream()), content(chunk))),
        Kind::Gap(gap) => {
            let stream = match gap.stream() {
                LogStream::Stderr => "standard error",
                LogStream::Stdout | LogStream::Unspecified => "standard output",
            };
            let (count, reason) = (gap.to.saturating_sub(gap.from), output::escaped(&gap.reason));
            let line = format!("jobwarden: {count} bytes of {stream} are missing ({reason})\n");
            Some((Sink::Stderr, Bytes::from(line)))
        }
        Kind::Header(_) | Kind::Heartbeat(_) | Kind::End(_) => None,
    }
}

fn sink(stream: LogStream) -> Sink {
    match stream {
        LogStream::Stderr => Sink::Stderr,
        LogStream::Stdout | LogStream::Unspecified => Sink::Stdout,
    }
}

fn content(chunk: LogChunk) -> Bytes {
    match chunk.content {
        Some(Content::Data(data)) => data,
        Some(Content::Text(text)) => Bytes::from(text),
        None => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::api::LogGap;

    use super::*;

    #[test]
    fn output_goes_to_its_own_stream_unchanged_and_gaps_are_told_apart() {
        let chunk = Kind::Chunk(LogChunk {
            stream: LogStream::Stderr.into(),
            content: Some(Content::Data(Bytes::from_static(b"\x1b[1m\xff\r\n"))),
            ..LogChunk::default()
        });
        assert_eq!(as_output(chunk), Some((Sink::Stderr, Bytes::from_static(b"\x1b[1m\xff\r\n"))));
        let gap = LogGap {
            stream: LogStream::Stdout.into(),
            from: 2,
            to: 7,
            reason: "disk_full".to_owned(),
        };
        let (sink, line) = as_output(Kind::Gap(gap)).unwrap();
        assert_eq!(sink, Sink::Stderr);
        assert_eq!(line, "jobwarden: 5 bytes of standard output are missing (disk_full)\n");
    }
}
