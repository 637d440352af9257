//! What is asked of a running job through its folder: cancel, signals, another time limit.

use crate::{
    job::{KillRecord, StopCause, Time},
    store::{KillRequest, KillScope},
    sys::{clock, signal},
};

use super::{SupervisorError, attempt::Attempt, system};

impl Attempt {
    /// Reads all requests and carries out those that are new.
    pub(super) fn look_at_requests(&mut self) -> Result<(), SupervisorError> {
        self.look_at_timeout()?;
        if self.stop.is_none()
            && let Some(request) = self.record.dir().cancel()?
        {
            let grace = self.record.accepted().spec.stop_grace_or_default();
            let grace = request.grace_period.unwrap_or(grace);
            self.begin_stop(StopCause::Cancel, request.reason, None, grace)?;
        }
        for request in self.record.dir().kill_requests()? {
            self.kill(&request)?;
        }
        Ok(())
    }

    fn look_at_timeout(&mut self) -> Result<(), SupervisorError> {
        let Some((number, timeout)) = self.record.dir().timeout_request()? else { return Ok(()) };
        if number <= self.timeout_change {
            return Ok(());
        }
        self.timeout_change = number;
        let is_over = self.deadline().is_some_and(|at| clock::since_boot() >= at);
        // Either the new limit holds from now on, or the old one had already run out.
        let is_taken = self.stop.is_none() && self.exit.is_none() && !is_over;
        if is_taken {
            self.timeout = timeout;
        }
        Ok(self.record.answer_timeout(number, is_taken)?)
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
        Ok(self.record.dir().remove_kill_request(name)?)
    }
}
