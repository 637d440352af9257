//! What the service and its launcher say to each other: one short line a message.
//!
//! The socket carries requests and hints only. What happened to a job stands in its folder.

use std::{fmt, str::FromStr};

use crate::job::JobId;

/// The most bytes of a message.
pub const MESSAGE_BYTES_MAX: usize = 128;

/// What the service asks of the launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start a supervisor for a queued job.
    Launch(JobId),
    /// Have a supervisor take the place of a job's dead one.
    Adopt(JobId),
    /// Hold what a job needs to be adopted: it has a supervisor that another launcher started.
    Keep(JobId),
}

/// What the launcher tells the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// No supervisor could be started, for this reason (an error number).
    Refused(JobId, i32),
    /// A process that was started for the job is gone: look at the folder.
    Gone(JobId),
}

/// A message that makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message of the launcher's socket")]
pub struct NotAMessage;

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launch(id) => write!(f, "launch {id}"),
            Self::Adopt(id) => write!(f, "adopt {id}"),
            Self::Keep(id) => write!(f, "keep {id}"),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(id, errno) => write!(f, "refused {id} {errno}"),
            Self::Gone(id) => write!(f, "gone {id}"),
        }
    }
}

impl FromStr for Request {
    type Err = NotAMessage;

    fn from_str(text: &str) -> Result<Self, NotAMessage> {
        match words(text)? {
            ("launch", id, None) => Ok(Self::Launch(id)),
            ("adopt", id, None) => Ok(Self::Adopt(id)),
            ("keep", id, None) => Ok(Self::Keep(id)),
            _ => Err(NotAMessage),
        }
    }
}

impl FromStr for Notice {
    type Err = NotAMessage;

    fn from_str(text: &str) -> Result<Self, NotAMessage> {
        match words(text)? {
            ("refused", id, Some(errno)) => {
                errno.parse().map(|errno| Self::Refused(id, errno)).map_err(|_| NotAMessage)
            }
            ("gone", id, None) => Ok(Self::Gone(id)),
            _ => Err(NotAMessage),
        }
    }
}

fn words(text: &str) -> Result<(&str, JobId, Option<&str>), NotAMessage> {
    let mut words = text.split(' ');
    let (Some(verb), Some(id)) = (words.next(), words.next()) else { return Err(NotAMessage) };
    let id = id.parse().map_err(|_| NotAMessage)?;
    let rest = words.next();
    if words.next().is_some() { Err(NotAMessage) } else { Ok((verb, id, rest)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_its_line() {
        let id = JobId::MAX;
        for request in [Request::Launch(id), Request::Adopt(id), Request::Keep(id)] {
            assert_eq!(request.to_string().parse(), Ok(request));
        }
        for notice in [Notice::Refused(id, 11), Notice::Gone(id)] {
            assert_eq!(notice.to_string().parse(), Ok(notice));
            assert!(notice.to_string().len() <= MESSAGE_BYTES_MAX);
        }
        for text in ["", "launch", "launch x", "launch 1 2 3", "jump 1"] {
            assert_eq!(text.parse::<Request>(), Err(NotAMessage));
        }
    }
}
