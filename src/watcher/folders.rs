//! Job folders that others put into the store or take away.
//!
//! A folder with a valid spec below `jobs/` is a job, however it got there; one that is gone is
//! no job any more. What cannot be read yet is looked at again, and is never a removal.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    sync::PoisonError,
    time::{Duration, SystemTime},
};

use super::{Key, Watcher};
use crate::{
    job::{Job, JobId, State},
    store::{StoreError, is_day},
};

/// The most days whose folders are watched, the newest: each takes a watch of the kernel.
const DAYS_WATCHED_MAX: usize = 4096;
/// The most folders that cannot be read which are looked at again in one sweep.
const UNREADABLE_AT_ONCE: usize = 64;
/// The time stamp of a folder may miss a change that comes this soon after another.
const STAMP_BLUR: Duration = Duration::from_secs(2);

/// When the folder of each day last changed, as it was seen.
pub(super) type Days = BTreeMap<String, SystemTime>;

impl Watcher {
    /// Watches the folders of all days, and for new ones.
    pub(super) fn watch_days(&self) {
        let Some(notifier) = &self.notifier else {
            self.changed_days();
            return;
        };
        let store = self.catalog.store();
        if let Err(error) = notifier.watch_names(&store.layout().jobs(), true, Key::Days) {
            tracing::warn!(%error, "the folder of days cannot be watched");
        }
        for day in store.days().unwrap_or_default().iter().rev().take(DAYS_WATCHED_MAX) {
            self.watch_day(day);
        }
    }

    fn watch_day(&self, day: &str) {
        let path = self.catalog.store().layout().day(day);
        if let Some(notifier) = &self.notifier
            && let Err(error) = notifier.watch_names(&path, false, Key::Day)
        {
            tracing::debug!(%error, day, "the folder of a day cannot be watched");
        }
    }

    /// A job's folder was moved in, moved out or removed, by us or by others.
    pub(super) fn take_folder_notice(&self, name: &OsStr) {
        if let Some(id) = name.to_str().and_then(|name| name.parse().ok()) {
            self.look_at_folder(id);
        }
    }

    /// The folder of a day came or went.
    pub(super) fn take_day_notice(&self, name: &OsStr) {
        if let Some(day) = name.to_str().filter(|name| is_day(name)) {
            self.watch_day(day);
            self.compare_day(day);
        }
    }

    /// Takes in a job whose folder is new, and lets go of one whose folder is gone.
    pub fn look_at_folder(&self, id: JobId) {
        if self.catalog.is_creating(id) {
            return;
        }
        let dir = self.catalog.store().job_dir(id);
        let is_known = self.catalog.is_known(id);
        if is_known == dir.path().exists() || self.catalog.is_deleting(id) {
            return;
        }
        if is_known {
            if self.catalog.store().is_hidden(id) {
                // Ours: whoever deletes it knows it and tells of it.
                return;
            }
            let known = self.catalog.get(id).ok();
            self.forget(id, known);
            return;
        }
        match dir.read() {
            Ok(job) if job.state.is_ended() => self.catalog.insert_ended(job),
            Ok(job) => self.take_up(job),
            Err(StoreError::Missing(_)) => {}
            Err(error) => self.catalog.note_unreadable(id, &error),
        }
    }

    /// Takes up a job that has not ended. Tells what has not been told of it.
    pub fn take_up(&self, job: Job) {
        let id = job.id();
        // First the watch, then another look: a change in between is seen by one of them.
        let watch = self.watch(&self.catalog.store().job_dir(id), id);
        let is_queued = job.state == State::Queued;
        if is_queued {
            self.catalog.insert(job.clone(), watch);
            self.queue.add(&job);
        } else {
            self.queue.add_running(&job);
            self.catalog.insert(job, watch);
        }
        // Broken or gone since: told when somebody asks.
        let _ = self.look(id);
        if !is_queued {
            self.keep(id);
            self.adopt_if_orphaned(id);
        }
    }

    /// What could not be read may have been half-written.
    pub(super) fn look_at_unreadable(&self) {
        for id in self.catalog.unreadable_ids(UNREADABLE_AT_ONCE) {
            if !self.catalog.store().job_dir(id).path().exists() {
                self.catalog.forget(id, None);
            } else if self.catalog.is_active(id) {
                let _ = self.look(id);
            } else {
                self.look_at_folder(id);
            }
        }
    }

    /// Compares the folders of all days with what is known.
    pub(super) fn compare_days(&self) {
        for day in self.catalog.store().days().unwrap_or_default() {
            self.compare_day(&day);
        }
    }

    /// The same for days whose folder has changed since they were last looked at.
    pub(super) fn compare_changed_days(&self) {
        for day in self.changed_days() {
            self.compare_day(&day);
        }
    }

    fn changed_days(&self) -> Vec<String> {
        let store = self.catalog.store();
        let mut known = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Vec::new();
        let mut now = Days::new();
        for day in store.days().unwrap_or_default() {
            let metadata = std::fs::metadata(store.layout().day(&day));
            let Ok(stamp) = metadata.and_then(|metadata| metadata.modified()) else { continue };
            let is_fresh = stamp.elapsed().map_or(true, |age| age < STAMP_BLUR);
            if is_fresh || known.get(&day) != Some(&stamp) {
                changed.push(day.clone());
            }
            now.insert(day, stamp);
        }
        changed.extend(known.keys().filter(|day| !now.contains_key(*day)).cloned());
        *known = now;
        changed
    }

    fn compare_day(&self, day: &str) {
        if !self.catalog.is_loaded() {
            // What is not known yet is not new: the loader finds it.
            return;
        }
        let Ok(there) = self
            .catalog
            .store()
            .ids_of_day(day)
            .or_else(|error| if error.is_missing() { Ok(Vec::new()) } else { Err(error) })
        else {
            return;
        };
        let there: BTreeSet<JobId> = there.into_iter().collect();
        let known = self.catalog.known_ids_of_day(day);
        for id in there.symmetric_difference(&known) {
            self.look_at_folder(*id);
        }
    }
}
