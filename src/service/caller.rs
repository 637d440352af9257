//! Who calls, from where, and how long the caller waits.

use std::time::Duration;

use tonic::Request;

use crate::{
    access::{Peer, Place},
    job::Actor,
    operations::Asked,
};

/// The principal of a caller that did not say who it is: one on TCP.
const ANONYMOUS: &str = "anonymous";

/// The caller of one RPC.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    principal: String,
    peer: String,
}

impl Caller {
    /// The caller of a request, by the connection it came on.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let Some(Peer { place, admission }) = request.extensions().get::<Peer>() else {
            return Self { principal: ANONYMOUS.to_owned(), peer: String::new() };
        };
        admission.admit();
        let principal = match place {
            Place::Unix { uid, .. } => format!("uid:{uid}"),
            Place::Tcp { .. } => ANONYMOUS.to_owned(),
        };
        Self { principal, peer: place.to_string() }
    }

    /// Who calls.
    pub(super) fn principal(&self) -> &str {
        &self.principal
    }

    /// The caller as it is recorded with what it asks for.
    pub(super) fn actor(&self, request_id: &str) -> Actor {
        Actor {
            principal: self.principal.clone(),
            peer: self.peer.clone(),
            request_id: request_id.to_owned(),
        }
    }

    /// The caller as the owner of what it submits.
    pub(super) fn asked(&self, request_id: String) -> Asked {
        let request_id = Some(request_id).filter(|id| !id.is_empty());
        Asked { owner: self.principal.clone(), request_id }
    }
}

/// How long the caller waits for the answer, if it says so: the header `grpc-timeout`.
///
/// The library drops a handler at that moment and answers CANCELLED, so a handler that wants to
/// answer must know it.
pub(super) fn deadline<T>(request: &Request<T>) -> Option<Duration> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_of_a_call_is_read_in_every_unit() {
        let of = |text: &str| {
            let mut request = Request::new(());
            request.metadata_mut().insert("grpc-timeout", text.parse().unwrap());
            deadline(&request)
        };
        assert_eq!(of("2H"), Some(Duration::from_hours(2)));
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(of("7"), None);
        assert_eq!(of("m"), None);
        assert_eq!(deadline(&Request::new(())), None);
    }
}
