//! Changing what may be changed of an accepted job: its labels and its run time limit.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    job::{Job, JobId, State, Time, Violation, check_labels},
    store::JobRecord,
    sys::clock,
    watcher,
};

use super::{OperationError, Operations, one_at_a_time, wait_for};

/// How long a supervisor has to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What becomes of a run time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutWish {
    /// The job ends this long from now; from its start, if it is still queued.
    FromNow(Duration),
    /// There is no limit any more.
    Clear,
}

impl Operations {
    /// Changes labels: removes first, then sets.
    pub fn update_labels(
        &self,
        id: JobId,
        set: &BTreeMap<String, String>,
        remove: &[String],
    ) -> Result<Arc<Job>, OperationError> {
        one_at_a_time(&self.changes, &id, || {
            let job = self.catalog.get(id)?;
            let mut labels = job.labels.clone();
            labels.retain(|key, _| !remove.contains(key));
            labels.extend(set.clone());
            let mut violations = check_labels("set", &labels);
            if !set.is_empty() {
                violations.extend(self.defaults.policy.check_labels("set", &labels));
            }
            if !violations.is_empty() {
                return Err(OperationError::Invalid(violations));
            }
            let dir = self.catalog.store().job_dir(id);
            let change = dir.labels_changes()? + 1;
            if !job.state.is_ended() {
                dir.replace_labels(change, &labels, self.is_synced())?;
                return Ok(self.watcher.look(id)?);
            }
            // A start after a crash looks at marked jobs and tells what has not been told.
            self.catalog.store().mark_active(id)?;
            let replaced = dir.replace_labels(change, &labels, self.is_synced());
            let told = replaced.and_then(|()| Ok(self.catalog.replace_ended(dir.read()?)));
            self.catalog.store().unmark_active(id);
            Ok(told?)
        })
    }

    /// Replaces the run time limit. Either the new one holds, or the old one had run out.
    pub fn update_timeout(&self, id: JobId, wish: TimeoutWish) -> Result<Arc<Job>, OperationError> {
        let policy = &self.defaults.policy;
        if let (TimeoutWish::Clear, Some(_)) = (wish, policy.timeout_max) {
            let rule = "is not allowed where max_timeout is set on this server; give a timeout";
            return Err(OperationError::Invalid(vec![Violation::new("clear", rule)]));
        }
        one_at_a_time(&self.changes, &id, || {
            let job = self.watcher.look(id)?;
            if job.cancel.is_some() {
                // Accepted, whether or not the supervisor has come to it.
                return Err(OperationError::Ended(id));
            }
            let number = job.timeout_change.map_or(0, |change| change.number) + 1;
            let dir = self.catalog.store().job_dir(id);
            if job.state == State::Queued {
                // The lock keeps a supervisor from starting it meanwhile.
                let record = JobRecord::try_take(dir.clone())?;
                if let Some(record) = record.filter(|record| *record.state() == State::Queued) {
                    let timeout = self.allowed_timeout(wish, Duration::ZERO)?;
                    dir.request_timeout(number, timeout, self.is_synced())?;
                    drop(record);
                    return Ok(self.watcher.look(id)?);
                }
            }
            self.update_running(id, wish, number)
        })
    }

    /// The limit from the start of the job on, as the accepted one is, if the policy allows it.
    fn allowed_timeout(
        &self,
        wish: TimeoutWish,
        ran: Duration,
    ) -> Result<Option<Duration>, OperationError> {
        let TimeoutWish::FromNow(span) = wish else { return Ok(None) };
        let timeout = ran + span;
        match self.defaults.policy.check_timeout("timeout", timeout) {
            Some(violation) => Err(OperationError::Invalid(vec![violation])),
            None => Ok(Some(timeout)),
        }
    }

    fn update_running(
        &self,
        id: JobId,
        wish: TimeoutWish,
        number: u64,
    ) -> Result<Arc<Job>, OperationError> {
        let (job, _) = wait_for(self, id, ANSWER_LIMIT, |job| !job.state.is_waiting())?;
        let State::Running(running) = &job.state else { return Err(OperationError::Ended(id)) };
        let ran = Time::from(clock::now()).since(running.started.time);
        let timeout = self.allowed_timeout(wish, ran)?;
        let dir = self.catalog.store().job_dir(id);
        dir.request_timeout(number, timeout, self.is_synced())?;
        watcher::poke(&job);
        let answer =
            |job: &Job| job.timeout_change.filter(|change| change.number == number)?.answer;
        let is_over = |job: &Job| answer(job).is_some() || job.state.is_ended();
        let (job, is_over) = wait_for(self, id, ANSWER_LIMIT, is_over)?;
        match answer(&job) {
            Some(true) => Ok(job),
            Some(false) => Err(OperationError::Ended(id)),
            None if is_over => Err(OperationError::Ended(id)),
            None => Err(OperationError::NoAnswer(id)),
        }
    }
}
