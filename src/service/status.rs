//! Every error that a client can see, with its code, reason and details.
//!
//! Nothing else in the service makes a status. No text here comes from a command, an
//! environment or an output; what went wrong inside the service is for its log only.
//!
//! Reasons are those of the contract and four more, for what none of them fits:
//! `TOO_MANY_STREAMS`, `QUOTA_EXCEEDED`, `UNAVAILABLE` and `INTERNAL`. `INVALID_SPEC` stands for any malformed
//! request, job ids included. A request with several faults is `UNSUPPORTED` only if nothing
//! else is wrong with it, since a caller that waits for a newer server would wait in vain.

mod details;

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    access::{Call, Denied, Role},
    job::{JobId, StateKind, Violation},
};

/// The domain of every reason.
pub const DOMAIN: &str = "jobwarden.v1";
/// The most candidates that are named for an ambiguous prefix.
pub const CANDIDATES_MAX: usize = 20;
/// The most bytes of a message; it travels in a header, in the details as well.
const MESSAGE_BYTES_MAX: usize = 700;

/// Where a stream that the service ends can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumeAt {
    /// Nothing has been sent, or it is no stream.
    Unknown,
    /// A watch goes on with this token.
    Token(String),
    /// A log goes on at these offsets, standard output first.
    Offsets([u64; 2]),
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such job.
    #[error("no job has the id {id}; List shows the jobs that there are")]
    NotFound {
        /// The id or prefix as given, known to be well-formed.
        id: String,
    },
    /// Several jobs have ids that begin so.
    #[error("{}", details::ambiguous(prefix, candidates))]
    Ambiguous {
        /// The prefix as given.
        prefix: String,
        /// Some of the jobs, at most `CANDIDATES_MAX` are named.
        candidates: Vec<JobId>,
    },
    /// The request itself is wrong.
    #[error("{}", details::bad_request(_0))]
    BadRequest(Vec<Violation>),
    /// The request id belongs to a job with another spec.
    #[error("request_id {request_id} belongs to job {id} with another spec; choose a new one")]
    RequestIdReused {
        /// The request id.
        request_id: String,
        /// The job that has it.
        id: JobId,
    },
    /// The job waits in the queue.
    #[error("job {id} has not started; wait until it has, or call Cancel")]
    NotStarted {
        /// The job.
        id: JobId,
    },
    /// The job has ended.
    #[error("job {id} has ended as {}; nothing about its run can change any more", state.name())]
    Ended {
        /// The job.
        id: JobId,
        /// The terminal state.
        state: StateKind,
    },
    /// The job is being stopped.
    #[error("job {id} is being stopped; its time limit cannot change any more")]
    Stopping {
        /// The job.
        id: JobId,
    },
    /// The job has not ended.
    #[error("job {id} has not ended; wait for its end, call Cancel, or set force")]
    Active {
        /// The job.
        id: JobId,
    },
    /// The queue is full.
    #[error("the queue is full with {limit} jobs; try again later")]
    QueueFull {
        /// The most jobs that may wait.
        limit: u64,
        /// When to try again.
        retry_after: Duration,
    },
    /// The store's disk is full.
    #[error("the disk of the store is full; free space on the server, then try again")]
    DiskFull,
    /// The service shuts down.
    #[error("the service is shutting down; call again once it is back")]
    Draining {
        /// Where the stream that this ends can go on.
        resume_at: ResumeAt,
    },
    /// The history behind the token is gone.
    #[error("the history of this resume_token is gone; watch again without it for a snapshot")]
    TokenExpired {
        /// The oldest token that is still good.
        oldest: String,
    },
    /// The token is of another store.
    #[error("this resume_token comes from another store; watch again without it")]
    TokenForeign,
    /// The output is complete and ends before the offset.
    #[error(
        "offset {offset} lies beyond the end of {stream}, which is complete at {size} bytes; \
         start there or before"
    )]
    OffsetBeyondEnd {
        /// `stdout` or `stderr`.
        stream: &'static str,
        /// The offset that was asked for.
        offset: u64,
        /// The size of the stream.
        size: u64,
    },
    /// The folder of the job cannot be read.
    #[error("the record of job {id} cannot be read; repair or remove {file} on the server: {why}")]
    RecordCorrupt {
        /// The name of the folder.
        id: String,
        /// The file, relative to the root of the store.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// A spec that had secrets needs them again.
    #[error("{}", details::missing_secrets(*id, keys))]
    MissingSecrets {
        /// The job to run again.
        id: JobId,
        /// The names without a value.
        keys: Vec<String>,
    },
    /// Too many streams are open.
    #[error("{}", details::too_many_streams(what, *limit, *of_principal))]
    TooManyStreams {
        /// Which, for example `streams`.
        what: &'static str,
        /// The most streams.
        limit: u64,
        /// Whether they are the caller's own.
        of_principal: bool,
    },
    /// Too many requests are under way, or too large ones.
    #[error("{}", details::too_much_under_way(bound, *limit, *of_principal))]
    TooMuchUnderWay {
        /// What there is too much of, for example `open_requests`.
        bound: &'static str,
        /// The most of it.
        limit: u64,
        /// Whether it is the caller's own share.
        of_principal: bool,
    },
    /// The jobs that were asked for make too many bytes.
    #[error("the jobs of the answer are more than {limit} bytes; ask for fewer at once")]
    AnswerTooLarge {
        /// The most bytes.
        limit: usize,
    },
    /// The request has not come whole in its time.
    #[error(
        "the request was not whole within {} s and another for each {} bytes of it that came; \
         nothing was done; send it again",
        grace.as_secs(),
        bytes_per_second
    )]
    TooSlow {
        /// How long every request may take.
        grace: Duration,
        /// What must come in each second beyond that.
        bytes_per_second: u64,
    },
    /// Nobody knows who calls.
    #[error("{0}")]
    Unauthenticated(Denied),
    /// The role of the caller does not reach to this call.
    #[error(
        "{principal} is a {role} and may not call {}; that takes the role {} or a higher one",
        call.name(),
        Role::least_for(*call)
    )]
    RoleRequired {
        /// Who calls.
        principal: String,
        /// What it is.
        role: Role,
        /// What it called.
        call: Call,
    },
    /// The job is another principal's, which the caller may see and not touch.
    #[error("job {id} belongs to another principal; only it or an admin may call {}", call.name())]
    NotOwner {
        /// The job.
        id: JobId,
        /// What was called.
        call: Call,
    },
    /// The principal has used up what it may have.
    #[error("{principal} has reached {setting} = {limit} of this server; try again later")]
    Quota {
        /// Whose share it is.
        principal: String,
        /// The setting that limits it.
        setting: &'static str,
        /// The most of it.
        limit: u64,
        /// When to try again.
        retry_after: Duration,
    },
    /// Something that the call needs is away for now.
    #[error("{what} is not available now; try again shortly")]
    Unavailable {
        /// What, for example `the launcher`.
        what: &'static str,
    },
    /// This server cannot do it yet.
    #[error("{what} is not supported by this server")]
    Unimplemented {
        /// What, for example `WatchEvents`.
        what: &'static str,
    },
    /// A fault of the service itself.
    #[error("the service met a fault of its own while {doing}; its log on the server says more")]
    Internal {
        /// What it was doing; the cause belongs in the log.
        doing: &'static str,
    },
}

impl Refusal {
    /// The status code.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::NotFound,
            Self::Ambiguous { .. } | Self::BadRequest(_) | Self::TokenForeign => {
                Code::InvalidArgument
            }
            Self::RequestIdReused { .. } => Code::AlreadyExists,
            Self::NotStarted { .. }
            | Self::Ended { .. }
            | Self::Stopping { .. }
            | Self::Active { .. }
            | Self::MissingSecrets { .. } => Code::FailedPrecondition,
            Self::QueueFull { .. }
            | Self::TooManyStreams { .. }
            | Self::TooMuchUnderWay { .. }
            | Self::AnswerTooLarge { .. }
            | Self::Quota { .. } => Code::ResourceExhausted,
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::RoleRequired { .. } | Self::NotOwner { .. } => Code::PermissionDenied,
            Self::DiskFull
            | Self::Draining { .. }
            | Self::TooSlow { .. }
            | Self::Unavailable { .. } => Code::Unavailable,
            Self::TokenExpired { .. } | Self::OffsetBeyondEnd { .. } => Code::OutOfRange,
            Self::RecordCorrupt { .. } => Code::DataLoss,
            Self::Unimplemented { .. } => Code::Unimplemented,
            Self::Internal { .. } => Code::Internal,
        }
    }

    /// The reason in the `ErrorInfo`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "JOB_NOT_FOUND",
            Self::Ambiguous { .. } => "AMBIGUOUS_JOB_ID",
            Self::BadRequest(violations) if details::is_unsupported(violations) => "UNSUPPORTED",
            Self::BadRequest(_) | Self::MissingSecrets { .. } => "INVALID_SPEC",
            Self::RequestIdReused { .. } => "REQUEST_ID_REUSED",
            Self::NotStarted { .. } => "JOB_NOT_STARTED",
            Self::Ended { .. } | Self::Stopping { .. } => "JOB_ENDED",
            Self::Active { .. } => "JOB_ACTIVE",
            Self::QueueFull { .. } => "QUEUE_FULL",
            Self::DiskFull => "DISK_FULL",
            Self::Draining { .. } => "DRAINING",
            Self::TokenExpired { .. } => "TOKEN_EXPIRED",
            Self::TokenForeign => "TOKEN_FOREIGN",
            Self::OffsetBeyondEnd { .. } => "OFFSET_BEYOND_END",
            Self::RecordCorrupt { .. } => "RECORD_CORRUPT",
            Self::TooManyStreams { .. } => "TOO_MANY_STREAMS",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::RoleRequired { .. } => "ROLE_REQUIRED",
            Self::NotOwner { .. } => "NOT_OWNER",
            Self::Quota { .. } | Self::TooMuchUnderWay { .. } | Self::AnswerTooLarge { .. } => {
                "QUOTA_EXCEEDED"
            }
            Self::TooSlow { .. } | Self::Unavailable { .. } => "UNAVAILABLE",
            Self::Unimplemented { .. } => "UNSUPPORTED",
            Self::Internal { .. } => "INTERNAL",
        }
    }
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Self::BadRequest(vec![violation])
    }
}

impl From<Vec<Violation>> for Refusal {
    fn from(violations: Vec<Violation>) -> Self {
        Self::BadRequest(violations)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let message = details::cut(&refusal.to_string(), MESSAGE_BYTES_MAX);
        let (details, trailer) = (details::details(&refusal), details::trailer(&refusal));
        Self::with_error_details_and_metadata(refusal.code(), message, details, trailer)
    }
}

#[cfg(test)]
mod tests;
