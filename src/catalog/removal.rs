//! Jobs on their way out: due, being removed, gone.

use std::sync::{Arc, PoisonError};

use super::{Catalog, Seen, lock};
use crate::{
    job::{Job, JobId, Time},
    sys::inotify::Watch,
};

impl Catalog {
    /// Notes that a job is being removed by one more call, or that one of them is over.
    pub fn set_deleting(&self, id: JobId, is_deleting: bool) {
        let mut deleting = lock(&self.deleting);
        let count = deleting.entry(id).or_insert(0);
        *count = if is_deleting { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            deleting.remove(&id);
        }
    }

    /// Whether a job is being removed.
    pub fn is_deleting(&self, id: JobId) -> bool {
        lock(&self.deleting).contains_key(&id)
    }

    /// Takes up to `count` ended jobs that are due for deletion.
    pub fn take_expired(&self, now: Time, count: usize) -> Vec<JobId> {
        let mut expiring = lock(&self.expiring);
        let due = expiring.iter().take_while(|(time, _)| *time <= now).take(count);
        let due: Vec<(Time, JobId)> = due.copied().collect();
        for entry in &due {
            expiring.remove(entry);
        }
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// Makes sure that the index has a job that was read from the store, so that its removal is
    /// told like any other.
    pub fn note_read(&self, job: &Job) {
        let is_known =
            self.entries.read().unwrap_or_else(PoisonError::into_inner).contains_key(&job.id());
        if !is_known {
            self.note(job);
        }
    }

    /// Takes out a job whose folder is gone, and tells all who wait for it, once.
    ///
    /// `known` is the job as the caller knows it; it is needed only for one that ended long ago.
    pub fn forget(&self, id: JobId, known: Option<Arc<Job>>) {
        let active = self.write_active().remove(&id);
        let known = match &active {
            Some(active) => match active.seen.send_replace(Seen::Deleted) {
                Seen::Job(job) => Some(job),
                Seen::Deleted => None,
            },
            None => lock(&self.recent).get(id).or(known),
        };
        lock(&self.recent).remove(id);
        lock(&self.unreadable).remove(&id);
        let outline = self.write_entries().remove(&id);
        match (outline, known) {
            (Some(_), Some(job)) => self.events.tell_removed(&job),
            (Some(outline), None) => self.events.tell_vanished(id, Some(outline)),
            (None, _) => {}
        }
        if let Some(active) = active {
            lock(&self.freed).extend(lock(&active.watch).take());
        }
    }

    /// The watches of folders that need none any more, to be ended.
    pub fn take_freed_watches(&self) -> Vec<Watch> {
        std::mem::take(&mut *lock(&self.freed))
    }
}
