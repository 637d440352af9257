//! Events in the form of the wire.

use std::sync::Arc;

use crate::{
    api,
    job::{Job, StateKind, Time},
    service::{JobApi, convert},
    store::{EventKind, JobEvent, MatchRecord, Stream},
    sys::clock,
};

/// The type of an event on the wire.
pub(super) fn event_type(kind: EventKind) -> api::EventType {
    match kind {
        EventKind::Created => api::EventType::Created,
        EventKind::Started => api::EventType::Started,
        EventKind::Updated => api::EventType::Updated,
        EventKind::Ended => api::EventType::Ended,
        EventKind::Deleted => api::EventType::Deleted,
        EventKind::Matched => api::EventType::OutputMatched,
        EventKind::Log => api::EventType::Log,
    }
}

/// An event, with the whole job where the contract has it.
pub(super) fn event(api: &JobApi, event: &JobEvent) -> api::JobEvent {
    let whole = match event.kind {
        EventKind::Created
        | EventKind::Started
        | EventKind::Updated
        | EventKind::Ended
        | EventKind::Matched => event.job.as_ref().map(|job| api.shown(job)),
        EventKind::Deleted | EventKind::Log => None,
    };
    let job = whole.unwrap_or_else(|| api::Job {
        job_id: event.id.to_string(),
        revision: event.revision,
        ..api::Job::default()
    });
    let previous = event
        .previous
        .map_or(api::JobState::Unspecified, |kind: StateKind| convert::job_state(kind));
    api::JobEvent {
        r#type: event_type(event.kind).into(),
        time: Some(convert::timestamp(event.time)),
        sequence: event.sequence,
        previous_state: previous.into(),
        job: Some(job),
        log: None,
        r#match: event.matched.as_ref().map(matched),
    }
}

fn matched(record: &MatchRecord) -> api::OutputMatched {
    let stream = match record.stream {
        Stream::Stdout => api::LogStream::Stdout,
        Stream::Stderr => api::LogStream::Stderr,
    };
    api::OutputMatched {
        name: record.name.clone(),
        stream: stream.into(),
        offset: record.offset,
        end_offset: record.end_offset,
        text: record.text.clone(),
    }
}

/// A job as a snapshot shows it.
pub(super) fn snapshot(api: &JobApi, job: &Arc<Job>) -> api::JobEvent {
    api::JobEvent {
        r#type: api::EventType::Snapshot.into(),
        time: Some(convert::timestamp(Time::from(clock::now()))),
        job: Some(api.shown(job)),
        ..api::JobEvent::default()
    }
}
