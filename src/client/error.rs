//! What can go wrong with a call, one variant for each thing a caller can do about it.

use std::{collections::BTreeMap, error, io, time::Duration};

use tonic::{Code, Status, transport};
use tonic_types::StatusExt as _;

use super::{CredentialError, Endpoint, TlsFault};

/// Why a call brought no answer, or not the one hoped for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be one. Correct it.
    #[error("{text:?} is not an address of a service")]
    BadEndpoint {
        /// What was given.
        text: String,
    },
    /// Nobody answers there. Start the service, or correct the address.
    #[error("no service answers at {endpoint}")]
    Unreachable {
        /// Where it was expected.
        endpoint: Endpoint,
        /// What the system said.
        source: transport::Error,
    },
    /// The credentials cannot be used. Correct them; nothing has been sent.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The two sides will not agree on TLS. Correct the certificates or the address.
    #[error("{fault} {endpoint}")]
    Tls {
        /// Where the service is.
        endpoint: Endpoint,
        /// Who has what against whom.
        fault: TlsFault,
        /// What the library says.
        source: tokio_rustls::rustls::Error,
    },
    /// The connection was lost: the call may have been carried out or not. Repeat what may be
    /// repeated.
    #[error("the connection to the service was lost")]
    Interrupted {
        /// What the connection said.
        source: Box<Status>,
    },
    /// The service answered that it will not, and why.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
}

/// The service's answer to a call that it will not carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of refusal.
    pub code: Code,
    /// The service's sentence about it.
    pub message: String,
    /// The reason of the contract, for example `QUEUE_FULL`; empty if there is none.
    pub reason: String,
    /// What belongs to the reason, for example the oldest token.
    pub metadata: BTreeMap<String, String>,
    /// The fields of the request that are wrong.
    pub field_faults: Vec<FieldFault>,
    /// When the call is worth repeating.
    pub retry_after: Option<Duration>,
}

/// One field of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// The path of the field, for example `spec.argv[0]`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl Error {
    /// Whether the service is away for a while, so that the same call may go well later.
    pub fn is_passing(&self) -> bool {
        match self {
            Error::BadEndpoint { .. } | Error::Credentials(_) | Error::Tls { .. } => false,
            Error::Unreachable { .. } | Error::Interrupted { .. } => true,
            Error::Refused(refusal) => refusal.reason == "DRAINING",
        }
    }

    /// The service's answer, if it gave one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Error::Refused(refusal) => Some(refusal),
            Error::BadEndpoint { .. }
            | Error::Credentials(_)
            | Error::Tls { .. }
            | Error::Unreachable { .. }
            | Error::Interrupted { .. } => None,
        }
    }

    /// Whether the service does not know who we are, or not any more: a call that had begun is
    /// cut off when its token is revoked.
    pub fn is_unauthenticated(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.code == Code::Unauthenticated)
    }

    /// When the service says that the call is worth repeating.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal()?.retry_after
    }

    /// What the system said about the connection, if that was the fault.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        let mut cause: Option<&(dyn error::Error + 'static)> = error::Error::source(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return Some(error.kind());
            }
            cause = error.source();
        }
        None
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        let info = status.get_details_error_info();
        // What the service itself says has no cause on our side, and a reason.
        let is_local = error::Error::source(&status).is_some();
        // The service gives a reason with everything that it refuses. `Unknown` is what the
        // library makes of a connection that broke before the call was sent.
        let is_away = matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown);
        if is_local || (is_away && info.is_none()) {
            return Error::Interrupted { source: Box::new(status) };
        }
        let violations = status.get_details_bad_request().map(|it| it.field_violations);
        let preconditions = status.get_details_precondition_failure().map(|it| it.violations);
        let field_faults = violations
            .unwrap_or_default()
            .into_iter()
            .map(|it| FieldFault { field: it.field, description: it.description })
            .chain(
                preconditions
                    .unwrap_or_default()
                    .into_iter()
                    .map(|it| FieldFault { field: it.subject, description: it.description }),
            )
            .collect();
        let (reason, metadata) = info.map(|info| (info.reason, info.metadata)).unwrap_or_default();
        Error::Refused(Box::new(Refusal {
            code: status.code(),
            message: status.message().to_owned(),
            reason,
            metadata: metadata.into_iter().collect(),
            field_faults,
            retry_after: status.get_details_retry_info().and_then(|retry| retry.retry_delay),
        }))
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    #[test]
    fn a_refusal_keeps_its_reason_and_its_fields() {
        let mut details = ErrorDetails::new();
        details
            .set_error_info("INVALID_SPEC", "jobwarden.v1", [("a".to_owned(), "b".to_owned())])
            .add_bad_request_violation("spec.argv", "must not be empty")
            .set_retry_info(Some(Duration::from_secs(3)));
        let status =
            Status::with_error_details(Code::InvalidArgument, "the spec is wrong", details);
        let error = Error::from(status);
        let refusal = error.refusal().unwrap();
        assert_eq!(refusal.reason, "INVALID_SPEC");
        assert_eq!(refusal.metadata["a"], "b");
        assert_eq!(refusal.field_faults[0].field, "spec.argv");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(error.to_string(), "the spec is wrong");
        assert!(!error.is_passing());
    }

    #[test]
    fn a_lost_connection_is_told_from_an_answer() {
        let lost = [
            Status::unavailable("x"),
            Status::cancelled("operation was canceled"),
            Status::unknown("Service was not ready: transport error"),
        ];
        for status in lost {
            assert!(matches!(Error::from(status), Error::Interrupted { .. }));
        }
        let io = io::Error::from(io::ErrorKind::BrokenPipe);
        let broken = Status::from_error(Box::new(io));
        let broken = Error::from(broken);
        assert!(matches!(broken, Error::Interrupted { .. }));
        assert_eq!(broken.io_kind(), Some(io::ErrorKind::BrokenPipe));
        let mut details = ErrorDetails::new();
        details.set_error_info("DRAINING", "jobwarden.v1", [("k".to_owned(), "v".to_owned())]);
        let draining = Status::with_error_details(Code::Unavailable, "draining", details);
        let draining = Error::from(draining);
        assert!(matches!(draining, Error::Refused(_)) && draining.is_passing());
        assert!(!Error::from(Status::internal("bug")).is_passing());
    }
}
