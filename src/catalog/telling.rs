//! What has happened: for those who watch it, and for a start that has to catch up with it.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Catalog, NotKept};
use crate::{
    job::{Job, JobId},
    store::{HistoryGone, JobEvent, JournalReader, MATCHES_MAX, MatchRecord, StoreError},
};

impl Catalog {
    /// Names the run of sequences without a gap that all events of this service belong to.
    pub fn epoch(&self) -> &str {
        self.events.epoch()
    }

    /// The sequence of the newest event, and a way to wait for a newer one.
    pub fn event_head(&self) -> watch::Receiver<u64> {
        self.events.head()
    }

    /// The sequence of the newest event that is told, also before anybody was woken for it.
    pub fn told_head(&self) -> u64 {
        self.events.told_head()
    }

    /// The oldest position that can be read from.
    pub fn oldest_position(&self) -> u64 {
        self.events.oldest()
    }

    /// Up to `count` events after a position, if they are in memory.
    pub fn events_after(&self, position: u64, count: usize) -> Result<Vec<Arc<JobEvent>>, NotKept> {
        self.events.after(position, count)
    }

    /// A reader of all events that are kept, for `stored_events`.
    pub fn event_reader(&self) -> JournalReader {
        self.events.reader()
    }

    /// Up to `count` events after a position, from the disk. Blocks.
    pub fn stored_events(
        &self,
        reader: &mut JournalReader,
        position: u64,
        count: usize,
    ) -> Result<Result<Vec<JobEvent>, HistoryGone>, StoreError> {
        let head = *self.events.head().borrow();
        reader.read(position, head, count)
    }

    /// Whether all that led a job to this revision has been told. One that is being told now may
    /// count as not told.
    pub fn is_told(&self, id: JobId, revision: u64) -> bool {
        match self.events.told(id) {
            Some(told) => told.revision >= revision,
            // It has ended, or nothing has been told yet.
            None => !self.is_active(id),
        }
    }

    /// Tells how much output an active job has written.
    pub fn tell_output(&self, job: &Arc<Job>, attempt: u32, sizes: [u64; 2]) {
        self.events.tell_output(job, attempt, sizes);
    }

    /// Tells what could not be told before, and drops history that is due.
    pub fn tend_events(&self) {
        for id in self.events.tend() {
            self.store.unmark_active(id);
        }
    }

    /// Makes what has been told last, for the end of the service.
    pub fn close_events(&self) -> Result<(), StoreError> {
        self.events.close()
    }

    /// Before a job of an earlier service is inserted: in a new epoch nobody needs to be told how
    /// it came to be as it is.
    pub fn assume_known(&self, job: &Job) {
        if self.before.is_new_epoch {
            self.events.assume(job);
        }
    }

    /// Tells of a job that ended, or changed after its end, and was marked because the service
    /// died before it could tell. False if it has to wait.
    pub fn tell_ended(&self, job: Job) -> bool {
        if self.before.is_new_epoch {
            return true;
        }
        let (id, job) = (job.id(), Arc::new(job));
        if self.events.told(id).is_some() {
            let matches = self.new_matches(&job);
            return self.events.tell(&job, &matches);
        } else if self.before.gone.get(&id).is_none_or(|gone| gone.revision < job.revision) {
            self.events.tell_updated(&job);
        }
        true
    }

    /// The jobs whose end was told lately and whose removal was not.
    pub fn ended_lately(&self) -> Vec<JobId> {
        let gone = self.before.gone.iter();
        gone.filter(|(_, gone)| !gone.is_deleted).map(|(id, _)| *id).collect()
    }

    /// Tells that a job is gone whose end was told lately and whose folder went while no service
    /// ran: what was told of it last is what is known of it.
    pub fn tell_vanished(&self, id: JobId) {
        let read = |sequence: u64| {
            let read = self.events.reader().read(sequence - 1, sequence, 1);
            read.ok()?.ok()?.pop()?.job
        };
        match self.before.gone.get(&id).and_then(|gone| read(gone.sequence)) {
            Some(job) => self.events.tell_removed(&job),
            None => self.events.tell_vanished(id, None),
        }
    }

    /// The matches of a job's output that have not been told. What cannot be read now is told
    /// with what comes next.
    pub(super) fn new_matches(&self, job: &Job) -> Vec<MatchRecord> {
        if job.accepted.spec.output_matches.is_empty() {
            return Vec::new();
        }
        let told = self.events.told(job.id()).map_or(0, |told| told.matches);
        let count = usize::try_from(MATCHES_MAX).unwrap_or(usize::MAX);
        self.store.job_dir(job.id()).matches(told, count).unwrap_or_default()
    }

    /// The jobs that had not ended by what has been told.
    pub fn told_active(&self) -> Vec<JobId> {
        self.events.unended()
    }

    /// Tells of a job that was removed, if the service died before it could; `job` is what its
    /// folder still tells.
    pub fn tell_removed(&self, id: JobId, job: Option<Job>) {
        let is_told = self.before.gone.get(&id).is_some_and(|gone| gone.is_deleted);
        if is_told || self.before.is_new_epoch {
            return;
        }
        match job {
            Some(job) => self.events.tell_removed(&Arc::new(job)),
            None if self.events.told(id).is_some() => self.events.tell_vanished(id, None),
            // Nobody has ever heard of it: its acceptance was cut short.
            None => {}
        }
    }
}
