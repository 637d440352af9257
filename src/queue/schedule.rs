//! Which queued job starts next: a policy without clocks, files or threads.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::job::JobId;

/// The most bytes that queued jobs take in memory, roughly.
const QUEUED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A job in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The job.
    pub id: JobId,
    /// Whose it is.
    pub owner: Arc<str>,
    /// The higher starts first; among equals the oldest.
    pub priority: i32,
    /// When it has waited for too long, on the boot clock.
    pub expires: Option<Duration>,
    /// How much memory it takes, roughly.
    pub bytes: usize,
}

/// The bounds of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most jobs that run.
    pub running_max: usize,
    /// The most jobs that wait.
    pub queued_max: usize,
    /// The most jobs of one owner that run.
    pub running_per_owner_max: usize,
    /// The most jobs of one owner that wait.
    pub queued_per_owner_max: usize,
}

impl QueueLimits {
    /// Bounds without shares.
    pub fn of_all(running_max: usize, queued_max: usize) -> Self {
        let (running_per_owner_max, queued_per_owner_max) = (running_max, usize::MAX);
        Self { running_max, queued_max, running_per_owner_max, queued_per_owner_max }
    }
}

/// The place of a job among those that wait: the least starts first.
type Place = (Reverse<i32>, JobId);

/// The jobs of one owner.
#[derive(Debug, Default)]
struct Share {
    order: BTreeSet<Place>,
    running: usize,
    /// Those that wait, also those that are not started any more.
    waiting: usize,
    reserved: usize,
}

/// The queue and what runs.
#[derive(Debug)]
pub struct Schedule {
    limits: QueueLimits,
    shares: HashMap<Arc<str>, Share>,
    /// The first of each owner who may start another.
    firsts: BTreeMap<Place, Arc<str>>,
    waiting: HashMap<JobId, Queued>,
    expiries: BTreeSet<(Duration, JobId)>,
    running: HashMap<JobId, Arc<str>>,
    reserved: usize,
    bytes: usize,
}

/// There is no room for another job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The queue is full.
    Queue,
    /// The owner has as many jobs in it as it may.
    Share,
}

impl Schedule {
    /// An empty queue with these bounds.
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            shares: HashMap::new(),
            firsts: BTreeMap::new(),
            waiting: HashMap::new(),
            expiries: BTreeSet::new(),
            running: HashMap::new(),
            reserved: 0,
            bytes: 0,
        }
    }

    /// The bounds.
    pub fn limits(&self) -> QueueLimits {
        self.limits
    }

    /// Sets a place aside for a job of this owner that is about to be accepted.
    pub fn reserve(&mut self, owner: &str) -> Result<(), Full> {
        // What can start at once does not wait in the queue.
        let free = self.limits.running_max.saturating_sub(self.running.len());
        let has_room = self.waiting.len() + self.reserved < self.limits.queued_max + free;
        if !has_room || self.bytes >= QUEUED_BYTES_MAX {
            return Err(Full::Queue);
        }
        let limits = self.limits;
        let is_in_share = self.change(&Arc::from(owner), |share| {
            let free = limits.running_per_owner_max.saturating_sub(share.running).min(free);
            let most = limits.queued_per_owner_max.saturating_add(free);
            let has_room = share.waiting + share.reserved < most;
            share.reserved += usize::from(has_room);
            has_room
        });
        if !is_in_share {
            return Err(Full::Share);
        }
        self.reserved += 1;
        Ok(())
    }

    /// Gives a reserved place back.
    pub fn release(&mut self, owner: &str) {
        self.reserved = self.reserved.saturating_sub(1);
        let release = |share: &mut Share| share.reserved = share.reserved.saturating_sub(1);
        self.change(&Arc::from(owner), release);
    }

    /// Adds a job. Jobs that were accepted once are always taken.
    pub fn add(&mut self, job: Queued) {
        if self.running.contains_key(&job.id) || self.waiting.contains_key(&job.id) {
            return;
        }
        self.change(&job.owner, |share| {
            share.waiting += 1;
            share.order.insert((Reverse(job.priority), job.id));
        });
        self.insert(job);
    }

    /// Takes the next job that may start, if there is one and a place for it.
    pub fn start_next(&mut self) -> Option<Queued> {
        if self.running.len() >= self.limits.running_max {
            return None;
        }
        let id = self.firsts.first_key_value()?.0.1;
        let job = self.take(id)?;
        self.run(id, &job.owner);
        Some(job)
    }

    /// Counts a job as running that was started before this schedule existed.
    pub fn add_running(&mut self, id: JobId, owner: &Arc<str>) {
        self.take(id);
        self.run(id, owner);
    }

    fn run(&mut self, id: JobId, owner: &Arc<str>) {
        if self.running.insert(id, Arc::clone(owner)).is_none() {
            self.change(owner, |share| share.running += 1);
        }
    }

    /// Takes out a job that has ended or gone, whether it ran or waited.
    pub fn remove(&mut self, id: JobId) {
        if let Some(owner) = self.running.remove(&id) {
            self.change(&owner, |share| share.running -= 1);
        }
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
        if self.running.contains_key(&job.id) || self.waiting.contains_key(&job.id) {
            return;
        }
        self.change(&job.owner, |share| share.waiting += 1);
        self.insert(Queued { expires: Some(until), ..job });
    }

    fn insert(&mut self, job: Queued) {
        self.expiries.extend(job.expires.map(|expires| (expires, job.id)));
        self.bytes += job.bytes;
        self.waiting.insert(job.id, job);
    }

    /// Changes the share of an owner; its first job is in line exactly while it may start another.
    fn change<T>(&mut self, owner: &Arc<str>, change: impl FnOnce(&mut Share) -> T) -> T {
        let share = self.shares.entry(Arc::clone(owner)).or_default();
        let first = share.order.first().copied();
        let changed = change(share);
        let may_start = share.running < self.limits.running_per_owner_max;
        let next = share.order.first().copied().filter(|_| may_start);
        let is_needed = share.running + share.waiting + share.reserved > 0;
        if let Some(first) = first.filter(|first| Some(*first) != next) {
            self.firsts.remove(&first);
        }
        if let Some(next) = next {
            self.firsts.insert(next, Arc::clone(owner));
        }
        if !is_needed {
            self.shares.remove(owner);
        }
        changed
    }

    /// When the next job will have waited for too long.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.expiries.first().map(|(expires, _)| *expires)
    }

    fn take(&mut self, id: JobId) -> Option<Queued> {
        let job = self.waiting.remove(&id)?;
        self.change(&job.owner, |share| {
            share.waiting -= 1;
            share.order.remove(&(Reverse(job.priority), id));
        });
        if let Some(expires) = job.expires {
            self.expiries.remove(&(expires, id));
        }
        self.bytes -= job.bytes;
        Some(job)
    }

    /// Whether a job is counted as running.
    pub fn is_running(&self, id: JobId) -> bool {
        self.running.contains_key(&id)
    }

    /// The jobs that are counted as running.
    pub fn running_ids(&self) -> Vec<JobId> {
        self.running.keys().copied().collect()
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
mod tests;
