//! Jobs for whoever asks: from memory at once, from the disk on a thread that may block.

use std::sync::{Arc, Weak};

use prost::Message as _;

use super::{
    JobApi,
    convert::{self, OutputFacts, StreamFacts},
    status::Refusal,
};
use crate::{
    api,
    job::{Job, JobId, OutputLimitAction, OutputSize},
    operations::OperationError,
    store::LogReader,
    sys,
};

/// What a job takes in an answer besides itself: the number of the field and the length.
const FIELD_BYTES_MAX: usize = 6;

/// Whether the caller of a call still waits for its answer.
#[derive(Debug)]
pub(super) struct Awaited(Weak<()>);

impl Awaited {
    /// Whether it does: what is done for an answer that nobody gets may stop.
    pub(super) fn is_true(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// How many bytes a job takes in an answer, at most.
pub(super) fn sent_bytes(job: &api::Job) -> usize {
    FIELD_BYTES_MAX + job.encoded_len()
}

impl JobApi {
    /// A job as it is now: at once if it is in memory.
    pub(super) async fn job(&self, id: JobId) -> Result<Arc<Job>, Refusal> {
        if let Some(job) = self.catalog().get_in_memory(id) {
            return Ok(job);
        }
        self.blocking("reading a job", move |operations| Ok(operations.catalog().get(id)?)).await
    }

    /// Runs what reads and shows many jobs on a thread that may block. It sees whether its caller
    /// has left.
    pub(super) async fn reading<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Self, &Awaited) -> Result<T, OperationError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let api = self.clone();
        // Goes with the future of this call.
        let caller = Arc::new(());
        let awaited = Awaited(Arc::downgrade(&caller));
        let read = self.blocking(doing, move |_| work(&api, &awaited)).await;
        drop(caller);
        read
    }

    /// A job in the form of the wire, with what is on disk of its output now.
    pub(super) fn shown(&self, job: &Job) -> api::Job {
        convert::job(job, &self.output_facts(job))
    }

    fn output_facts(&self, job: &Job) -> OutputFacts {
        let dir = self.catalog().store().job_dir(job.id());
        let end = job.state.end();
        let limit = job.accepted.spec.output_limits.filter(|_| end.is_none());
        // Beyond a limit the index knows more than the logs.
        let told =
            limit.and_then(|_| LogReader::open(&dir, [true, true], [0, 0]).ok()?.sizes().ok());
        let told = told.unwrap_or([0, 0]);
        let cut = limit.and_then(|_| dir.cut_bytes().ok()).unwrap_or([0, 0]);
        let stream = |place: usize, path: std::path::PathBuf, ended: Option<OutputSize>| {
            let size_bytes = match ended {
                Some(size) => size.size_bytes,
                None => sys::fs::size(&path).unwrap_or(0).max(told[place]),
            };
            let beyond = match limit {
                Some(limit) if limit.action == OutputLimitAction::KeepTail => cut[place],
                Some(limit) => size_bytes.saturating_sub(limit.max_bytes_per_stream),
                None => 0,
            };
            let dropped_bytes = ended.map_or(beyond, |size| size.dropped_bytes);
            let path = path.to_string_lossy().into_owned();
            StreamFacts { size_bytes, dropped_bytes, complete: ended.is_some(), path }
        };
        OutputFacts {
            stdout: stream(0, dir.stdout_path(), end.map(|end| end.stdout)),
            stderr: stream(1, dir.stderr_path(), end.map(|end| end.stderr)),
        }
    }
}
