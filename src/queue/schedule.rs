//! Which queued job starts next: a policy without clocks, files or threads.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use crate::job::JobId;

/// The most bytes that queued jobs take in memory, roughly.
const QUEUED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A job in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The job.
    pub id: JobId,
    /// The higher starts first; among equals the oldest.
    pub priority: i32,
    /// When it has waited for too long, on the boot clock.
    pub expires: Option<Duration>,
    /// How much memory it takes, roughly.
    pub bytes: usize,
}

/// The queue and what runs.
#[derive(Debug)]
pub struct Schedule {
    running_max: usize,
    queued_max: usize,
    order: BTreeSet<(Reverse<i32>, JobId)>,
    waiting: HashMap<JobId, Queued>,
    expiries: BTreeSet<(Duration, JobId)>,
    running: HashSet<JobId>,
    reserved: usize,
    bytes: usize,
}

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Schedule {
    /// An empty queue with these bounds.
    pub fn new(running_max: usize, queued_max: usize) -> Self {
        Self {
            running_max,
            queued_max,
            order: BTreeSet::new(),
            waiting: HashMap::new(),
            expiries: BTreeSet::new(),
            running: HashSet::new(),
            reserved: 0,
            bytes: 0,
        }
    }

    /// Sets a place aside for a job that is about to be accepted.
    pub fn reserve(&mut self) -> Result<(), Full> {
        // What can start at once does not wait in the queue.
        let free = self.running_max.saturating_sub(self.running.len());
        let has_room = self.waiting.len() + self.reserved < self.queued_max + free;
        if has_room && self.bytes < QUEUED_BYTES_MAX {
            self.reserved += 1;
            Ok(())
        } else {
            Err(Full)
        }
    }

    /// Gives a reserved place back.
    pub fn release(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Adds a job. Jobs that were accepted once are always taken.
    pub fn add(&mut self, job: Queued) {
        if self.running.contains(&job.id) || self.waiting.contains_key(&job.id) {
            return;
        }
        self.order.insert((Reverse(job.priority), job.id));
        self.expiries.extend(job.expires.map(|expires| (expires, job.id)));
        self.bytes += job.bytes;
        self.waiting.insert(job.id, job);
    }

    /// Takes the next job that may start, if there is one and a place for it.
    pub fn start_next(&mut self) -> Option<Queued> {
        if self.running.len() >= self.running_max {
            return None;
        }
        let (_, id) = *self.order.first()?;
        let job = self.take(id)?;
        self.running.insert(id);
        Some(job)
    }

    /// Counts a job as running that was started before this schedule existed.
    pub fn add_running(&mut self, id: JobId) {
        self.take(id);
        self.running.insert(id);
    }

    /// Takes out a job that has ended or gone, whether it ran or waited.
    pub fn remove(&mut self, id: JobId) {
        self.running.remove(&id);
        self.take(id);
    }

    /// Takes out a job that has waited for too long, if there is one.
    pub fn expire_next(&mut self, now: Duration) -> Option<Queued> {
        let (expires, id) = *self.expiries.first()?;
        if expires > now {
            return None;
        }
        self.take(id)
    }

    /// Puts a job back that has waited for too long and could not be ended: it comes again at
    /// `until` and is not started any more.
    pub fn put_off(&mut self, job: Queued, until: Duration) {
        if self.running.contains(&job.id) || self.waiting.contains_key(&job.id) {
            return;
        }
        self.expiries.insert((until, job.id));
        self.bytes += job.bytes;
        self.waiting.insert(job.id, Queued { expires: Some(until), ..job });
    }

    /// When the next job will have waited for too long.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.expiries.first().map(|(expires, _)| *expires)
    }

    fn take(&mut self, id: JobId) -> Option<Queued> {
        let job = self.waiting.remove(&id)?;
        self.order.remove(&(Reverse(job.priority), id));
        if let Some(expires) = job.expires {
            self.expiries.remove(&(expires, id));
        }
        self.bytes -= job.bytes;
        Some(job)
    }

    /// Whether a job is counted as running.
    pub fn is_running(&self, id: JobId) -> bool {
        self.running.contains(&id)
    }

    /// The jobs that are counted as running.
    pub fn running_ids(&self) -> Vec<JobId> {
        self.running.iter().copied().collect()
    }

    /// How many jobs wait.
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// How many jobs run or are being started.
    pub fn running_count(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::Time;

    fn queued(millis: u64, priority: i32) -> Queued {
        let id = JobId::first_of(Time::from_millis(millis));
        Queued { id, priority, expires: None, bytes: 1 }
    }

    proptest! {
        #[test]
        fn starts_go_by_priority_then_age_and_never_beyond_the_limit(
            jobs in proptest::collection::vec((1..50_u64, -3..3_i32), 0..40),
            running_max in 1..5_usize,
        ) {
            let mut schedule = Schedule::new(running_max, 100);
            let mut expected: Vec<Queued> = Vec::new();
            for (millis, priority) in jobs {
                let job = queued(millis, priority);
                if !expected.iter().any(|known| known.id == job.id) {
                    expected.push(job);
                }
                schedule.add(job);
            }
            expected.sort_by_key(|job| (Reverse(job.priority), job.id));
            let mut started = Vec::new();
            while schedule.waiting_count() > 0 {
                while let Some(job) = schedule.start_next() {
                    started.push(job);
                }
                prop_assert!(schedule.running_count() <= running_max);
                let oldest = started[started.len() - schedule.running_count()].id;
                schedule.remove(oldest);
            }
            prop_assert_eq!(started, expected);
        }
    }

    #[test]
    fn a_full_queue_refuses_and_a_released_place_is_free_again() {
        let mut schedule = Schedule::new(1, 1);
        assert_eq!(schedule.reserve(), Ok(()));
        assert_eq!(schedule.reserve(), Ok(()));
        assert_eq!(schedule.reserve(), Err(Full));
        schedule.release();
        assert_eq!(schedule.reserve(), Ok(()));
    }

    #[test]
    fn large_jobs_fill_the_queue_before_it_has_many() {
        let mut schedule = Schedule::new(1, 1000);
        schedule.add(Queued { bytes: QUEUED_BYTES_MAX, ..queued(1, 0) });
        assert_eq!(schedule.reserve(), Err(Full));
    }

    #[test]
    fn a_job_that_waited_for_too_long_is_taken_out_once() {
        let mut schedule = Schedule::new(1, 10);
        let expires = Some(Duration::from_secs(5));
        schedule.add(Queued { expires, ..queued(1, 0) });
        schedule.add(queued(2, 0));
        assert_eq!(schedule.next_expiry(), expires);
        assert_eq!(schedule.expire_next(Duration::from_secs(4)), None);
        let job = schedule.expire_next(Duration::from_secs(5)).map(|job| job.id);
        assert_eq!(job, Some(queued(1, 0).id));
        assert_eq!(schedule.expire_next(Duration::from_secs(9)), None);
        assert_eq!(schedule.start_next(), Some(queued(2, 0)));
    }

    #[test]
    fn a_job_that_waited_for_too_long_and_was_put_off_comes_again_and_never_starts() {
        let mut schedule = Schedule::new(1, 10);
        let until = Duration::from_secs(5);
        schedule.put_off(queued(1, 0), until);
        assert_eq!(schedule.start_next(), None);
        assert_eq!((schedule.waiting_count(), schedule.next_expiry()), (1, Some(until)));
        assert_eq!(schedule.expire_next(until).map(|job| job.id), Some(queued(1, 0).id));
        assert_eq!((schedule.waiting_count(), schedule.bytes), (0, 0));
    }
}
