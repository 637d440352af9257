//! Errors of the service, taken apart.

use std::{collections::HashMap, fmt::Debug, time::Duration};

use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

/// What every error of the service must have.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) metadata: HashMap<String, String>,
    /// The paths of the fields that are at fault, in order.
    pub(crate) fields: Vec<String>,
    pub(crate) retry_after: Option<Duration>,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Refused {
        let info = status.get_details_error_info();
        let info = info.unwrap_or_else(|| panic!("an error without ErrorInfo: {status:?}"));
        assert_eq!(info.domain, "jobwarden.v1", "{status:?}");
        assert!(!status.message().is_empty(), "{status:?}");
        let violations = status.get_details_bad_request().map(|found| found.field_violations);
        let preconditions = status.get_details_precondition_failure().map(|found| found.violations);
        let fields = violations.unwrap_or_default().into_iter().map(|found| found.field);
        let subjects = preconditions.unwrap_or_default().into_iter().map(|found| found.subject);
        Refused {
            code: status.code(),
            reason: info.reason,
            message: status.message().to_owned(),
            metadata: info.metadata,
            fields: fields.chain(subjects).collect(),
            retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
        }
    }
}

impl Refused {
    /// Code and reason, to be compared at once.
    pub(crate) fn kind(&self) -> (Code, &str) {
        (self.code, &self.reason)
    }
}

/// The error that a call must have brought.
pub(crate) fn refused<T: Debug>(result: Result<Response<T>, Status>) -> Refused {
    match result {
        Err(status) => status.into(),
        Ok(reply) => panic!("not refused: {:?}", reply.into_inner()),
    }
}
