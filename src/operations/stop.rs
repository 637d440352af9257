//! Cancelling, signalling and deleting.

use std::{sync::Arc, time::Duration};

use crate::{
    job::{Actor, Durability, EndState, Job, JobId, State, StopRequest, Time},
    store::{KillRequest, KillScope, StoreError},
    sys::{clock, faults, signal},
    watcher,
};

use super::{OperationError, Operations, wait_for};

/// How long a supervisor has to answer a request: far more than it needs on a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a killed job has to end: the supervisor's own limit for what cannot be killed, and
/// some more.
const DEATH_LIMIT: Duration = Duration::from_secs(30);

impl Operations {
    /// Asks a job to stop. When this returns, the request is durable; a job that had not been
    /// started has ended.
    pub fn cancel(&self, id: JobId, request: &StopRequest) -> Result<Arc<Job>, OperationError> {
        if let Some(grace) = request.grace_period {
            let fault = self.defaults.policy.check_timeout("grace_period", grace);
            if let Some(violation) = fault {
                return Err(OperationError::Invalid(vec![violation]));
            }
        }
        let job = self.catalog.get(id)?;
        if let Some(end) = job.state.end() {
            return match end.state {
                EndState::Cancelled => Ok(job),
                EndState::Succeeded | EndState::Failed | EndState::TimedOut | EndState::Lost => {
                    Err(OperationError::Ended(id))
                }
            };
        }
        if job.cancel.is_some() {
            return Ok(job);
        }
        let dir = self.catalog.store().job_dir(id);
        dir.request_cancel(request, self.is_synced())?;
        // From here on the marker decides. A queued job ends at once, unless a supervisor has
        // it already: then that one finds the marker.
        if !self.queue.cancel(id, request)? {
            let (job, _) = wait_for(self, id, ANSWER_LIMIT, |job| !job.state.is_waiting())?;
            watcher::poke(&job);
        }
        Ok(self.watcher.look(id)?)
    }

    /// Sends one signal now. Tells whether any process got it.
    pub fn kill(
        &self,
        id: JobId,
        signal: i32,
        scope: KillScope,
        actor: Actor,
    ) -> Result<(Arc<Job>, bool), OperationError> {
        let job = self.watcher.look(id)?;
        match &job.state {
            State::Ended { .. } => return Ok((job, false)),
            State::Queued => return Err(OperationError::NotStarted(id)),
            State::Claimed(_)
            | State::Starting(_)
            | State::ExecFailed { .. }
            | State::Running(_)
            | State::Exited { .. } => {}
        }
        let nonce = clock::random_u64();
        let nonce =
            nonce.map_err(|source| OperationError::System { action: "name a request", source })?;
        let name = format!("{nonce:016x}");
        let time = Time::from(clock::now());
        let request = KillRequest { name: name.clone(), signal, scope, time, actor };
        let dir = self.catalog.store().job_dir(id);
        dir.request_kill(&request)?;
        let answered = self.wait_for_kill(id, &name);
        // Answered, or of no use to anybody any more.
        let _ = dir.remove_kill_request(&name);
        answered
    }

    fn wait_for_kill(&self, id: JobId, name: &str) -> Result<(Arc<Job>, bool), OperationError> {
        let answer = |job: &Job| job.kills.iter().find(|kill| kill.request == name).cloned();
        // One that is being started has nobody yet who could take the request.
        let (job, _) = wait_for(self, id, ANSWER_LIMIT, |job| !job.state.is_waiting())?;
        watcher::poke(&job);
        let is_over = |job: &Job| answer(job).is_some() || job.state.is_ended();
        let (job, is_over) = wait_for(self, id, ANSWER_LIMIT, is_over)?;
        if !is_over {
            return Err(OperationError::NoAnswer(id));
        }
        let delivered = answer(&job).is_some_and(|kill| kill.delivered);
        Ok((job, delivered))
    }

    /// Removes a job and its folder; with `force` one that has not ended is killed first.
    pub fn delete(&self, id: JobId, force: bool, actor: Actor) -> Result<(), OperationError> {
        if !force {
            return self.delete_marked(id, force, actor);
        }
        // Who waits for its end is told of its removal instead.
        self.catalog.set_deleting(id, true);
        let deleted = self.delete_marked(id, force, actor);
        self.catalog.set_deleting(id, false);
        deleted
    }

    fn delete_marked(&self, id: JobId, force: bool, actor: Actor) -> Result<(), OperationError> {
        let job = match self.catalog.get(id) {
            Ok(job) => job,
            // A folder that cannot be read can be removed all the same.
            Err(error @ StoreError::Corrupt { .. }) => {
                let dir = self.catalog.store().job_dir(id);
                let is_held = crate::sys::lock::is_held(&dir.lock_path()).unwrap_or(false);
                if is_held {
                    return Err(error.into());
                }
                self.catalog.store().hide(id, self.is_synced())?;
                self.watcher.forget(id, None);
                self.catalog.store().dispose(id, None);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let job = if job.state.is_ended() {
            job
        } else if force {
            self.kill_to_the_end(id, actor)?
        } else {
            return Err(OperationError::Active(id));
        };
        self.catalog.note_read(&job);
        let accepted = Arc::clone(&job.accepted);
        let is_synced = accepted.durability == Durability::Power;
        faults::point("delete.begun");
        self.catalog.store().hide(id, is_synced)?;
        faults::point("delete.hidden");
        // Told while its files are still there: a start after a crash finds them and tells it.
        self.watcher.forget(id, Some(job));
        faults::point("delete.told");
        self.catalog.store().dispose(id, Some(&accepted));
        faults::point("delete.disposed");
        Ok(())
    }

    fn kill_to_the_end(&self, id: JobId, actor: Actor) -> Result<Arc<Job>, OperationError> {
        let request = StopRequest {
            time: Time::from(clock::now()),
            reason: "deleted by force".to_owned(),
            actor: actor.clone(),
            grace_period: Some(Duration::ZERO),
        };
        match self.cancel(id, &request) {
            // It may end by itself just now.
            Ok(_) | Err(OperationError::Ended(_)) => {}
            Err(error) => return Err(error),
        }
        // An earlier request to cancel may have left it a long grace.
        match self.kill(id, signal::KILL, KillScope::Tree, actor) {
            Ok(_) | Err(OperationError::NotStarted(_)) => {}
            Err(error) => return Err(error),
        }
        match wait_for(self, id, DEATH_LIMIT, |job| job.state.is_ended())? {
            (job, true) => Ok(job),
            (_, false) => Err(OperationError::NoAnswer(id)),
        }
    }
}
