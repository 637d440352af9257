//! What happened to a job, as it stands in the journal.

use std::sync::Arc;

use crate::{
    job::{Job, JobId, Outline, StateKind, Time},
    store::MatchRecord,
};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The job was accepted.
    Created,
    /// Its process started.
    Started,
    /// Something else about it changed.
    Updated,
    /// It ended, and its output is complete.
    Ended,
    /// It was removed.
    Deleted,
    /// Output matched a pattern of the spec.
    Matched,
    /// Output was written. Told while somebody watches for it, and before the end.
    Log,
}

impl EventKind {
    const NAMES: [(Self, &'static str); 7] = [
        (Self::Created, "created"),
        (Self::Started, "started"),
        (Self::Updated, "updated"),
        (Self::Ended, "ended"),
        (Self::Deleted, "deleted"),
        (Self::Matched, "matched"),
        (Self::Log, "log"),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

/// Output that was written: from these offsets to those, standard output first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputSpan {
    /// By which attempt.
    pub attempt: u32,
    /// The sizes of both streams that earlier events have told of.
    pub from: [u64; 2],
    /// Their sizes now.
    pub to: [u64; 2],
}

/// One thing that happened to a job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEvent {
    /// Counts the events of the store.
    pub sequence: u64,
    /// What.
    pub kind: EventKind,
    /// When it happened.
    pub time: Time,
    /// The state before.
    pub previous: Option<StateKind>,
    /// Which job.
    pub id: JobId,
    /// Its revision after.
    pub revision: u64,
    /// The job after; none for output that is read back from disk, and with `Deleted` for one
    /// whose folder went before it was read.
    pub job: Option<Arc<Job>>,
    /// With `Deleted` and without a job: what was known of it, if anything.
    pub outline: Option<Outline>,
    /// With `Log` what was written.
    pub output: Option<OutputSpan>,
    /// With `Matched` where.
    pub matched: Option<MatchRecord>,
}

/// What has been told of a job that has not ended: what the next event is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The revision.
    pub revision: u64,
    /// The state.
    pub kind: StateKind,
    /// Stands for everything else that callers see; equal if that is.
    pub facts: u32,
    /// The attempt whose output the sizes are of.
    pub attempt: u32,
    /// How much of each stream events have told of.
    pub logged: [u64; 2],
    /// How many matches events have told of.
    pub matches: u64,
}

/// What has been told last of a job that has ended or is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The sequence of the event.
    pub sequence: u64,
    /// The revision.
    pub revision: u64,
    /// Whether its removal has been told.
    pub is_deleted: bool,
}
