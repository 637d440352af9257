//! An event as it is told, and what has been told of a job once it is.

use std::sync::Arc;

use super::recent::weight;
use crate::{
    job::{Job, StateKind, Time, TimeoutChange},
    store::{EventKind, JobEvent, Told},
};

/// How many bytes an event takes in memory, roughly.
pub(super) fn event_weight(event: &JobEvent) -> usize {
    size_of::<JobEvent>() + event.job.as_ref().map_or(0, |job| weight(job))
}

/// An event about a job, not yet told.
pub(super) fn event(
    kind: EventKind,
    time: Time,
    previous: Option<StateKind>,
    job: &Arc<Job>,
) -> JobEvent {
    JobEvent {
        sequence: 0,
        kind,
        time,
        previous,
        id: job.id(),
        revision: job.revision,
        job: Some(Arc::clone(job)),
        outline: None,
        output: None,
        matched: None,
    }
}

/// What has been told of a job once it was told as it is here.
pub(super) fn told_of(job: &Job, before: Option<Told>) -> Told {
    let attempt = job.state.attempt();
    // Another attempt begins anew.
    let before = before.filter(|before| before.attempt == attempt);
    Told {
        revision: job.revision,
        kind: job.state.kind(),
        facts: facts(job),
        attempt,
        logged: before.map_or([0, 0], |before| before.logged),
        matches: before.map_or(0, |before| before.matches),
    }
}

/// Stands for all that callers see of a job besides its state and its end; a claim alone is not
/// seen. Goes to disk, so it depends on values only.
pub(super) fn facts(job: &Job) -> u32 {
    let mut text = String::new();
    for (key, value) in &job.labels {
        text += &format!("{key}={value}\n");
    }
    if let Some(cancel) = &job.cancel {
        text += &format!("cancel {} {}\n", cancel.time, cancel.reason);
    }
    for kill in &job.kills {
        text += &format!("kill {}\n", kill.request);
    }
    if let Some(TimeoutChange { number, timeout: _, answer }) = job.timeout_change {
        text += &format!("timeout {number} {answer:?}\n");
    }
    if let Some(running) = job.state.running() {
        let is_stopping = running.stop.is_some();
        text += &format!("running {} {is_stopping}\n", running.started.time);
    }
    crc32fast::hash(text.as_bytes())
}
