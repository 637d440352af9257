//! What the folder of one job says, in the words of the reference: how far it has come, and counts.

use crate::job::StateKind;

use super::step::{Ending, Mark};

/// How far a job has come: each number is the name of a state, and a life counts upwards.
pub(super) const WAITS: u8 = 0;
pub(super) const CLAIMED: u8 = 1;
pub(super) const RUNS: u8 = 2;
pub(super) const EXITED: u8 = 3;
pub(super) const OVER: u8 = 4;

/// What the folder of a job says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) step: u8,
    pub(super) has_run: bool,
    pub(super) is_stopping: bool,
    pub(super) is_cancelled: bool,
    pub(super) exit: Option<i32>,
    pub(super) outcome: Option<StateKind>,
    /// Lines of `state.jsonl`.
    pub(super) lines: u64,
    pub(super) label_changes: u64,
    pub(super) limits_asked: u64,
    pub(super) limit_answered: u64,
    pub(super) kills: u64,
    /// The size of standard output, once it is over.
    pub(super) bytes: u64,
}

impl Facts {
    pub(super) fn revision(&self) -> u64 {
        let changes = self.label_changes + self.kills + self.limits_asked + self.limit_answered;
        1 + self.lines + changes + u64::from(self.is_cancelled)
    }

    pub(super) fn kind(&self) -> StateKind {
        match (self.outcome, self.step >= RUNS) {
            (Some(outcome), _) => outcome,
            (None, true) => StateKind::Running,
            (None, false) => StateKind::Queued,
        }
    }

    /// What callers see besides the state.
    pub(super) fn visible(&self) -> (bool, bool, u64, [u64; 2], u64) {
        let limit = [self.limits_asked, self.limit_answered];
        (self.is_stopping, self.is_cancelled, self.label_changes, limit, self.kills)
    }

    /// Whether a line may follow.
    pub(super) fn allows(&self, mark: Mark) -> bool {
        match mark {
            // Also anew, by a supervisor that follows a dead one: nothing had been started.
            Mark::Claimed => self.step <= CLAIMED,
            Mark::Started => self.step == CLAIMED,
            Mark::Stopping => self.step == RUNS || self.step == EXITED,
            Mark::Exited(_) => self.step == RUNS,
            Mark::Ended(Ending::Exit(code)) => {
                self.step == RUNS || (self.step == EXITED && self.exit == Some(code))
            }
            Mark::Ended(Ending::NotLaunched) => self.step < RUNS,
            Mark::Ended(Ending::Cancelled | Ending::QueueTimedOut | Ending::Lost) => {
                self.step < EXITED
            }
        }
    }

    pub(super) fn write(&mut self, mark: Mark, bytes: u64) {
        self.lines += 1;
        match mark {
            Mark::Claimed => self.step = CLAIMED,
            Mark::Started => (self.step, self.has_run) = (RUNS, true),
            Mark::Stopping => self.is_stopping |= self.step == RUNS,
            Mark::Exited(code) => (self.step, self.exit) = (EXITED, Some(code)),
            Mark::Ended(ending) => {
                self.step = OVER;
                self.bytes = if self.has_run { bytes } else { 0 };
                self.outcome = Some(match ending {
                    Ending::Exit(0) => StateKind::Succeeded,
                    Ending::Exit(_) | Ending::NotLaunched => StateKind::Failed,
                    Ending::Cancelled => StateKind::Cancelled,
                    Ending::QueueTimedOut => StateKind::TimedOut,
                    Ending::Lost => StateKind::Lost,
                });
            }
        }
    }
}
