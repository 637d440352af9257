//! The life of a job: `Queued → Claimed → Starting → Running → Exited → Ended`.
//!
//! Each state holds what is known in it and nothing else. `transition` is the only way from one
//! to the next. Callers see all before `Running` as QUEUED, `Running` and `Exited` as RUNNING.
//!
//! `Starting` is written by the new process itself, last thing before it executes the program:
//! without it the program has not run, with it it may have, whoever dies in between.

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
    /// The start is announced by `Starting`: without that the program has not run. Supervisors of
    /// the first format version did not.
    pub announces: bool,
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
    /// Its process is about to execute the program, or has.
    Starting(Running),
    /// The program could not be executed.
    ExecFailed {
        /// What was about to run.
        running: Running,
        /// The error number.
        errno: i32,
    },
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
    /// Its process is about to execute the program.
    Starting(Started),
    /// The program could not be executed.
    ExecFailed {
        /// The error number.
        errno: i32,
        /// When.
        time: Time,
    },
    /// Its main process was started.
    Started(Started),
    /// Its supervisor died and another took its place.
    Adopted {
        /// The new one.
        supervisor: ProcessIdentity,
        /// When.
        time: Time,
    },
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
pub fn transition(state: &State, event: &Event) -> Result<State, Impossible> {
    let next = match state {
        State::Queued => from_queued(event),
        State::Claimed(claim) => from_claimed(claim, event),
        State::Starting(running) => from_starting(running, event),
        State::ExecFailed { running, errno } => from_exec_failed(running, *errno, event),
        State::Running(running) => from_running(running, event),
        State::Exited { running, exit, time } => from_exited(running, *exit, *time, event),
        State::Ended { .. } => None,
    };
    next.ok_or(Impossible { state: state.name(), event: event.name() })
}

fn from_queued(event: &Event) -> Option<State> {
    match event {
        Event::Claimed(claim) => Some(State::Claimed(claim.clone())),
        Event::Ended(end) => unstarted(1, end),
        Event::Starting(_)
        | Event::ExecFailed { .. }
        | Event::Started(_)
        | Event::Adopted { .. }
        | Event::Stopping { .. }
        | Event::Exited { .. } => None,
    }
}

fn from_claimed(claim: &Claim, event: &Event) -> Option<State> {
    let running =
        |started: &Started| Running { claim: claim.clone(), started: started.clone(), stop: None };
    match event {
        // The one before died, and the program has not run: it is the same attempt.
        Event::Claimed(next) if claim.announces => Some(State::Claimed(next.clone())),
        Event::Starting(started) => Some(State::Starting(running(started))),
        // As the first format version had it.
        Event::Started(started) => Some(State::Running(running(started))),
        Event::Ended(end) => unstarted(claim.attempt, end),
        Event::Claimed(_)
        | Event::ExecFailed { .. }
        | Event::Adopted { .. }
        | Event::Stopping { .. }
        | Event::Exited { .. } => None,
    }
}

fn from_starting(running: &Running, event: &Event) -> Option<State> {
    match event {
        Event::Started(started) if started.process == running.started.process => {
            Some(State::Running(Running { started: started.clone(), ..running.clone() }))
        }
        Event::ExecFailed { errno, .. } => {
            Some(State::ExecFailed { running: running.clone(), errno: *errno })
        }
        Event::Adopted { supervisor, .. } => Some(State::Starting(running.adopted(supervisor))),
        Event::Ended(end) => unstarted(running.claim.attempt, end),
        Event::Claimed(_)
        | Event::Starting(_)
        | Event::Started(_)
        | Event::Stopping { .. }
        | Event::Exited { .. } => None,
    }
}

fn from_exec_failed(running: &Running, errno: i32, event: &Event) -> Option<State> {
    match event {
        Event::Adopted { supervisor, .. } => {
            Some(State::ExecFailed { running: running.adopted(supervisor), errno })
        }
        Event::Ended(end) if end.launch_error.is_some() => unstarted(running.claim.attempt, end),
        Event::Claimed(_)
        | Event::Starting(_)
        | Event::ExecFailed { .. }
        | Event::Started(_)
        | Event::Stopping { .. }
        | Event::Exited { .. }
        | Event::Ended(_) => None,
    }
}

fn from_running(running: &Running, event: &Event) -> Option<State> {
    match event {
        Event::Adopted { supervisor, .. } => Some(State::Running(running.adopted(supervisor))),
        // The first reason to stop is the one that counts.
        Event::Stopping { cause, .. } => {
            let stop = running.stop.or(Some(*cause));
            Some(State::Running(Running { stop, ..running.clone() }))
        }
        Event::Exited { exit, time } => {
            Some(State::Exited { running: running.clone(), exit: *exit, time: *time })
        }
        Event::Ended(end) if end.launch_error.is_none() => Some(ended(running, end)),
        Event::Claimed(_)
        | Event::Starting(_)
        | Event::ExecFailed { .. }
        | Event::Started(_)
        | Event::Ended(_) => None,
    }
}

fn from_exited(running: &Running, exit: ExitStatus, time: Time, event: &Event) -> Option<State> {
    match event {
        Event::Adopted { supervisor, .. } => {
            Some(State::Exited { running: running.adopted(supervisor), exit, time })
        }
        // What the main process was is decided; stopping now concerns its leftovers only.
        Event::Stopping { .. } => Some(State::Exited { running: running.clone(), exit, time }),
        Event::Ended(end) if end.exit == Some(exit) => Some(ended(running, end)),
        Event::Claimed(_)
        | Event::Starting(_)
        | Event::ExecFailed { .. }
        | Event::Started(_)
        | Event::Exited { .. }
        | Event::Ended(_) => None,
    }
}

impl Running {
    fn adopted(&self, supervisor: &ProcessIdentity) -> Self {
        let claim = Claim { supervisor: supervisor.clone(), ..self.claim.clone() };
        Self { claim, ..self.clone() }
    }
}

fn ended(running: &Running, end: &End) -> State {
    let attempt = running.claim.attempt;
    State::Ended { running: Some(running.clone()), attempt, end: end.clone() }
}

/// The end of a job that never ran, if it can be one.
fn unstarted(attempt: u32, end: &End) -> Option<State> {
    is_end_without_start(end).then(|| State::Ended { running: None, attempt, end: end.clone() })
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
            Self::Claimed(_) | Self::Starting(_) => "being started",
            Self::ExecFailed { .. } => "not executable",
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
        match self {
            Self::Queued | Self::Claimed(_) | Self::Starting(_) | Self::ExecFailed { .. } => true,
            Self::Running(_) | Self::Exited { .. } | Self::Ended { .. } => false,
        }
    }

    /// The end, if it has come.
    pub fn end(&self) -> Option<&End> {
        match self {
            Self::Ended { end, .. } => Some(end),
            Self::Queued
            | Self::Claimed(_)
            | Self::Starting(_)
            | Self::ExecFailed { .. }
            | Self::Running(_)
            | Self::Exited { .. } => None,
        }
    }

    /// What runs or ran, if it ever did.
    pub fn running(&self) -> Option<&Running> {
        match self {
            Self::Running(running) | Self::Exited { running, .. } => Some(running),
            Self::Ended { running, .. } => running.as_ref(),
            Self::Queued | Self::Claimed(_) | Self::Starting(_) | Self::ExecFailed { .. } => None,
        }
    }

    /// The supervisor, from its claim to the end of the job.
    pub fn supervisor(&self) -> Option<&ProcessIdentity> {
        match self {
            Self::Claimed(claim) => Some(&claim.supervisor),
            Self::Starting(running)
            | Self::ExecFailed { running, .. }
            | Self::Running(running)
            | Self::Exited { running, .. } => Some(&running.claim.supervisor),
            Self::Queued | Self::Ended { .. } => None,
        }
    }

    /// The attempt that this state belongs to, from 1.
    pub fn attempt(&self) -> u32 {
        match self {
            Self::Queued => 1,
            Self::Claimed(claim) => claim.attempt,
            Self::Starting(running)
            | Self::ExecFailed { running, .. }
            | Self::Running(running)
            | Self::Exited { running, .. } => running.claim.attempt,
            Self::Ended { attempt, .. } => *attempt,
        }
    }
}

impl Event {
    /// Whether it has to outlive a power cut where that is promised: nothing runs twice, ends stay.
    pub fn is_promise(&self) -> bool {
        matches!(self, Self::Claimed(_) | Self::Ended(_))
    }

    /// The word for what a job becomes by this event; also its `kind` on disk.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Claimed(_) => "claimed",
            Self::Starting(_) => "starting",
            Self::ExecFailed { .. } => "exec_failed",
            Self::Started(_) => "started",
            Self::Adopted { .. } => "adopted",
            Self::Stopping { .. } => "stopping",
            Self::Exited { .. } => "exited",
            Self::Ended(_) => "ended",
        }
    }
}

#[cfg(test)]
mod tests;
