//! Finding jobs by what they are: pages, prefixes, counts. Days are read when they are needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use crate::{
    job::{JobFilter, JobId, JobIdPrefix, Outline, StateKind},
    store::StoreError,
};

use super::{Catalog, lock};

/// What is not loaded yet. Only `turn` is held while something is read.
#[derive(Debug)]
pub(super) struct Loading {
    /// Of whoever reads a day.
    turn: Mutex<()>,
    /// The days to be read, oldest first.
    days: Mutex<Vec<String>>,
    unended: Mutex<Vec<JobId>>,
}

impl Loading {
    pub(super) fn of(days: Vec<String>) -> Self {
        Self { turn: Mutex::default(), days: Mutex::new(days), unended: Mutex::default() }
    }
}

/// Jobs that a filter selects, newest first, and where the next page goes on.
#[derive(Debug, Default)]
pub struct Candidates {
    /// The jobs of this page.
    pub ids: Vec<JobId>,
    /// Whether there are more.
    pub has_more: bool,
}

/// How many jobs are in each state.
#[derive(Debug, Default)]
pub struct Counts {
    /// By state; a state without jobs is missing.
    pub by_state: BTreeMap<StateKind, u64>,
    /// Whether every stored job is counted.
    pub is_complete: bool,
}

impl Catalog {
    /// Reads the newest day that has not been read. False once all have been. Blocks.
    pub fn load_next_day(&self) -> Result<bool, StoreError> {
        let _turn = lock(&self.loading.turn);
        let Some(day) = lock(&self.loading.days).last().cloned() else { return Ok(false) };
        for id in self.store.ids_of_day(&day)? {
            self.load(id);
        }
        let mut days = lock(&self.loading.days);
        days.pop();
        Ok(!days.is_empty())
    }

    /// Jobs that were found while days were read, have not ended and are not active: somebody put
    /// their folders there while no service ran.
    pub fn take_unended(&self) -> Vec<JobId> {
        std::mem::take(&mut lock(&self.loading.unended))
    }

    fn load(&self, id: JobId) {
        if self.is_known(id) {
            return;
        }
        match self.store.job_dir(id).read() {
            Ok(job) if !job.state.is_ended() => lock(&self.loading.unended).push(id),
            Ok(job) => self.note_if_absent(&job),
            // Removed since the day was listed.
            Err(StoreError::Missing(_)) => {}
            Err(error) => self.note_unreadable(id, &error),
        }
    }

    fn note_if_absent(&self, job: &crate::job::Job) {
        // A job accepted meanwhile is known better than what was read of it before.
        if self.active_job(job.id()).is_none() {
            self.note(job);
        }
    }

    /// Notes that a folder cannot be read, and says so once.
    pub fn note_unreadable(&self, id: JobId, error: &StoreError) {
        if lock(&self.unreadable).insert(id) {
            tracing::warn!(job = %id, %error, "the folder of a job cannot be read");
        }
    }

    /// Whether the index has a job.
    pub fn is_known(&self, id: JobId) -> bool {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    /// The jobs of a day that the index has.
    pub fn known_ids_of_day(&self, day: &str) -> BTreeSet<JobId> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.keys().filter(|id| id.day() == day).copied().collect()
    }

    /// Up to `count` of the folders that cannot be read.
    pub fn unreadable_ids(&self, count: usize) -> Vec<JobId> {
        lock(&self.unreadable).iter().take(count).copied().collect()
    }

    /// How many folders cannot be read.
    pub fn unreadable_count(&self) -> u64 {
        lock(&self.unreadable).len() as u64
    }

    /// Lets `load_next_day` say that there is nothing more to load: the service ends.
    pub fn stop_loading(&self) {
        lock(&self.loading.days).clear();
    }

    /// Whether every day has been read.
    pub fn is_loaded(&self) -> bool {
        lock(&self.loading.days).is_empty()
    }

    /// Up to `count` jobs below `before` that the filter selects, newest first. Reads as many
    /// days as that needs; blocks meanwhile.
    pub fn page(
        &self,
        filter: &JobFilter,
        before: Option<JobId>,
        count: usize,
    ) -> Result<Candidates, StoreError> {
        loop {
            // Asked first: a day that is loaded in between only adds to what is found.
            let oldest_unread = lock(&self.loading.days).last().cloned();
            let candidates = self.page_of_loaded(filter, before, count);
            let is_sure = match (&oldest_unread, candidates.ids.last()) {
                (None, _) => true,
                // All on the page are of days that have been read, and so newer than the rest.
                (Some(day), Some(last)) => candidates.has_more && last.day() > *day,
                (Some(_), None) => false,
            };
            if is_sure {
                return Ok(candidates);
            }
            self.load_next_day()?;
        }
    }

    fn page_of_loaded(
        &self,
        filter: &JobFilter,
        before: Option<JobId>,
        count: usize,
    ) -> Candidates {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut ids = Vec::new();
        let mut take = |id: JobId, entry: &Outline| {
            if filter.matches_outline(id, entry) {
                ids.push(id);
            }
            ids.len() > count
        };
        let below = before.unwrap_or(JobId::MAX);
        if filter.job_ids.is_empty() {
            for (id, entry) in entries.range(..below).rev() {
                if take(*id, entry) {
                    break;
                }
            }
        } else {
            for id in filter.job_ids.range(..below).rev() {
                if let Some(entry) = entries.get(id)
                    && take(*id, entry)
                {
                    break;
                }
            }
        }
        let has_more = ids.len() > count;
        ids.truncate(count);
        Candidates { ids, has_more }
    }

    /// Up to `count` ids that begin so, oldest first, of all jobs or of one owner's. Reads the days
    /// that the prefix may be of.
    pub fn ids_with_prefix(
        &self,
        prefix: JobIdPrefix,
        owner: Option<&str>,
        count: usize,
    ) -> Result<Vec<JobId>, StoreError> {
        if let Some(id) = prefix.exact() {
            return Ok(vec![id]);
        }
        if let (Some(owner), true) = (owner, self.is_loaded()) {
            let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
            let own = entries.range(prefix.first..=prefix.last);
            let own = own.filter(|(_, entry)| *entry.owner == *owner).map(|(id, _)| *id);
            return Ok(own.take(count).collect());
        }
        let mut ids = Vec::new();
        for day in self.store.days()? {
            if prefix.first.day() <= day && day <= prefix.last.day() {
                let of_day = self.store.ids_of_day(&day)?;
                let fitting =
                    of_day.into_iter().filter(|id| prefix.first <= *id && *id <= prefix.last);
                ids.extend(fitting.filter(|id| self.is_of(*id, owner)).take(count));
            }
            if ids.len() >= count {
                break;
            }
        }
        ids.truncate(count);
        Ok(ids)
    }

    /// Whether a job is the owner's; every job is nobody's in particular.
    fn is_of(&self, id: JobId, owner: Option<&str>) -> bool {
        let Some(owner) = owner else { return true };
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let known = entries.get(&id).map(|entry| *entry.owner == *owner);
        drop(entries);
        // Its day has not been loaded yet.
        known.unwrap_or_else(|| self.get(id).is_ok_and(|job| job.accepted.owner == owner))
    }

    /// How many jobs are in each state, of all jobs or of one owner's.
    pub fn counts(&self, owner: Option<&str>) -> Counts {
        let is_complete = self.is_loaded();
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut by_state = BTreeMap::new();
        let is_counted = |entry: &&Outline| owner.is_none_or(|owner| *entry.owner == *owner);
        for entry in entries.values().filter(is_counted) {
            *by_state.entry(entry.kind).or_insert(0) += 1;
        }
        Counts { by_state, is_complete }
    }
}
