//! What has happened, told once and in order: written to the journal, kept for a while, passed on.
//!
//! A job as it is now is compared with what has been told of it, and each transition in between
//! is told, seen or not. A watcher is a position: it reads here while it keeps up and from the
//! journal's files when it does not. It never holds anything back for others.
//!
//! While the journal cannot be written nothing is told, and nothing is forgotten: what is due is
//! worked out again as soon as there is room.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    job::{Job, JobId, Outline, StateKind, Time},
    store::{
        EventKind, JobEvent, Journal, JournalReader, MatchRecord, OutputSpan, StoreError, Told,
    },
    sys::{clock, faults},
};

use super::told::{event, event_weight, facts, told_of};

/// The most events that are kept in memory.
const EVENTS_MAX: usize = 16_384;
/// The most bytes that they take there, roughly.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The events asked for are not in memory any more: the journal may have them.
#[derive(Debug, PartialEq, Eq)]
pub struct NotKept;

/// The events.
#[derive(Debug)]
pub(super) struct Events {
    epoch: String,
    inner: Mutex<Inner>,
    head: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    journal: Journal,
    ring: VecDeque<Arc<JobEvent>>,
    bytes: usize,
    /// Jobs of which something could not be told, at most one entry for each job of the store.
    behind: BTreeMap<JobId, Behind>,
}

/// A job of which something could not be told yet.
#[derive(Clone, Debug)]
struct Behind {
    job: Arc<Job>,
    matches: Vec<MatchRecord>,
    is_removed: bool,
}

impl Events {
    pub(super) fn new(journal: Journal) -> Self {
        let (epoch, head) = (journal.epoch().to_owned(), watch::Sender::new(journal.head()));
        let inner = Inner { journal, ring: VecDeque::new(), bytes: 0, behind: BTreeMap::new() };
        Self { epoch, inner: Mutex::new(inner), head }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the run of sequences without a gap.
    pub(super) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The sequence of the newest event, and a way to wait for a newer one.
    pub(super) fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// The sequence of the newest event that is written, also before anybody was woken for it.
    pub(super) fn told_head(&self) -> u64 {
        self.lock().journal.head()
    }

    /// The oldest position that can be read from.
    pub(super) fn oldest(&self) -> u64 {
        self.lock().journal.oldest()
    }

    /// Up to `count` events after `position`.
    pub(super) fn after(&self, position: u64, count: usize) -> Result<Vec<Arc<JobEvent>>, NotKept> {
        if position >= *self.head.borrow() {
            return Ok(Vec::new());
        }
        let inner = self.lock();
        let first = inner.ring.front().map(|event| event.sequence).ok_or(NotKept)?;
        let skip = (position + 1).checked_sub(first).ok_or(NotKept)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Ok(inner.ring.iter().skip(skip).take(count).cloned().collect())
    }

    /// A reader of the journal's files.
    pub(super) fn reader(&self) -> JournalReader {
        self.lock().journal.reader()
    }

    /// What has been told of a job that had not ended then.
    pub(super) fn told(&self, id: JobId) -> Option<Told> {
        self.lock().journal.told(id)
    }

    /// The jobs of which more may have to be told.
    pub(super) fn unended(&self) -> Vec<JobId> {
        self.lock().journal.unended()
    }

    /// Takes it that a job as it is now is known to everybody.
    pub(super) fn assume(&self, job: &Job) {
        self.lock().journal.assume(job.id(), told_of(job, None));
    }

    /// Tells what has not been told of a job, which is now as given and has had these matches.
    /// False if something of it has to wait until the journal can be written again.
    pub(super) fn tell(&self, job: &Arc<Job>, matches: &[MatchRecord]) -> bool {
        let mut inner = self.lock();
        let told = inner.tell(job, matches);
        match &told {
            Ok(()) => drop(inner.behind.remove(&job.id())),
            Err(error) => {
                let matches = matches.to_vec();
                let behind = Behind { job: Arc::clone(job), matches, is_removed: false };
                inner.fall_behind(behind, error);
            }
        }
        self.wake(inner);
        told.is_ok()
    }

    /// Tells of a change of a job that has ended.
    pub(super) fn tell_updated(&self, job: &Arc<Job>) {
        let mut inner = self.lock();
        let (now, kind) = (Time::from(clock::now()), job.state.kind());
        let event = event(EventKind::Updated, now, Some(kind), job);
        if let Err(error) = inner.append(event, None) {
            tracing::warn!(job = %job.id(), %error, "a change of an ended job is not told");
        }
        self.wake(inner);
    }

    /// Tells that a job is gone.
    pub(super) fn tell_removed(&self, job: &Arc<Job>) {
        let mut inner = self.lock();
        match inner.tell_removed(job) {
            Ok(()) => drop(inner.behind.remove(&job.id())),
            Err(error) => {
                let (job, matches) = (Arc::clone(job), Vec::new());
                inner.fall_behind(Behind { job, matches, is_removed: true }, &error);
            }
        }
        self.wake(inner);
    }

    /// Tells that a job is gone whose folder cannot be read any more.
    pub(super) fn tell_vanished(&self, id: JobId, outline: Option<Outline>) {
        let mut inner = self.lock();
        let told = inner.journal.told(id);
        let event = JobEvent {
            sequence: 0,
            kind: EventKind::Deleted,
            time: Time::from(clock::now()),
            previous: told.map(|told| told.kind).or(outline.as_ref().map(|outline| outline.kind)),
            id,
            revision: told.map_or(0, |told| told.revision),
            job: None,
            outline,
            output: None,
            matched: None,
        };
        match inner.append(event, None) {
            Ok(()) => drop(inner.behind.remove(&id)),
            Err(error) => tracing::warn!(job = %id, %error, "a removal is not told"),
        }
        self.wake(inner);
    }

    /// Tells how much output an attempt of an active job has written, if that is news.
    pub(super) fn tell_output(&self, job: &Arc<Job>, attempt: u32, to: [u64; 2]) {
        let mut inner = self.lock();
        // What was ended or removed since has told it all.
        let Some(told) = inner.journal.told(job.id()) else { return };
        let from = if told.attempt == attempt { told.logged } else { [0, 0] };
        // Two looks may come in the wrong order.
        let to = [to[0].max(from[0]), to[1].max(from[1])];
        if to == from {
            return;
        }
        let output = Some(OutputSpan { attempt, from, to });
        let now = Time::from(clock::now());
        let event = JobEvent { output, ..event(EventKind::Log, now, Some(told.kind), job) };
        // What cannot be told now is told with what comes next.
        let _ = inner.append(event, Some(Told { attempt, logged: to, ..told }));
        self.wake(inner);
    }

    /// Tells what could not be told before, and drops history that is due. For a moment in which
    /// nothing else is to be done. Gives the jobs of which nothing is left to tell.
    pub(super) fn tend(&self) -> Vec<JobId> {
        let mut inner = self.lock();
        let mut done = Vec::new();
        inner.journal.trim(Time::from(clock::now()));
        while let Some((id, behind)) = inner.behind.first_key_value() {
            let (id, behind) = (*id, behind.clone());
            let told = if behind.is_removed {
                inner.tell_removed(&behind.job)
            } else {
                inner.tell(&behind.job, &behind.matches)
            };
            if told.is_err() {
                break;
            }
            inner.behind.remove(&id);
            if behind.is_removed || behind.job.state.is_ended() {
                done.push(id);
            }
            if inner.behind.is_empty() {
                tracing::info!("events are told again");
            }
        }
        self.wake(inner);
        done
    }

    /// Makes the journal last, for the end of the service.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        self.lock().journal.close()
    }

    /// Wakes those who wait for events. Never under the lock: they may hold what they read the
    /// head by while they ask for it.
    fn wake(&self, inner: MutexGuard<'_, Inner>) {
        let head = inner.journal.head();
        drop(inner);
        self.head.send_if_modified(|known| {
            let is_news = head > *known;
            *known = head.max(*known);
            is_news
        });
    }
}

impl Inner {
    /// Appends the events that lead from what was told of a job to what it is now.
    fn tell(&mut self, job: &Arc<Job>, matches: &[MatchRecord]) -> Result<(), StoreError> {
        let mut told = match self.journal.told(job.id()) {
            Some(told) => told,
            None => self.tell_created(job)?,
        };
        if job.revision < told.revision {
            return Ok(());
        }
        let kind = job.state.kind();
        if told.kind == StateKind::Queued
            && let Some(started) = job.as_started()
        {
            let time =
                started.state.running().map_or(job.accepted.create_time, |it| it.started.time);
            let next = told_of(&started, Some(told));
            let event = event(EventKind::Started, time, Some(told.kind), &Arc::new(started));
            self.append(event, Some(next))?;
            told = next;
        }
        // Also what has changed since a start that is only told now.
        if told.kind == kind && facts(job) != told.facts {
            let time = Time::from(clock::now());
            let event = event(EventKind::Updated, time, Some(kind), job);
            self.append(event, Some(told_of(job, Some(told))))?;
        }
        let told = self.tell_matches(job, matches)?.unwrap_or(told);
        if let Some(end) = job.state.end() {
            let to = [end.stdout.size_bytes, end.stderr.size_bytes];
            let attempt = job.state.attempt();
            let from = if told.attempt == attempt { told.logged } else { [0, 0] };
            if from != to {
                // All of its output is told before its end is.
                let output = Some(OutputSpan { attempt, from, to });
                let written = event(EventKind::Log, end.time, Some(told.kind), job);
                let next = Told { attempt, logged: to, ..told };
                self.append(JobEvent { output, ..written }, Some(next))?;
            }
            self.append(event(EventKind::Ended, end.time, Some(told.kind), job), None)?;
        } else if told.revision < job.revision {
            // A change that callers do not see.
            self.journal.assume(job.id(), Told { revision: job.revision, ..told });
        }
        Ok(())
    }

    /// Tells of the matches that are new, and what has been told of the job then.
    fn tell_matches(
        &mut self,
        job: &Arc<Job>,
        matches: &[MatchRecord],
    ) -> Result<Option<Told>, StoreError> {
        let Some(mut told) = self.journal.told(job.id()) else { return Ok(None) };
        let known = told.matches;
        for matched in matches.iter().filter(|it| it.number > known) {
            let event = event(EventKind::Matched, matched.time, Some(told.kind), job);
            told.matches = matched.number;
            let record = Some(matched.clone());
            self.append(JobEvent { matched: record, ..event }, Some(told))?;
        }
        Ok(Some(told))
    }

    fn tell_created(&mut self, job: &Arc<Job>) -> Result<Told, StoreError> {
        let created = Arc::new(job.as_accepted());
        let told = told_of(&created, None);
        let time = job.accepted.create_time;
        self.append(event(EventKind::Created, time, None, &created), Some(told))?;
        Ok(told)
    }

    fn tell_removed(&mut self, job: &Arc<Job>) -> Result<(), StoreError> {
        if job.state.is_ended() && self.journal.told(job.id()).is_some() {
            // Its end could not be told before.
            let behind = self.behind.get(&job.id());
            let matches = behind.map_or(Vec::new(), |behind| behind.matches.clone());
            self.tell(job, &matches)?;
        }
        let (now, kind) = (Time::from(clock::now()), job.state.kind());
        self.append(event(EventKind::Deleted, now, Some(kind), job), None)
    }

    fn append(&mut self, event: JobEvent, told: Option<Told>) -> Result<(), StoreError> {
        faults::point("journal.append");
        let event = Arc::new(self.journal.append(event, told)?);
        faults::point("journal.appended");
        self.bytes += event_weight(&event);
        self.ring.push_back(event);
        while (self.ring.len() > EVENTS_MAX || self.bytes > BYTES_MAX)
            && let Some(oldest) = self.ring.pop_front()
        {
            self.bytes -= event_weight(&oldest);
        }
        Ok(())
    }

    fn fall_behind(&mut self, mut behind: Behind, error: &StoreError) {
        if self.behind.is_empty() {
            tracing::warn!(%error, "the journal cannot be written: events wait until it can");
        }
        if let Some(before) = self.behind.remove(&behind.job.id()) {
            // Looks may come in the wrong order; what is removed stays so.
            behind.is_removed |= before.is_removed;
            if before.job.revision > behind.job.revision {
                behind.job = before.job;
            }
            if before.matches.len() > behind.matches.len() {
                behind.matches = before.matches;
            }
        }
        self.behind.insert(behind.job.id(), behind);
    }
}

#[cfg(test)]
mod tests;
