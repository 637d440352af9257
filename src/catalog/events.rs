//! The newest events, numbered, for watchers that keep up.
//!
//! A watcher is a position. One that falls behind the oldest kept event is told so; it never
//! holds anything back for others. Nothing of this survives the process.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::job::{Job, StateKind, Time};

use super::recent::weight;

/// The most events that are kept.
const EVENTS_MAX: usize = 65_536;
/// The most bytes that the kept events take, roughly.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What happened to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was accepted.
    Created,
    /// Its process started.
    Started,
    /// Something else about it changed.
    Updated,
    /// It ended.
    Ended,
    /// It was removed.
    Deleted,
}

/// One thing that happened to a job.
#[derive(Clone, Debug)]
pub struct JobEvent {
    /// Counts the events of this service, from 1.
    pub sequence: u64,
    /// What.
    pub kind: EventKind,
    /// When it was noticed.
    pub time: Time,
    /// The state before.
    pub previous: Option<StateKind>,
    /// The job after.
    pub job: Arc<Job>,
}

/// The position asked for is older than what is kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Expired {
    /// The oldest position that can still be read from.
    pub oldest: u64,
}

/// The ring of events.
#[derive(Debug)]
pub(super) struct Events {
    ring: Mutex<Ring>,
    head: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<JobEvent>>,
    bytes: usize,
}

impl Default for Events {
    fn default() -> Self {
        Self { ring: Mutex::default(), head: watch::Sender::new(0) }
    }
}

impl Events {
    /// Appends an event and wakes those who wait for one.
    pub(super) fn append(
        &self,
        kind: EventKind,
        time: Time,
        previous: Option<StateKind>,
        job: Arc<Job>,
    ) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = *self.head.borrow() + 1;
        ring.bytes += weight(&job);
        ring.events.push_back(Arc::new(JobEvent { sequence, kind, time, previous, job }));
        while (ring.events.len() > EVENTS_MAX || ring.bytes > BYTES_MAX)
            && let Some(oldest) = ring.events.pop_front()
        {
            ring.bytes -= weight(&oldest.job);
        }
        self.head.send_replace(sequence);
    }

    /// The sequence of the newest event, and a way to wait for a newer one.
    pub(super) fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Up to `count` events after `position`.
    pub(super) fn after(&self, position: u64, count: usize) -> Result<Vec<Arc<JobEvent>>, Expired> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = ring.events.front().map(|event| event.sequence) else {
            return Ok(Vec::new());
        };
        if position + 1 < first {
            return Err(Expired { oldest: first - 1 });
        }
        let skip = usize::try_from(position + 1 - first).unwrap_or(usize::MAX);
        Ok(ring.events.iter().skip(skip).take(count).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::job_of;

    #[test]
    fn a_reader_gets_every_event_after_its_position_or_is_told_it_is_too_late() {
        let events = Events::default();
        let job = job_of(1);
        for _ in 0..EVENTS_MAX + 10 {
            events.append(EventKind::Updated, Time::from_nanos(0), None, Arc::clone(&job));
        }
        assert_eq!(events.after(0, 5).unwrap_err(), Expired { oldest: 10 });
        let sequences = |position| {
            let events = events.after(position, 3).unwrap();
            events.iter().map(|event| event.sequence).collect::<Vec<_>>()
        };
        assert_eq!(sequences(10), [11, 12, 13]);
        let head = *events.head().borrow();
        assert_eq!(sequences(head - 1), [head]);
        assert!(sequences(head).is_empty());
    }
}
