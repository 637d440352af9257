//! The states of a job as callers see them: fewer than there are, and without what is in them.

use super::{end::EndState, state::State};

/// Where a job stands, in the words of the proto.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKind {
    /// Waits to be started, or is being started.
    Queued,
    /// Has started and has not ended, or its output is still being captured.
    Running,
    /// Ended with exit code 0.
    Succeeded,
    /// Ended otherwise, or could not be started.
    Failed,
    /// Ended after Cancel.
    Cancelled,
    /// Exceeded a time limit.
    TimedOut,
    /// Nobody can know how it ended.
    Lost,
}

impl StateKind {
    /// All of them, in the order of the proto.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
        Self::Lost,
    ];

    /// The word for it in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
            Self::Lost => "lost",
        }
    }

    /// Whether it never changes again.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::TimedOut | Self::Lost => true,
        }
    }
}

impl From<EndState> for StateKind {
    fn from(state: EndState) -> Self {
        match state {
            EndState::Succeeded => Self::Succeeded,
            EndState::Failed => Self::Failed,
            EndState::Cancelled => Self::Cancelled,
            EndState::TimedOut => Self::TimedOut,
            EndState::Lost => Self::Lost,
        }
    }
}

impl State {
    /// The state as callers see it.
    pub fn kind(&self) -> StateKind {
        match self {
            Self::Queued | Self::Claimed(_) | Self::Starting(_) | Self::ExecFailed { .. } => {
                StateKind::Queued
            }
            Self::Running(_) | Self::Exited { .. } => StateKind::Running,
            Self::Ended { end, .. } => end.state.into(),
        }
    }
}
