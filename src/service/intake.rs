//! How much there is of requests in memory: each counts from its headers until the service has let
//! go of it, for its principal and in all. One that waits for a job counts as a wait from then on,
//! so that those who wait keep nobody from calling.
//!
//! Small and large requests have bounds of their own, so large ones never keep out small ones. What
//! a principal has within its floor is let in whatever the others have.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::status::Refusal;

/// The largest message of a small request.
pub const SMALL_REQUEST_BYTES_MAX: u64 = 64 * 1024;
/// Requests of any size: each takes about 11 KiB beside its message, and what its headers take.
const REQUESTS: Bound =
    Bound { name: "open_requests", floor: 1024, own_max: 32_768, all_max: 65_536 };
/// Calls that wait for jobs.
const WAITS: Bound = Bound { name: "open_waits", ..REQUESTS };
/// Bytes of small requests.
const SMALL: Bound = Bound {
    name: "small_request_bytes",
    floor: 1024 * 1024,
    own_max: 64 * 1024 * 1024,
    all_max: 256 * 1024 * 1024,
};
/// The least that one principal may have of large requests.
const LARGE_BYTES_MAX_LEAST: u64 = 64 * 1024 * 1024;
/// So many of the largest requests fit at least, those of one principal.
const LARGEST_PER_PRINCIPAL: u64 = 4;
/// So many times what one principal may have of large requests may be there in all.
const PRINCIPALS_WITH_LARGE: u64 = 4;

/// How much there may be of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) name: &'static str,
    /// What one principal may have whatever the others have.
    pub(super) floor: u64,
    pub(super) own_max: u64,
    pub(super) all_max: u64,
}

impl Bound {
    pub(super) fn check(&self, own: u64, all: u64) -> Result<(), Refusal> {
        let (limit, of_principal) = if own > self.own_max {
            (self.own_max, true)
        } else if own > self.floor && all > self.all_max {
            (self.all_max, false)
        } else {
            return Ok(());
        };
        Err(Refusal::TooMuchUnderWay { bound: self.name, limit, of_principal })
    }
}

/// All requests in memory.
#[derive(Debug)]
pub struct Intake {
    large: Bound,
    loads: Mutex<Loads>,
}

#[derive(Debug, Default)]
struct Loads {
    all: Load,
    by_principal: HashMap<String, Load>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    requests: u64,
    waits: u64,
    small_bytes: u64,
    large_bytes: u64,
}

/// One request, which counts until the last clone of this is dropped.
#[derive(Clone, Debug)]
pub struct Held(Arc<Request>);

#[derive(Debug)]
struct Request {
    intake: Arc<Intake>,
    principal: String,
    /// Of its message, once it is known.
    bytes: OnceLock<u64>,
}

/// A call that waits, which counts until this is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    intake: Arc<Intake>,
    principal: String,
}

impl Intake {
    /// An intake of requests of which none is larger than `request_bytes_max`.
    pub fn new(request_bytes_max: u64) -> Arc<Intake> {
        let own_max = (LARGEST_PER_PRINCIPAL * request_bytes_max).max(LARGE_BYTES_MAX_LEAST);
        let large = Bound {
            name: "large_request_bytes",
            floor: request_bytes_max,
            own_max,
            all_max: PRINCIPALS_WITH_LARGE * own_max,
        };
        Arc::new(Intake { large, loads: Mutex::default() })
    }

    /// Counts a request of which nothing but the headers has come.
    pub fn begin(self: &Arc<Self>, principal: &str) -> Result<Held, Refusal> {
        self.add(principal, Load { requests: 1, ..Load::default() })?;
        let (intake, principal) = (Arc::clone(self), principal.to_owned());
        Ok(Held(Arc::new(Request { intake, principal, bytes: OnceLock::new() })))
    }

    fn add(&self, principal: &str, more: Load) -> Result<(), Refusal> {
        let mut loads = self.lock();
        let own = loads.by_principal.get(principal).copied().unwrap_or_default().plus(more);
        let all = loads.all.plus(more);
        if more.requests > 0 {
            REQUESTS.check(own.requests, all.requests)?;
        }
        if more.waits > 0 {
            WAITS.check(own.waits, all.waits)?;
        }
        if more.small_bytes > 0 {
            SMALL.check(own.small_bytes, all.small_bytes)?;
        }
        if more.large_bytes > 0 {
            self.large.check(own.large_bytes, all.large_bytes)?;
        }
        loads.all = all;
        match loads.by_principal.get_mut(principal) {
            Some(load) => *load = own,
            None => {
                loads.by_principal.insert(principal.to_owned(), own);
            }
        }
        Ok(())
    }

    fn take_off(&self, principal: &str, gone: Load) {
        let mut loads = self.lock();
        loads.all = loads.all.less(gone);
        if let Some(own) = loads.by_principal.get_mut(principal) {
            *own = own.less(gone);
            if *own == Load::default() {
                loads.by_principal.remove(principal);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    fn of_message(bytes: u64) -> Load {
        let is_small = bytes <= SMALL_REQUEST_BYTES_MAX;
        let (small_bytes, large_bytes) = if is_small { (bytes, 0) } else { (0, bytes) };
        Load { small_bytes, large_bytes, ..Load::default() }
    }

    fn plus(self, more: Load) -> Load {
        Load {
            requests: self.requests + more.requests,
            waits: self.waits + more.waits,
            small_bytes: self.small_bytes + more.small_bytes,
            large_bytes: self.large_bytes + more.large_bytes,
        }
    }

    fn less(self, gone: Load) -> Load {
        Load {
            requests: self.requests - gone.requests,
            waits: self.waits - gone.waits,
            small_bytes: self.small_bytes - gone.small_bytes,
            large_bytes: self.large_bytes - gone.large_bytes,
        }
    }
}

impl Held {
    /// What makes a request count. Whoever takes the message out of it and keeps it keeps this too.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Option<Held> {
        request.extensions().get().cloned()
    }

    /// Counts a wait of whom this request is of. The request itself need not be held meanwhile.
    pub(super) fn wait(&self) -> Result<Waiting, Refusal> {
        let Request { intake, principal, .. } = &*self.0;
        intake.add(principal, Load { waits: 1, ..Load::default() })?;
        Ok(Waiting { intake: Arc::clone(intake), principal: principal.clone() })
    }

    /// Counts the bytes of the message as well. A request is weighed once.
    pub fn weigh(&self, bytes: u64) -> Result<(), Refusal> {
        let Request { intake, principal, bytes: weighed } = &*self.0;
        if weighed.get().is_none() {
            intake.add(principal, Load::of_message(bytes))?;
            // One task alone reads the message.
            let _ = weighed.set(bytes);
        }
        Ok(())
    }
}

/// Counts a wait of whom a request is of.
pub(super) fn waiting<T>(request: &tonic::Request<T>) -> Result<Option<Waiting>, Refusal> {
    request.extensions().get::<Held>().map(Held::wait).transpose()
}

impl Drop for Request {
    fn drop(&mut self) {
        let message = Load::of_message(self.bytes.get().copied().unwrap_or_default());
        self.intake.take_off(&self.principal, Load { requests: 1, ..message });
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.intake.take_off(&self.principal, Load { waits: 1, ..Load::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    const LARGEST: u64 = 4 * MIB;

    fn request(intake: &Arc<Intake>, principal: &str, bytes: u64) -> Result<Held, Refusal> {
        let held = intake.begin(principal)?;
        held.weigh(bytes)?;
        Ok(held)
    }

    /// As many requests as are let in, and what the next one is told.
    fn fill(intake: &Arc<Intake>, principal: &str, bytes: u64) -> (Vec<Held>, Refusal) {
        let mut held = Vec::new();
        loop {
            match request(intake, principal, bytes) {
                Ok(next) => held.push(next),
                Err(refusal) => return (held, refusal),
            }
        }
    }

    #[test]
    fn large_requests_of_a_principal_have_a_bound_and_keep_out_no_small_ones() {
        let intake = Intake::new(LARGEST);
        let (mut held, refusal) = fill(&intake, "ada", LARGEST);
        let (bound, limit) = ("large_request_bytes", 64 * MIB);
        assert_eq!(refusal, Refusal::TooMuchUnderWay { bound, limit, of_principal: true });
        assert_eq!(held.len(), 16);
        request(&intake, "ada", SMALL_REQUEST_BYTES_MAX).unwrap();
        request(&intake, "bob", LARGEST).unwrap();
        held.pop();
        held.push(request(&intake, "ada", LARGEST).unwrap());
        request(&intake, "ada", LARGEST).unwrap_err();
    }

    #[test]
    fn the_largest_requests_fit_whatever_their_size() {
        let largest = 100 * MIB;
        let (held, _) = fill(&Intake::new(largest), "ada", largest);
        assert_eq!(held.len(), 4);
    }

    #[test]
    fn small_requests_have_a_bound_of_their_own_and_keep_out_no_large_ones() {
        let intake = Intake::new(LARGEST);
        let (held, refusal) = fill(&intake, "ada", SMALL_REQUEST_BYTES_MAX);
        let (bound, limit) = ("small_request_bytes", 64 * MIB);
        assert_eq!(refusal, Refusal::TooMuchUnderWay { bound, limit, of_principal: true });
        assert_eq!(held.len(), 1024);
        request(&intake, "ada", LARGEST).unwrap();
        request(&intake, "ada", 0).unwrap();
    }

    #[test]
    fn requests_without_a_byte_are_counted() {
        let intake = Intake::new(LARGEST);
        let (held, refusal) = fill(&intake, "ada", 0);
        let (bound, limit) = ("open_requests", 32_768);
        assert_eq!(refusal, Refusal::TooMuchUnderWay { bound, limit, of_principal: true });
        assert_eq!(held.len(), 32_768);
        request(&intake, "bob", 0).unwrap();
    }

    #[test]
    fn who_waits_as_often_as_it_may_can_still_call() {
        let intake = Intake::new(LARGEST);
        let held = request(&intake, "ada", 0).unwrap();
        let mut waiting = Vec::new();
        let refusal = loop {
            match held.wait() {
                Ok(next) => waiting.push(next),
                Err(refusal) => break refusal,
            }
        };
        drop(held);
        let (bound, limit) = ("open_waits", 32_768);
        assert_eq!(refusal, Refusal::TooMuchUnderWay { bound, limit, of_principal: true });
        assert_eq!(waiting.len(), 32_768);
        request(&intake, "ada", LARGEST).unwrap();
        drop(waiting);
        assert!(intake.lock().by_principal.is_empty());
    }

    #[test]
    fn principals_that_have_all_keep_nobody_from_its_floor() {
        let intake = Intake::new(LARGEST);
        let names = ["a", "b", "c", "d"];
        let greedy = names.map(|name| fill(&intake, name, LARGEST).0);
        let first = request(&intake, "ada", LARGEST).unwrap();
        let refusal = request(&intake, "ada", LARGEST).unwrap_err();
        let (bound, limit) = ("large_request_bytes", 256 * MIB);
        assert_eq!(refusal, Refusal::TooMuchUnderWay { bound, limit, of_principal: false });
        drop(greedy);
        request(&intake, "ada", LARGEST).unwrap();
        drop(first);
    }

    #[test]
    fn a_request_counts_once_and_until_its_last_clone_is_gone() {
        let intake = Intake::new(LARGEST);
        let held = request(&intake, "ada", LARGEST).unwrap();
        held.weigh(LARGEST).unwrap();
        let clone = held.clone();
        drop(held);
        let load = Load { requests: 1, large_bytes: LARGEST, ..Load::default() };
        assert_eq!(intake.lock().all, load);
        assert_eq!(intake.lock().by_principal["ada"], load);
        drop(clone);
        assert_eq!(intake.lock().all, Load::default());
        assert!(intake.lock().by_principal.is_empty());
    }
}
