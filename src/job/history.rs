//! The way back from a state to the events that lead to it, and a job as it was at its start.
//!
//! What a state does not keep, such as when a stop began, is not made up: the event gets the
//! time of the start.

use std::sync::Arc;

use super::{
    Command, Time,
    state::{Claim, Event, ProcessIdentity, Running, State},
    view::{Accepted, Job},
};

/// The most bytes of each text of a spec that an abridged one keeps.
const TEXT_BYTES_MAX: usize = 256;
/// The most arguments that an abridged spec keeps.
const ARGUMENTS_MAX: usize = 4;

impl State {
    /// The shortest list of events that leads from QUEUED to this state.
    pub fn history(&self) -> Vec<Event> {
        match self {
            Self::Queued => Vec::new(),
            Self::Claimed(claim) => vec![Event::Claimed(claim.clone())],
            Self::Starting(running) => starting_history(running),
            Self::ExecFailed { running, errno } => {
                let mut events = starting_history(running);
                events.push(Event::ExecFailed { errno: *errno, time: running.started.time });
                events
            }
            Self::Running(running) => running_history(running),
            Self::Exited { running, exit, time } => {
                let mut events = running_history(running);
                events.push(Event::Exited { exit: *exit, time: *time });
                events
            }
            Self::Ended { running: Some(running), attempt: _, end } => {
                let mut events = running_history(running);
                events.push(Event::Ended(end.clone()));
                events
            }
            Self::Ended { running: None, attempt, end } => {
                let mut events = Vec::new();
                if *attempt > 1 {
                    // Nobody knows any more who had it; which attempt it was is what counts.
                    events.push(Event::Claimed(unknown_claim(*attempt, end.time)));
                }
                events.push(Event::Ended(end.clone()));
                events
            }
        }
    }
}

fn starting_history(running: &Running) -> Vec<Event> {
    vec![Event::Claimed(running.claim.clone()), Event::Starting(running.started.clone())]
}

fn running_history(running: &Running) -> Vec<Event> {
    let Running { claim, started, stop } = running;
    let mut events = vec![Event::Claimed(claim.clone()), Event::Started(started.clone())];
    events.extend(stop.map(|cause| Event::Stopping { cause, time: started.time }));
    events
}

fn unknown_claim(attempt: u32, time: Time) -> Claim {
    let supervisor = ProcessIdentity { pid: 0, start_ticks: 0, boot_id: String::new() };
    Claim { attempt, supervisor, time, announces: false }
}

impl Job {
    /// A job that has just been accepted.
    pub fn new(accepted: Arc<Accepted>) -> Self {
        Self {
            labels: accepted.spec.labels.clone(),
            accepted,
            state: State::Queued,
            revision: 1,
            cancel: None,
            kills: Vec::new(),
            timeout_change: None,
        }
    }

    /// The job as it was when it was accepted.
    #[must_use]
    pub fn as_accepted(&self) -> Self {
        Self::new(Arc::clone(&self.accepted))
    }

    /// The job as it was when its process started; `None` if it never did.
    #[must_use]
    pub fn as_started(&self) -> Option<Self> {
        let running = self.state.running()?;
        if matches!(self.state, State::Running(_)) {
            return Some(self.clone());
        }
        // It went on since, by at least one change.
        let state = State::Running(Running { stop: None, ..running.clone() });
        Some(Self { state, revision: self.revision - 1, ..self.clone() })
    }
}

impl Accepted {
    /// What was accepted without what may be long: for records whose size must have a bound.
    /// Labels and everything of fixed size stay whole.
    #[must_use]
    pub fn abridged(&self) -> Self {
        let mut short = self.clone();
        match &mut short.spec.command {
            Command::Shell(script) => cut(script),
            Command::Argv(argv) => {
                argv.truncate(ARGUMENTS_MAX);
                argv.iter_mut().for_each(cut);
            }
        }
        short.spec.env.clear();
        short.spec.env_files.clear();
        short.spec.secret_keys.clear();
        short.spec.working_dir.iter_mut().for_each(cut);
        cut(&mut short.working_dir);
        if let Some(account) = &mut short.confinement.run_as {
            account.groups.clear();
        }
        short
    }
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{
        End, EndCause, EndState, ExitStatus, OutputSize, Started, StopCause, transition,
    };

    fn process() -> ProcessIdentity {
        ProcessIdentity { pid: 7, start_ticks: 9, boot_id: "b".to_owned() }
    }

    fn end(exit: Option<ExitStatus>) -> End {
        End {
            state: if exit.is_some() { EndState::Failed } else { EndState::Lost },
            cause: if exit.is_some() { EndCause::Exited } else { EndCause::Lost },
            exit,
            message: String::new(),
            launch_error: None,
            time: Time::from_nanos(9),
            usage: None,
            stdout: OutputSize::default(),
            stderr: OutputSize::default(),
        }
    }

    #[test]
    fn the_history_of_every_state_leads_back_to_it() {
        let time = Time::from_nanos(5);
        let claim = Claim { attempt: 1, supervisor: process(), time, announces: true };
        let started = Started { process: process(), time, cgroup: None };
        let stopped = Some(StopCause::Cancel);
        let running = Running { claim: claim.clone(), started, stop: stopped };
        let exit = ExitStatus::Code(3);
        let states = [
            State::Queued,
            State::Claimed(claim),
            State::Running(running.clone()),
            State::Running(Running { stop: None, ..running.clone() }),
            State::Exited { running: running.clone(), exit, time },
            State::Ended { running: Some(running), attempt: 1, end: end(Some(exit)) },
            State::Ended { running: None, attempt: 1, end: end(None) },
            State::Ended { running: None, attempt: 3, end: end(None) },
        ];
        for state in states {
            let replayed = state
                .history()
                .iter()
                .try_fold(State::Queued, |state, event| transition(&state, event));
            assert_eq!(replayed, Ok(state));
        }
    }
}
