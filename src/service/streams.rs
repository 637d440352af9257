//! What all streams share: a place, of which there are so many in all and so many for each
//! principal, and the ways to come to an end. Those that read logs need another one besides, since
//! they hold descriptors.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    JobApi, Weight,
    caller::Caller,
    status::{Refusal, ResumeAt},
};

/// Why a stream comes to its end before it is over.
pub(super) enum Stop {
    /// Its reader has gone.
    Gone,
    /// It is refused from here on.
    Refused(Box<Refusal>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// The places that are taken.
#[derive(Debug)]
pub(super) struct Streams {
    /// What they are, for who is refused one.
    what: &'static str,
    max: u64,
    per_principal_max: u64,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u64,
    by_principal: HashMap<String, u64>,
}

/// Places, until it is dropped.
#[derive(Debug)]
pub(super) struct Places {
    streams: Arc<Streams>,
    principal: String,
    count: u64,
}

/// What an open stream has.
#[derive(Debug)]
pub(super) struct StreamPermit {
    _place: Places,
    _log: Option<Places>,
    weight: Weight,
}

impl StreamPermit {
    /// Counts what a stream has in memory if it is to send a message of so many bytes.
    pub(super) fn note_message(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.weight.note_message(bytes)
    }
}

impl Streams {
    pub(super) fn new(what: &'static str, max: u64, per_principal_max: u64) -> Arc<Self> {
        Arc::new(Self { what, max, per_principal_max, taken: Mutex::default() })
    }

    pub(super) fn count(&self) -> u64 {
        self.lock().all
    }

    fn take(self: &Arc<Self>, principal: &str) -> Result<Places, Refusal> {
        self.take_many(principal, 1)
    }

    /// So many places at once, or none.
    pub(super) fn take_many(
        self: &Arc<Self>,
        principal: &str,
        count: u64,
    ) -> Result<Places, Refusal> {
        let mut taken = self.lock();
        if taken.all + count > self.max {
            return Err(self.refusal(self.max, false));
        }
        let own = taken.by_principal.get(principal).copied().unwrap_or_default() + count;
        if own > self.per_principal_max {
            return Err(self.refusal(self.per_principal_max, true));
        }
        taken.by_principal.insert(principal.to_owned(), own);
        taken.all += count;
        Ok(Places { streams: Arc::clone(self), principal: principal.to_owned(), count })
    }

    fn refusal(&self, limit: u64, of_principal: bool) -> Refusal {
        Refusal::TooManyStreams { what: self.what, limit, of_principal }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        let mut taken = self.streams.lock();
        taken.all -= self.count;
        if let Some(own) = taken.by_principal.get_mut(&self.principal) {
            *own -= self.count;
            if *own == 0 {
                taken.by_principal.remove(&self.principal);
            }
        }
    }
}

impl JobApi {
    /// A place among the streams, and among those that may read logs if this is one.
    pub(super) fn stream_permit(
        &self,
        caller: &Caller,
        reads_logs: bool,
    ) -> Result<StreamPermit, Refusal> {
        if *self.0.draining.borrow() {
            return Err(Refusal::Draining { resume_at: ResumeAt::Unknown });
        }
        let principal = caller.principal();
        let place = self.0.streams.take(principal)?;
        let log = reads_logs.then(|| self.0.logs.take(principal)).transpose()?;
        let weight = self.0.stream_bytes.reader(principal).stream();
        Ok(StreamPermit { _place: place, _log: log, weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_for_each_principal_and_in_all_and_given_back() {
        let streams = Streams::new("streams", 3, 2);
        let first = streams.take("a").unwrap();
        let _second = streams.take("a").unwrap();
        let own = streams.refusal(2, true);
        assert_eq!(streams.take("a").unwrap_err(), own);
        let _third = streams.take("b").unwrap();
        let all = streams.refusal(3, false);
        assert_eq!(streams.take("c").unwrap_err(), all);
        drop(first);
        assert_eq!(streams.count(), 2);
        let _again = streams.take("a").unwrap();
    }
}
