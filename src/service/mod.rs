//! The gRPC edge: checks, calls what lies below, and shapes the answer.
//!
//! What touches the disk runs on threads that may block, and goes on when a caller leaves.

mod act;
mod audited;
mod caller;
pub mod convert;
mod exec;
mod follow;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod growth;
mod intake;
mod jobs;
mod limits;
mod read;
pub mod status;
mod streams;
mod tail;
pub mod text;
mod turns;
mod unread;
mod wait;
mod watch;

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::sync::watch as signal;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use crate::{
    access::{Audit, Call},
    api::{self, job_service_server::JobService},
    catalog::Catalog,
    job::{JobId, JobIdPrefix, Time},
    operations::{OperationError, Operations},
    store::StoreError,
};

use self::{
    caller::Caller,
    growth::OutputWatchers,
    status::{Refusal, ResumeAt},
    streams::Streams,
    turns::Turns,
};
pub use self::{
    follow::Follow,
    intake::{Held, Intake, SMALL_REQUEST_BYTES_MAX},
    limits::Limits,
    unread::{Reader, Unread, Weight},
};

/// How often a job that is being removed is looked at by those who wait for it.
const DELETE_CHECK: Duration = Duration::from_millis(10);
/// When to try again after the queue was full.
const QUEUE_RETRY: Duration = Duration::from_secs(1);

/// The most jobs that all calls of `WaitMany` wait for together, and those of one principal.
const WAITED_FOR_MAX: u64 = 1_000_000;
const WAITED_FOR_PER_PRINCIPAL_MAX: u64 = 100_000;

/// The header of a watch's answer that tells where it begins, and the trailer of one that the
/// service ends.
const RESUME_TOKEN_HEADER: &str = "jobwarden-resume-token";

/// The service: what every call shares.
#[derive(Clone)]
pub struct JobApi(Arc<Shared>);

struct Shared {
    operations: Arc<Operations>,
    follow: Arc<Follow>,
    limits: Limits,
    start_time: Time,
    streams: Arc<Streams>,
    logs: Arc<Streams>,
    stream_bytes: Arc<Unread>,
    output_watchers: Arc<OutputWatchers>,
    audit: Arc<Audit>,
    turns: Turns,
    waits: Arc<Streams>,
    draining: signal::Receiver<bool>,
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl JobApi {
    /// The service on these parts. Open calls end themselves once `draining` becomes true.
    pub fn new(
        operations: Arc<Operations>,
        follow: Arc<Follow>,
        limits: Limits,
        start_time: Time,
        audit: Arc<Audit>,
        draining: signal::Receiver<bool>,
    ) -> Self {
        let streams = Streams::new("streams", limits.streams_max, limits.streams_per_principal_max);
        let logs =
            Streams::new("streams that read logs", limits.logs_max, limits.logs_max.div_ceil(2));
        let output_watchers = Arc::default();
        Self(Arc::new(Shared {
            operations,
            follow,
            limits,
            start_time,
            streams,
            logs,
            stream_bytes: Unread::of_streams(),
            output_watchers,
            audit,
            turns: Turns::default(),
            waits: Streams::new("jobs waited for", WAITED_FOR_MAX, WAITED_FOR_PER_PRINCIPAL_MAX),
            draining,
        }))
    }

    /// How many streams are open.
    pub fn open_streams(&self) -> u64 {
        self.0.streams.count()
    }

    fn catalog(&self) -> &Arc<Catalog> {
        self.0.operations.catalog()
    }

    /// Runs what may block on a thread that may. It runs to its end even if the caller leaves.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Operations) -> Result<T, OperationError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let api = self.clone();
        let span = tracing::Span::current();
        let turn = turns::turn().await;
        let working = move || {
            let _turn = turn;
            let _span = span.entered();
            // There, since a refusal may look at the job again.
            work(&api.0.operations).map_err(|error| api.refusal(doing, error))
        };
        // If it panicked, the panic itself is in the log.
        let done = tokio::task::spawn_blocking(working).await;
        done.unwrap_or(Err(Refusal::Internal { doing }))
    }

    /// What a caller is told of an error of the operations. May block.
    fn refusal(&self, doing: &'static str, error: OperationError) -> Refusal {
        match error {
            OperationError::Invalid(violations) => Refusal::BadRequest(violations),
            OperationError::RequestIdReused(id) => {
                Refusal::RequestIdReused { request_id: String::new(), id }
            }
            OperationError::QueueFull => {
                let limit = self.0.limits.queued_max;
                Refusal::QueueFull { limit, retry_after: QUEUE_RETRY }
            }
            OperationError::Quota { principal, setting, limit, retry_after } => {
                Refusal::Quota { principal, setting, limit, retry_after }
            }
            OperationError::Draining => Refusal::Draining { resume_at: ResumeAt::Unknown },
            OperationError::NotStarted(id) => Refusal::NotStarted { id },
            OperationError::Ended(id) => match self.catalog().get(id) {
                Ok(job) if job.state.is_ended() => Refusal::Ended { id, state: job.state.kind() },
                Ok(_) => Refusal::Stopping { id },
                Err(_) => Refusal::NotFound { id: id.to_string() },
            },
            OperationError::Active(id) => Refusal::Active { id },
            OperationError::MissingSecrets { id, keys } => Refusal::MissingSecrets { id, keys },
            OperationError::NoAnswer(_) => {
                Refusal::Unavailable { what: "the supervisor of the job" }
            }
            OperationError::Store(error) => self.store_refusal(doing, error),
            OperationError::System { action, source } => {
                tracing::error!(doing, action, error = %source, "the operating system failed");
                Refusal::Internal { doing }
            }
        }
    }

    fn store_refusal(&self, doing: &'static str, error: StoreError) -> Refusal {
        if error.is_disk_full() {
            tracing::warn!(doing, %error, "the disk is full");
            return Refusal::DiskFull;
        }
        match error {
            StoreError::Missing(id) => Refusal::NotFound { id },
            StoreError::Corrupt { path, why } => {
                let root = self.catalog().store().layout().root();
                let file = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                let mut parts = path.iter().filter_map(|part| part.to_str());
                let id = parts.rfind(|part| part.parse::<JobId>().is_ok());
                Refusal::RecordCorrupt { id: id.unwrap_or_default().to_owned(), file, why }
            }
            error @ (StoreError::Io { .. }
            | StoreError::InUse { .. }
            | StoreError::Version { .. }
            | StoreError::Exposed { .. }
            | StoreError::NotAStore { .. }) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(doing, %error, cause, "the store failed");
                Refusal::Unavailable { what: "the store" }
            }
        }
    }

    /// Whether the service drains.
    fn is_draining(&self) -> bool {
        *self.0.draining.borrow()
    }

    /// Returns once the service drains.
    async fn drained(&self) {
        let mut draining = self.0.draining.clone();
        // A sender that is gone means that the service is.
        let _ = draining.wait_for(|is_draining| *is_draining).await;
    }

    /// For a job that has ended: whether it has been removed by the time that this returns, which
    /// is at once unless it is just being removed.
    async fn is_removed(&self, id: JobId) -> bool {
        while self.catalog().is_deleting(id) {
            tokio::time::sleep(DELETE_CHECK).await;
        }
        // Also if the removal was over before anybody looked.
        matches!(self.job(id).await, Err(Refusal::NotFound { .. }))
    }

    /// Answers one call in a span of its own, if its caller may make it.
    async fn answer<T, F: Future<Output = Result<T, Refusal>>>(
        &self,
        caller: Result<Caller, Refusal>,
        call: Call,
        job: &str,
        work: impl FnOnce(Caller) -> F,
    ) -> Result<Response<T>, Status> {
        let span = tracing::info_span!("rpc", rpc = call.name(), job = tracing::field::Empty);
        // What is no id may be anything, and has no place in a log.
        if job.parse::<JobIdPrefix>().is_ok() {
            span.record("job", job);
        }
        async {
            let answer = match caller {
                Ok(caller) => {
                    let principal = caller.principal().to_owned();
                    let work = self.audited(caller, call, job, work);
                    self.0.turns.scope(&principal, work).await
                }
                Err(refusal) => Err(refusal),
            };
            match answer {
                Ok(reply) => {
                    tracing::debug!("answered");
                    Ok(Response::new(reply))
                }
                Err(refusal) => {
                    tracing::debug!(reason = refusal.reason(), "refused");
                    Err(refusal.into())
                }
            }
        }
        .instrument(span)
        .await
    }
}

/// The job that a call means which takes whole ids only.
fn named_job(text: &str) -> Result<JobId, Refusal> {
    match convert::job_id("job_id", text) {
        Ok(id) => Ok(id),
        // The beginning of an id may well be one of ours: the whole is needed, and that is said.
        Err(_) if is_unknown_id(text) && text.parse::<JobIdPrefix>().is_err() => {
            Err(Refusal::NotFound { id: text.to_owned() })
        }
        Err(malformed) => Err(malformed.into()),
    }
}

/// Whether a text looks like an id to somebody who does not know how ours are made: then it is
/// the id of no job rather than a fault of the request.
fn is_unknown_id(text: &str) -> bool {
    const LOOKS_LIKE_AN_ID: std::ops::RangeInclusive<usize> = 4..=26;
    let is_plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    LOOKS_LIKE_AN_ID.contains(&text.len()) && text.bytes().all(is_plain)
}

macro_rules! calls {
    ($($rpc:ident $call:ident $request:ident $response:ident $job:expr;)*) => {
        #[tonic::async_trait]
        impl JobService for JobApi {
            type WatchEventsStream = BoxStream<api::WatchEventsResponse>;
            type TailLogStream = BoxStream<api::TailLogResponse>;

            $(async fn $rpc(
                &self,
                request: Request<api::$request>,
            ) -> Result<Response<api::$response>, Status> {
                let job: fn(&api::$request) -> String = $job;
                let job = job(request.get_ref());
                let caller = Caller::of(&request, Call::$call);
                self.answer(caller, Call::$call, &job, |caller| self.$rpc(caller, request)).await
            })*

            async fn watch_events(
                &self,
                request: Request<api::WatchEventsRequest>,
            ) -> Result<Response<Self::WatchEventsStream>, Status> {
                let caller = Caller::of(&request, Call::WatchEvents);
                let watch = |caller| self.watch_events(caller, request);
                let answer = self.answer(caller, Call::WatchEvents, "", watch).await?;
                let (stream, token) = answer.into_inner();
                let mut response = Response::new(stream);
                // Who is cut off before the first message goes on from here. Tokens are ASCII.
                if let Ok(token) = token.parse() {
                    response.metadata_mut().insert(RESUME_TOKEN_HEADER, token);
                }
                Ok(response)
            }

            async fn tail_log(
                &self,
                request: Request<api::TailLogRequest>,
            ) -> Result<Response<Self::TailLogStream>, Status> {
                let job = request.get_ref().job_id.clone();
                let caller = Caller::of(&request, Call::TailLog);
                let tail = |caller| self.tail_log(caller, request);
                self.answer(caller, Call::TailLog, &job, tail).await
            }
        }
    };
}

calls! {
    exec Exec ExecRequest ExecResponse |_| String::new();
    status Status StatusRequest StatusResponse |request| request.job_id.clone();
    list List ListRequest ListResponse |_| String::new();
    wait Wait WaitRequest WaitResponse |request| request.job_id.clone();
    wait_many WaitMany WaitManyRequest WaitManyResponse |_| String::new();
    kill Kill KillRequest KillResponse |request| request.job_id.clone();
    cancel Cancel CancelRequest CancelResponse |request| request.job_id.clone();
    delete Delete DeleteRequest DeleteResponse |request| request.job_id.clone();
    rerun Rerun RerunRequest RerunResponse |request| request.job_id.clone();
    update_labels UpdateLabels UpdateLabelsRequest UpdateLabelsResponse
        |request| request.job_id.clone();
    update_timeout UpdateTimeout UpdateTimeoutRequest UpdateTimeoutResponse
        |request| request.job_id.clone();
    get_server_info GetServerInfo GetServerInfoRequest GetServerInfoResponse |_| String::new();
}
