//! What the command line says and which code it exits with when something goes wrong.

use std::io::{self, Write};

use tonic::Code;

use crate::client::{Endpoint, Error, Refusal};

use super::{credentials, output::escaped};

/// The exit codes, after sysexits.h where there is one.
pub(super) const DONE: u8 = 0;
pub(super) const USAGE: u8 = 2;
pub(super) const NO_SUCH_JOB: u8 = 66;
pub(super) const UNAVAILABLE: u8 = 69;
pub(super) const INTERNAL: u8 = 70;
pub(super) const TRY_AGAIN: u8 = 75;
pub(super) const NOT_PERMITTED: u8 = 77;
/// What a shell reports for a process that died of SIGINT or SIGPIPE.
pub(super) const INTERRUPTED: u8 = 130;
pub(super) const PIPE_CLOSED: u8 = 141;

/// Why a command did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The exit code.
    pub(super) exit: u8,
    /// What went wrong; empty for an end that needs no words.
    pub(super) text: String,
    /// One line each: the fields that are wrong, the causes behind the error.
    pub(super) details: Vec<String>,
    /// What to do next.
    pub(super) hint: Option<String>,
}

impl Failure {
    pub(super) fn new(exit: u8, text: impl Into<String>) -> Failure {
        Failure { exit, text: text.into(), details: Vec::new(), hint: None }
    }

    pub(super) fn usage(text: impl Into<String>) -> Failure {
        Failure::new(USAGE, text)
    }

    pub(super) fn internal(text: impl Into<String>) -> Failure {
        Failure::new(INTERNAL, text)
    }

    /// Ends with `exit` and says nothing.
    pub(super) fn silent(exit: u8) -> Failure {
        Failure::new(exit, "")
    }

    #[must_use]
    pub(super) fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    #[must_use]
    pub(super) fn detail(mut self, detail: impl Into<String>) -> Failure {
        self.details.push(detail.into());
        self
    }

    /// Says which job it was about, where several were named.
    #[must_use]
    pub(super) fn about(mut self, job_id: &str) -> Failure {
        if !self.text.is_empty() && !self.text.contains(job_id) {
            self.text = format!("{job_id}: {}", self.text);
        }
        self
    }

    /// Writes the failure for people. What came from elsewhere is escaped.
    pub(super) fn print(&self, out: &mut impl Write) {
        if self.text.is_empty() {
            return;
        }
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(out, "error: {}", escaped(&self.text));
        for detail in &self.details {
            let _ = writeln!(out, "  {}", escaped(detail));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "hint: {}", escaped(hint));
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match &error {
            Error::BadEndpoint { text } => Failure::usage(format!(
                "{text:?} is not an address of a service"
            ))
            .hint("give unix:PATH, HOST:PORT or https://HOST:PORT, for example unix:/run/j.sock"),
            Error::Credentials(error) => credentials::from(error),
            Error::Tls { fault, source, .. } => {
                credentials::from_tls(error.to_string(), *fault, source.to_string())
            }
            Error::Unreachable { endpoint, .. } => {
                let failure = with_causes(Failure::new(UNAVAILABLE, error.to_string()), &error);
                if error.io_kind() == Some(io::ErrorKind::PermissionDenied) {
                    return Failure { exit: NOT_PERMITTED, ..failure }
                        .hint("the socket belongs to another user; only that user may use it");
                }
                let listen = match endpoint {
                    Endpoint::Unix(_) | Endpoint::Tcp(_) => endpoint.to_string(),
                    Endpoint::Tls(address) => {
                        format!("{address} --tls-cert FILE --tls-key FILE")
                    }
                };
                failure.hint(format!(
                    "start one with `jobwarden serve --listen {listen}`, or correct --endpoint or \
                     JOBWARDEN_ENDPOINT"
                ))
            }
            Error::Interrupted { .. } => {
                with_causes(Failure::new(UNAVAILABLE, error.to_string()), &error)
                    .hint("jobs go on without the service; try again when it is back")
            }
            Error::Refused(refusal) => from_refusal(refusal),
        }
    }
}

impl From<io::Error> for Failure {
    /// Of an error in writing results.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::silent(PIPE_CLOSED),
            _ => Failure::internal(format!("cannot write to standard output: {error}")),
        }
    }
}

fn from_refusal(refusal: &Refusal) -> Failure {
    let exit = match refusal.code {
        Code::NotFound => NO_SUCH_JOB,
        Code::PermissionDenied | Code::Unauthenticated => NOT_PERMITTED,
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::DeadlineExceeded
        | Code::Cancelled => TRY_AGAIN,
        Code::InvalidArgument
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange => USAGE,
        Code::Unimplemented => UNAVAILABLE,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => INTERNAL,
    };
    let message = match refusal.message.as_str() {
        "" => format!("the service answered {:?}", refusal.code),
        message => message.to_owned(),
    };
    let mut failure = Failure::new(exit, message);
    for fault in &refusal.field_faults {
        failure = failure.detail(format!("{}: {}", fault.field, fault.description));
    }
    match hint_for(refusal) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn hint_for(refusal: &Refusal) -> Option<String> {
    let hint = match refusal.reason.as_str() {
        "JOB_NOT_FOUND" => {
            "`jobwarden list` shows the jobs; status, wait and logs take the beginning of an id, \
             other commands the whole"
        }
        "AMBIGUOUS_JOB_ID" => "give more of the id",
        "REQUEST_ID_REUSED" => "use another --request-id, or the same command and flags",
        "JOB_NOT_STARTED" => "it still waits in the queue; `jobwarden cancel` takes it out",
        "JOB_ENDED" => "`jobwarden status` shows how it ended",
        "JOB_ACTIVE" => "`jobwarden cancel` it first, or delete it with --force",
        "DISK_FULL" => "free some space where the service keeps its task directory",
        "TOKEN_EXPIRED" => "watch again without --token",
        "TOKEN_FOREIGN" => "the token is from another service; watch again without --token",
        "OFFSET_BEYOND_END" => "the output has ended before that offset",
        "NOT_OWNER" => "ask as the user who owns the job, or with a token of the role operator",
        "RECORD_CORRUPT" => "the service's log names the file; see docs/STORAGE.md",
        "UNSUPPORTED" => "this version of the service cannot do that; leave it out",
        "QUEUE_FULL" | "DRAINING" => return Some(retry_hint(refusal)),
        _ if refusal.code == Code::Unauthenticated => {
            "give a token with --token-file FILE or JOBWARDEN_TOKEN; where the service runs, \
             `jobwarden token create --name NAME --role ROLE` makes one. Over a unix socket, \
             without a token, you are taken for your user"
        }
        _ if refusal.code == Code::PermissionDenied => {
            "use a token of a role that may do this; where the service runs, \
             `jobwarden token create --name NAME --role ROLE` makes one"
        }
        _ if refusal.code == Code::Unimplemented => "the service is older than this command",
        _ if refusal.retry_after.is_some() => return Some(retry_hint(refusal)),
        _ => return None,
    };
    Some(hint.to_owned())
}

fn retry_hint(refusal: &Refusal) -> String {
    match refusal.retry_after {
        Some(after) => format!("try again in {}", humantime::format_duration(after)),
        None => "try again in a moment".to_owned(),
    }
}

fn with_causes(mut failure: Failure, error: &dyn std::error::Error) -> Failure {
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Wrappers repeat each other, and the outermost says nothing but that it is one.
        if !failure.details.contains(&text) && !text.is_empty() && text != "transport error" {
            failure.details.push(text);
        }
        cause = error.source();
    }
    failure
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn refused(code: Code, reason: &str) -> Failure {
        let mut details = ErrorDetails::new();
        details
            .set_error_info(reason, "jobwarden.v1", [("k".to_owned(), "v".to_owned())])
            .add_bad_request_violation("spec.argv", "must not be\u{1b}[2J empty");
        Failure::from(Error::from(tonic::Status::with_error_details(code, "no", details)))
    }

    #[test]
    fn each_kind_of_refusal_has_its_exit_code() {
        for (code, reason, exit) in [
            (Code::NotFound, "JOB_NOT_FOUND", 66),
            (Code::PermissionDenied, "NOT_OWNER", 77),
            (Code::Unauthenticated, "UNAUTHENTICATED", 77),
            (Code::ResourceExhausted, "QUEUE_FULL", 75),
            (Code::Unavailable, "DRAINING", 75),
            (Code::Unavailable, "DISK_FULL", 75),
            (Code::InvalidArgument, "INVALID_SPEC", 2),
            (Code::FailedPrecondition, "JOB_ACTIVE", 2),
            (Code::AlreadyExists, "REQUEST_ID_REUSED", 2),
            (Code::Internal, "", 70),
            (Code::DataLoss, "RECORD_CORRUPT", 70),
            (Code::Unimplemented, "", 69),
        ] {
            assert_eq!(refused(code, reason).exit, exit, "{code:?} {reason}");
        }
        assert_eq!(Failure::from(Error::from(tonic::Status::unavailable("gone"))).exit, 69);
    }

    #[test]
    fn a_failure_is_printed_with_its_fields_and_a_hint_and_without_control_characters() {
        let mut text = Vec::new();
        refused(Code::InvalidArgument, "UNSUPPORTED").print(&mut text);
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "error: no\n  spec.argv: must not be\\u{1b}[2J empty\nhint: this version of the \
             service cannot do that; leave it out\n"
        );
    }

    #[test]
    fn a_closed_pipe_ends_without_a_word() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        let mut text = Vec::new();
        failure.print(&mut text);
        assert_eq!((failure.exit, text.len()), (141, 0));
    }
}
