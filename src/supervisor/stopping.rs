//! Stopping a job: for a limit, because it was asked for, or because nothing may be left of it.

use std::time::Duration;

use crate::{
    job::{Event, StopCause, Time},
    sys::{clock, faults, signal, tree},
};

use super::{
    SupervisorError,
    attempt::{Attempt, Stop},
    system, tell,
};

/// How long the death of a killed tree is waited for; what is left then cannot be killed.
const KILL_LIMIT: Duration = Duration::from_secs(15);

impl Attempt {
    /// Begins what a limit asks for, and kills what has had its grace.
    pub(super) fn enforce_limits(&mut self, now: Duration) -> Result<(), SupervisorError> {
        let is_over = |deadline: Option<Duration>| deadline.is_some_and(|at| now >= at);
        let grace = self.record.accepted().spec.stop_grace_or_default();
        if self.exit.is_none() && self.stop.is_none() {
            if is_over(self.deadline()) {
                let limit = self.timeout;
                self.begin_stop(StopCause::Timeout, String::new(), limit, grace)?;
            } else if is_over(self.idle_deadline()) {
                let limit = self.record.accepted().spec.idle_timeout;
                self.begin_stop(StopCause::IdleTimeout, String::new(), limit, grace)?;
            }
        }
        if self.stop.is_none()
            && let Some(exceeded) = self.capture.exceeded()
        {
            // If it has ended, what is left of it must not write on either.
            let reason = tell::exceeded(exceeded);
            self.begin_stop(StopCause::OutputLimit, reason, None, grace)?;
        }
        if let Some(stop) = &mut self.stop
            && is_over(stop.kill_at)
        {
            stop.kill_at = None;
            self.kill_tree()?;
        }
        Ok(())
    }

    /// Sends the stop signal, or SIGKILL if there is no grace. An end seen from here on is ours.
    pub(super) fn begin_stop(
        &mut self,
        cause: StopCause,
        reason: String,
        limit: Option<Duration>,
        grace: Duration,
    ) -> Result<(), SupervisorError> {
        // It may have ended since the last look: then that end stands.
        self.note_exit()?;
        if self.exit.is_some() {
            let is_for_all = matches!(cause, StopCause::Cancel | StopCause::OutputLimit);
            return if is_for_all { self.stop_leftovers(grace) } else { Ok(()) };
        }
        // Written before the signal: whoever reads on knows why the process ends.
        let stopping = Event::Stopping { cause, time: Time::from(clock::now()) };
        let written = self.record.append(&stopping);
        self.tolerate(written);
        let kill_at = Some(clock::since_boot() + grace);
        faults::point("supervisor.stopping");
        self.stop = Some(Stop { cause, reason, limit, kill_at });
        if !grace.is_zero() {
            let stop_signal = self.record.accepted().spec.stop_signal_or_default();
            self.signal_tree(stop_signal)?;
            // A stopped process would not see its signal before the grace is over.
            self.signal_tree(signal::CONTINUE)?;
        }
        Ok(())
    }

    /// Asks what outlives the main process to stop, and gives it no longer than `grace`. How the
    /// main process ended stands.
    fn stop_leftovers(&mut self, grace: Duration) -> Result<(), SupervisorError> {
        let Some(exit) = self.exit.as_mut().filter(|exit| !exit.is_stopping) else { return Ok(()) };
        exit.is_stopping = true;
        exit.drain_until = exit.drain_until.min(clock::since_boot() + grace);
        if !grace.is_zero() {
            self.signal_tree(self.record.accepted().spec.stop_signal_or_default())?;
            self.signal_tree(signal::CONTINUE)?;
        }
        Ok(())
    }

    /// Sends a signal to every process of the job; tells how many got it.
    pub(super) fn signal_tree(&self, signal: i32) -> Result<usize, SupervisorError> {
        let listed = self.family.list().map_err(system("list processes"))?;
        Ok(tree::signal_each(&listed, signal))
    }

    /// Kills every process of the job; tells how many there were.
    pub(super) fn kill_tree(&mut self) -> Result<usize, SupervisorError> {
        let list = || self.family.list();
        let found = list().map_err(system("list processes"))?.len();
        if let Some(group) = &self.group {
            // At once and for all; what left the group is found by the walk that follows.
            let _ = group.kill();
        }
        let reap = || drop(self.main.reap_others());
        self.leftovers.survivors =
            tree::kill_all(list, reap, KILL_LIMIT).map_err(system("kill the tree"))?;
        Ok(found)
    }
}
