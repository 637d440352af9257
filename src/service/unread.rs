//! How many bytes of answers are in memory: each answer counts from when it is made until its last
//! byte has been written to the connection, for its principal and in all.
//!
//! Streams have a bound of their own: what is large in them counts for as long as they are open.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{intake::Bound, status::Refusal};

/// What an answer counts beside its bytes, so that empty ones count too.
const ANSWER_BYTES_BESIDES: u64 = 1024;
/// Answers. The largest that callers take by themselves, 4 MiB, has room whatever others have.
const ANSWERS: Bound = Bound {
    name: "answer_bytes",
    floor: 4 * 1024 * 1024 + ANSWER_BYTES_BESIDES,
    own_max: 64 * 1024 * 1024,
    all_max: 256 * 1024 * 1024,
};
/// Large messages of streams. A stream with the largest, of about 1 MiB, has room in any case.
const STREAMS: Bound = Bound {
    name: "stream_bytes",
    floor: 8 * 1024 * 1024,
    own_max: 256 * 1024 * 1024,
    all_max: 1024 * 1024 * 1024,
};
/// A message of a stream that is no larger is covered by the place of the stream: a piece of output
/// of 64 KiB, and what is told of it.
const SMALL_MESSAGE_BYTES_MAX: u64 = 80 * 1024;
/// So many of its largest messages a stream has in memory: the one that is to be sent next, the one
/// that waits for the connection, and two that the connection has.
const MESSAGES_PER_STREAM: u64 = 4;

/// What nobody has read yet.
#[derive(Debug)]
pub struct Unread {
    bound: Bound,
    loads: Mutex<Loads>,
}

#[derive(Debug, Default)]
struct Loads {
    all: u64,
    by_principal: HashMap<Arc<str>, u64>,
}

/// Whoever is to read it.
#[derive(Clone, Debug)]
pub struct Reader {
    unread: Arc<Unread>,
    principal: Arc<str>,
}

/// One answer, or one stream, which counts until this is dropped.
#[derive(Debug)]
pub struct Weight {
    reader: Reader,
    bytes: u64,
}

impl Unread {
    /// That of answers.
    pub fn of_answers() -> Arc<Unread> {
        Arc::new(Unread { bound: ANSWERS, loads: Mutex::default() })
    }

    /// That of streams.
    pub(super) fn of_streams() -> Arc<Unread> {
        Arc::new(Unread { bound: STREAMS, loads: Mutex::default() })
    }

    /// The reader of what is for a principal.
    pub fn reader(self: &Arc<Self>, principal: &str) -> Reader {
        Reader { unread: Arc::clone(self), principal: principal.into() }
    }

    fn lock(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Refuses a call that has done nothing yet if there is no room for any answer.
    pub fn check(&self) -> Result<(), Refusal> {
        let loads = self.unread.lock();
        let own = loads.by_principal.get(&self.principal).copied().unwrap_or_default();
        let more = ANSWER_BYTES_BESIDES;
        self.unread.bound.check(own + more, loads.all + more)
    }

    /// Counts an answer, unless that is too much.
    pub fn offer(&self, bytes: u64) -> Result<Weight, Refusal> {
        self.weigh(bytes + ANSWER_BYTES_BESIDES, false)
    }

    /// Counts an answer that has to be given: something was done.
    pub fn give(&self, bytes: u64) -> Weight {
        let bytes = bytes + ANSWER_BYTES_BESIDES;
        // Nothing is refused that has to be given.
        self.weigh(bytes, true).unwrap_or_else(|_| Weight { reader: self.clone(), bytes: 0 })
    }

    /// A stream without a large message.
    pub(super) fn stream(&self) -> Weight {
        Weight { reader: self.clone(), bytes: 0 }
    }

    fn weigh(&self, bytes: u64, is_owed: bool) -> Result<Weight, Refusal> {
        let mut weight = Weight { reader: self.clone(), bytes: 0 };
        weight.add(bytes, is_owed)?;
        Ok(weight)
    }
}

impl Weight {
    fn add(&mut self, bytes: u64, is_owed: bool) -> Result<(), Refusal> {
        let Reader { unread, principal } = &self.reader;
        let mut loads = unread.lock();
        let all = loads.all + bytes;
        let own = loads.by_principal.get(principal).copied().unwrap_or_default() + bytes;
        if !is_owed {
            unread.bound.check(own, all)?;
        }
        loads.all = all;
        loads.by_principal.insert(Arc::clone(principal), own);
        self.bytes += bytes;
        Ok(())
    }

    /// Counts what a stream has in memory if it is to send a message of so many bytes.
    pub(super) fn note_message(&mut self, bytes: usize) -> Result<(), Refusal> {
        let bytes = bytes as u64;
        let needed = if bytes > SMALL_MESSAGE_BYTES_MAX { MESSAGES_PER_STREAM * bytes } else { 0 };
        if needed > self.bytes { self.add(needed - self.bytes, false) } else { Ok(()) }
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let Reader { unread, principal } = &self.reader;
        let mut loads = unread.lock();
        loads.all -= self.bytes;
        if let Some(own) = loads.by_principal.get_mut(principal) {
            *own -= self.bytes;
            if *own == 0 {
                loads.by_principal.remove(principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn too_much(bound: &'static str, limit: u64, of_principal: bool) -> Refusal {
        Refusal::TooMuchUnderWay { bound, limit, of_principal }
    }

    /// As many answers as are let out, and why the next one is not.
    fn fill(reader: &Reader, bytes: u64) -> (Vec<Weight>, Refusal) {
        let mut weights = Vec::new();
        loop {
            match reader.offer(bytes) {
                Ok(weight) => weights.push(weight),
                Err(refusal) => return (weights, refusal),
            }
        }
    }

    #[test]
    fn answers_of_a_principal_have_a_bound_and_count_until_they_are_gone() {
        let unread = Unread::of_answers();
        let (ada, bob) = (unread.reader("ada"), unread.reader("bob"));
        let (mut weights, refusal) = fill(&ada, MIB);
        assert_eq!(refusal, too_much("answer_bytes", 64 * MIB, true));
        assert_eq!(weights.len(), 63);
        bob.offer(4 * MIB).unwrap();
        weights.pop();
        ada.offer(MIB).unwrap();
        drop(weights);
        assert_eq!(unread.lock().all, 0);
        assert!(unread.lock().by_principal.is_empty());
    }

    #[test]
    fn answers_without_a_byte_count() {
        let ada = Unread::of_answers().reader("ada");
        assert_eq!(fill(&ada, 0).0.len(), 65_536);
    }

    #[test]
    fn what_was_done_is_answered_and_nothing_else_is_begun() {
        let unread = Unread::of_answers();
        let ada = unread.reader("ada");
        let (weights, _) = fill(&ada, 0);
        let given: Vec<_> = (0..3).map(|_| ada.give(MIB)).collect();
        assert_eq!(unread.lock().all, 67 * MIB + 3 * ANSWER_BYTES_BESIDES);
        assert_eq!(ada.check(), Err(too_much("answer_bytes", 64 * MIB, true)));
        assert_eq!(unread.reader("bob").check(), Ok(()));
        drop(given);
        ada.check().unwrap_err();
        drop(weights);
        assert_eq!(ada.check(), Ok(()));
    }

    #[test]
    fn principals_that_have_all_keep_nobody_from_its_floor() {
        let unread = Unread::of_answers();
        let all = ["a", "b", "c", "d"].map(|name| fill(&unread.reader(name), 0).0);
        let ada = unread.reader("ada");
        let largest = ada.offer(4 * MIB).unwrap();
        let refusal = too_much("answer_bytes", 256 * MIB, false);
        assert_eq!(ada.offer(0).unwrap_err(), refusal);
        drop(all);
        ada.offer(0).unwrap();
        drop(largest);
    }

    #[test]
    fn a_stream_counts_by_its_largest_message_while_it_is_open() {
        let unread = Unread::of_streams();
        let ada = unread.reader("ada");
        let mut first = ada.stream();
        first.note_message(80 * 1024).unwrap();
        assert_eq!(unread.lock().all, 0);
        for bytes in [100 * 1024, 1024 * 1024, 200 * 1024] {
            first.note_message(bytes).unwrap();
        }
        assert_eq!(unread.lock().all, 4 * MIB);
        let mut others: Vec<_> = (0..64).map(|_| ada.stream()).collect();
        for other in &mut others[..63] {
            other.note_message(1024 * 1024).unwrap();
        }
        let refusal = others[63].note_message(1024 * 1024).unwrap_err();
        assert_eq!(refusal, too_much("stream_bytes", 256 * MIB, true));
        others[63].note_message(80 * 1024).unwrap();
        drop((first, others));
        assert!(unread.lock().by_principal.is_empty());
    }
}
