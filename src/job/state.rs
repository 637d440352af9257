//! The life of a job: `Queued → Claimed → Running → Exited → Ended`.
//!
//! Each state holds what is known in it and nothing else. `transition` is the only way from one
//! to the next. Callers see `Queued` and `Claimed` as QUEUED, `Running` and `Exited` as RUNNING.

use super::{
    Time,
    end::{End, EndCause, EndState, ExitStatus, StopCause},
};

/// A process, recorded so that it is never mistaken for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
    /// The boot it belongs to: `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// A supervisor has taken the job and is about to start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The attempt, from 1.
    pub attempt: u32,
    /// The supervisor.
    pub supervisor: ProcessIdentity,
    /// When.
    pub time: Time,
}

/// The main process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The main process.
    pub process: ProcessIdentity,
    /// When.
    pub time: Time,
    /// The control group that was made for the job, as a path below `/`.
    pub cgroup: Option<String>,
}

/// All that is known of a job that has started and not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Who supervises it.
    pub claim: Claim,
    /// What runs.
    pub started: Started,
    /// Why we asked it to stop, if we did.
    pub stop: Option<StopCause>,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits to be started.
    Queued,
    /// Is being started.
    Claimed(Claim),
    /// Its main process runs.
    Running(Running),
    /// Its main process has ended; others may still write output.
    Exited {
        /// What ran.
        running: Running,
        /// How the main process ended.
        exit: ExitStatus,
        /// When.
        time: Time,
    },
    /// It has ended.
    Ended {
        /// What ran, if it ever did.
        running: Option<Running>,
        /// The attempt that was the last.
        attempt: u32,
        /// How.
        end: End,
    },
}

/// What can happen to a job. Each is one line of its `state.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A supervisor took it.
    Claimed(Claim),
    /// Its main process was started.
    Started(Started),
    /// We began to stop it.
    Stopping {
        /// Why.
        cause: StopCause,
        /// When.
        time: Time,
    },
    /// Its main process ended.
    Exited {
        /// How.
        exit: ExitStatus,
        /// When.
        time: Time,
    },
    /// It ended, and all its output is on disk.
    Ended(End),
}

/// An event that cannot happen in a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {state} cannot become {event}")]
pub struct Impossible {
    /// The state.
    pub state: &'static str,
    /// The event.
    pub event: &'static str,
}

/// The state after `event` in `state`.
#[expect(clippy::match_same_arms, reason = "every pair is written out, state by state")]
pub fn transition(state: &State, event: &Event) -> Result<State, Impossible> {
    let impossible = || Impossible { state: state.name(), event: event.name() };
    match (state, event) {
        (State::Queued, Event::Claimed(claim)) => Ok(State::Claimed(claim.clone())),
        (State::Queued, Event::Ended(end)) if is_end_without_start(end) => Ok(unstarted(1, end)),
        (
            State::Queued,
            Event::Started(_) | Event::Stopping { .. } | Event::Exited { .. } | Event::Ended(_),
        ) => Err(impossible()),

        (State::Claimed(claim), Event::Started(started)) => Ok(State::Running(Running {
            claim: claim.clone(),
            started: started.clone(),
            stop: None,
        })),
        (State::Claimed(claim), Event::Ended(end)) if is_end_without_start(end) => {
            Ok(unstarted(claim.attempt, end))
        }
        (
            State::Claimed(_),
            Event::Claimed(_) | Event::Stopping { .. } | Event::Exited { .. } | Event::Ended(_),
        ) => Err(impossible()),

        // The first reason to stop is the one that counts.
        (State::Running(running), Event::Stopping { cause, .. }) => {
            let stop = running.stop.or(Some(*cause));
            Ok(State::Running(Running { stop, ..running.clone() }))
        }
        (State::Running(running), Event::Exited { exit, time }) => {
            Ok(State::Exited { running: running.clone(), exit: *exit, time: *time })
        }
        (State::Running(running), Event::Ended(end)) if end.launch_error.is_none() => {
            Ok(ended(running, end))
        }
        (State::Running(_), Event::Claimed(_) | Event::Started(_) | Event::Ended(_)) => {
            Err(impossible())
        }

        // What the main process was is decided; stopping now concerns its leftovers only.
        (State::Exited { .. }, Event::Stopping { .. }) => Ok(state.clone()),
        (State::Exited { running, exit, .. }, Event::Ended(end)) if end.exit == Some(*exit) => {
            Ok(ended(running, end))
        }
        (
            State::Exited { .. },
            Event::Claimed(_) | Event::Started(_) | Event::Exited { .. } | Event::Ended(_),
        ) => Err(impossible()),

        (
            State::Ended { .. },
            Event::Claimed(_)
            | Event::Started(_)
            | Event::Stopping { .. }
            | Event::Exited { .. }
            | Event::Ended(_),
        ) => Err(impossible()),
    }
}

fn ended(running: &Running, end: &End) -> State {
    let attempt = running.claim.attempt;
    State::Ended { running: Some(running.clone()), attempt, end: end.clone() }
}

fn unstarted(attempt: u32, end: &End) -> State {
    State::Ended { running: None, attempt, end: end.clone() }
}

fn is_end_without_start(end: &End) -> bool {
    if end.exit.is_some() {
        return false;
    }
    match (end.state, end.cause) {
        (EndState::Cancelled, EndCause::Cancelled)
        | (EndState::TimedOut, EndCause::QueueTimedOut)
        | (EndState::Lost, EndCause::Lost) => true,
        (EndState::Failed, EndCause::LaunchFailed) => end.launch_error.is_some(),
        (
            EndState::Succeeded
            | EndState::Failed
            | EndState::Cancelled
            | EndState::TimedOut
            | EndState::Lost,
            _,
        ) => false,
    }
}

impl State {
    /// The word for this state in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Claimed(_) => "being started",
            Self::Running(_) => "running",
            Self::Exited { .. } => "being drained",
            Self::Ended { .. } => "ended",
        }
    }

    /// Whether nothing can happen any more.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }

    /// Whether the job has not been started yet and may still be.
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::Queued | Self::Claimed(_))
    }

    /// The end, if it has come.
    pub fn end(&self) -> Option<&End> {
        match self {
            Self::Ended { end, .. } => Some(end),
            Self::Queued | Self::Claimed(_) | Self::Running(_) | Self::Exited { .. } => None,
        }
    }

    /// What runs or ran, if it ever did.
    pub fn running(&self) -> Option<&Running> {
        match self {
            Self::Running(running) | Self::Exited { running, .. } => Some(running),
            Self::Ended { running, .. } => running.as_ref(),
            Self::Queued | Self::Claimed(_) => None,
        }
    }

    /// The supervisor, from its claim to the end of the job.
    pub fn supervisor(&self) -> Option<&ProcessIdentity> {
        match self {
            Self::Claimed(claim) => Some(&claim.supervisor),
            Self::Running(running) | Self::Exited { running, .. } => {
                Some(&running.claim.supervisor)
            }
            Self::Queued | Self::Ended { .. } => None,
        }
    }

    /// The attempt that this state belongs to, from 1.
    pub fn attempt(&self) -> u32 {
        match self {
            Self::Queued => 1,
            Self::Claimed(claim) => claim.attempt,
            Self::Running(running) | Self::Exited { running, .. } => running.claim.attempt,
            Self::Ended { attempt, .. } => *attempt,
        }
    }
}

impl Event {
    /// The word for what a job becomes by this event; also its `kind` on disk.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Claimed(_) => "claimed",
            Self::Started(_) => "started",
            Self::Stopping { .. } => "stopping",
            Self::Exited { .. } => "exited",
            Self::Ended(_) => "ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::{LaunchError, OutputSize};

    fn process(pid: i32) -> ProcessIdentity {
        ProcessIdentity { pid, start_ticks: 7, boot_id: "boot".to_owned() }
    }

    fn end(state: EndState, cause: EndCause, exit: Option<ExitStatus>) -> End {
        let launch_error = (cause == EndCause::LaunchFailed).then(|| LaunchError {
            stage: "exec".to_owned(),
            errno: 2,
            errno_name: "ENOENT".to_owned(),
        });
        let (stdout, stderr) = (OutputSize::default(), OutputSize::default());
        let (message, time) = (String::new(), Time::from_nanos(5));
        End { state, cause, exit, message, launch_error, time, usage: None, stdout, stderr }
    }

    fn events() -> impl Strategy<Value = Event> {
        let time = Time::from_nanos(3);
        let claim = Claim { attempt: 1, supervisor: process(10), time };
        let started = Started { process: process(11), time, cgroup: None };
        let exit = ExitStatus::Code(3);
        prop_oneof![
            Just(Event::Claimed(claim)),
            Just(Event::Started(started)),
            Just(Event::Stopping { cause: StopCause::Cancel, time }),
            Just(Event::Stopping { cause: StopCause::Timeout, time }),
            Just(Event::Exited { exit, time }),
            Just(Event::Ended(end(EndState::Failed, EndCause::Exited, Some(exit)))),
            Just(Event::Ended(end(EndState::Cancelled, EndCause::Cancelled, None))),
            Just(Event::Ended(end(EndState::Failed, EndCause::LaunchFailed, None))),
            Just(Event::Ended(end(EndState::Lost, EndCause::Lost, None))),
        ]
    }

    fn rank(state: &State) -> u8 {
        match state {
            State::Queued => 0,
            State::Claimed(_) => 1,
            State::Running(_) => 2,
            State::Exited { .. } => 3,
            State::Ended { .. } => 4,
        }
    }

    proptest! {
        #[test]
        fn a_life_only_goes_forward_and_an_end_is_final(
            events in proptest::collection::vec(events(), 0..40),
        ) {
            let mut state = State::Queued;
            for event in &events {
                let was = state.clone();
                match transition(&state, event) {
                    Ok(next) => {
                        prop_assert!(!was.is_ended());
                        prop_assert!(rank(&next) >= rank(&was));
                        state = next;
                    }
                    Err(error) => prop_assert_eq!(error.event, event.name()),
                }
            }
        }

        #[test]
        fn the_first_reason_to_stop_and_the_seen_exit_stand(
            events in proptest::collection::vec(events(), 0..40),
        ) {
            let mut state = State::Queued;
            let (mut first_stop, mut first_exit) = (None, None);
            for event in &events {
                let Ok(next) = transition(&state, event) else { continue };
                if let (State::Running(_), Event::Stopping { cause, .. }) = (&state, event) {
                    first_stop = first_stop.or(Some(*cause));
                }
                if let Event::Exited { exit, .. } = event {
                    first_exit = Some(*exit);
                }
                state = next;
            }
            if let Some(running) = state.running() {
                prop_assert_eq!(running.stop, first_stop);
            }
            if let (Some(exit), Some(end)) = (first_exit, state.end()) {
                prop_assert_eq!(end.exit, Some(exit));
            }
        }

        #[test]
        fn a_job_that_never_started_has_no_exit_status(
            events in proptest::collection::vec(events(), 0..40),
        ) {
            let mut state = State::Queued;
            for event in &events {
                state = transition(&state, event).unwrap_or(state);
            }
            if let State::Ended { running: None, end, .. } = &state {
                prop_assert_eq!(end.exit, None);
            }
        }
    }

    #[test]
    fn a_queued_job_cannot_succeed() {
        let success = end(EndState::Succeeded, EndCause::Exited, None);
        assert!(transition(&State::Queued, &Event::Ended(success)).is_err());
    }
}
