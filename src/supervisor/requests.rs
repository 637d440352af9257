//! What is asked of a running job through its folder: cancel, signals, another time limit.

use crate::{
    job::{KillRecord, StopCause, Time},
    store::{KillRequest, KillScope, StoreError},
    sys::{clock, signal},
};

use super::{SupervisorError, attempt::Attempt, system};

impl Attempt {
    /// Reads all requests and carries out those that are new.
    ///
    /// A request that cannot be read or answered now is told of in the log and looked at again:
    /// the job is worth more than the answer.
    pub(super) fn look_at_requests(&mut self) -> Result<(), SupervisorError> {
        self.look_at_timeout();
        if self.stop.is_none()
            && let Some(request) = self.tolerate(self.record.dir().cancel()).flatten()
        {
            let grace = self.record.accepted().spec.stop_grace_or_default();
            let grace = request.grace_period.unwrap_or(grace);
            self.begin_stop(StopCause::Cancel, request.reason, None, grace)?;
        }
        for request in self.tolerate(self.record.dir().kill_requests()).unwrap_or_default() {
            if !self.carried_out.contains(&request.name) {
                self.kill(&request)?;
            }
        }
        Ok(())
    }

    /// What came of something that the job can do without.
    pub(super) fn tolerate<T>(&self, outcome: Result<T, StoreError>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                let id = self.record.accepted().id;
                eprintln!("jobwarden supervisor: job {id} goes on without this: {error}");
                None
            }
        }
    }

    fn look_at_timeout(&mut self) {
        let request = self.tolerate(self.record.dir().timeout_request()).flatten();
        let Some((number, timeout)) = request else { return };
        if number <= self.timeout_change {
            return;
        }
        self.timeout_change = number;
        let is_over = self.deadline().is_some_and(|at| clock::since_boot() >= at);
        // Either the new limit holds from now on, or the old one had already run out.
        let is_taken = self.stop.is_none() && self.exit.is_none() && !is_over;
        if is_taken {
            self.timeout = timeout;
        }
        self.tolerate(self.record.answer_timeout(number, is_taken));
    }

    fn kill(&mut self, request: &KillRequest) -> Result<(), SupervisorError> {
        let KillRequest { name, signal, scope, time: _, actor } = request;
        let is_alive = self.exit.is_none();
        let reached = match scope {
            KillScope::Leader if is_alive => {
                usize::from(self.main.signal(*signal).map_err(system("signal the job"))?)
            }
            KillScope::Leader => 0,
            KillScope::Tree if *signal == signal::KILL => self.kill_tree()?,
            KillScope::Tree => self.signal_tree(*signal)?,
        };
        if is_alive && reached > 0 {
            self.signals_sent.push(*signal);
        }
        let kill = KillRecord {
            time: Time::from(clock::now()),
            signal: *signal,
            actor: actor.clone(),
            delivered: reached > 0,
            request: name.clone(),
        };
        // A signal that was sent is sent, whether or not there is room to say so.
        let _ = self.record.record_kill(&kill);
        if self.tolerate(self.record.dir().remove_kill_request(name)).is_none() {
            self.carried_out.push(name.clone());
        }
        Ok(())
    }
}
