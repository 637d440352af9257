//! One line of the journal: an event as JSON with a checksum, as the slots of a job have it.
//!
//! The size of a line has a bound: of a long spec it keeps what is short. Who reads finds the
//! whole in the job's folder for as long as that is there.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::event::{EventKind, JobEvent, OutputSpan, Told};
use crate::{
    job::{Accepted, Job, JobId, Outline, State, StateKind, TimeoutChange, transition},
    store::{
        matches,
        record::{self, Record, RecordError, wrong},
        requests_record as asked, slots, span_text, spec_record,
    },
};

/// The longest spec that stands in a line as it is, in bytes.
const SPEC_BYTES_MAX: usize = 4 * 1024;
/// The most bytes of a line: labels twice, sixteen signals, a request to cancel, all escaped.
pub(in crate::store) const LINE_BYTES_MAX: usize = 512 * 1024;

/// What a scan reads of a line.
#[derive(Deserialize)]
pub(super) struct Summary {
    #[serde(rename = "seq")]
    pub(super) sequence: u64,
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) revision: u64,
    #[serde(default)]
    pub(super) told: Option<ToldText>,
}

/// `[revision, state, facts, attempt, stdout, stderr, matches]`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ToldText(u64, String, u32, u32, u64, u64, u64);

impl ToldText {
    pub(super) fn of(told: &Told) -> Self {
        let Told { revision, kind, facts, attempt, logged: [stdout, stderr], matches } = *told;
        Self(revision, state_name(kind).to_owned(), facts, attempt, stdout, stderr, matches)
    }

    pub(super) fn told(&self) -> Option<Told> {
        let Self(revision, kind, facts, attempt, stdout, stderr, matches) = self;
        Some(Told {
            revision: *revision,
            kind: state(kind)?,
            facts: *facts,
            attempt: *attempt,
            logged: [*stdout, *stderr],
            matches: *matches,
        })
    }
}

fn state_name(kind: StateKind) -> &'static str {
    match kind {
        StateKind::Queued => "QUEUED",
        StateKind::Running => "RUNNING",
        StateKind::Succeeded => "SUCCEEDED",
        StateKind::Failed => "FAILED",
        StateKind::Cancelled => "CANCELLED",
        StateKind::TimedOut => "TIMED_OUT",
        StateKind::Lost => "LOST",
    }
}

fn state(name: &str) -> Option<StateKind> {
    StateKind::ALL.into_iter().find(|kind| state_name(*kind) == name)
}

/// The line for an event, its newline included. `told` is what has been told of the job then;
/// none if nothing is left to tell.
pub(super) fn encode(event: &JobEvent, told: Option<&Told>) -> String {
    let JobEvent { sequence, kind, time, previous, id, revision, job, outline, output, matched } =
        event;
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    put("seq", json!(sequence));
    put("kind", json!(kind.name()));
    put("time", json!(time.to_string()));
    put("id", json!(id.to_string()));
    put("revision", json!(revision));
    if let Some(previous) = previous {
        put("previous", json!(state_name(*previous)));
    }
    if let Some(told) = told {
        put("told", json!(ToldText::of(told)));
    }
    if let Some(OutputSpan { attempt, from, to }) = output {
        put("output", json!({"attempt": attempt, "from": from, "to": to}));
    }
    if let Some(Outline { kind, create_time, owner, labels }) = outline {
        let (state, create_time) = (state_name(*kind), create_time.to_string());
        let (owner, labels) = (&**owner, &**labels);
        let outline =
            json!({"state": state, "create_time": create_time, "owner": owner, "labels": labels});
        put("outline", outline);
    }
    if let Some(matched) = matched {
        put("match", Value::Object(matches::members(matched)));
    }
    if *kind != EventKind::Log
        && let Some(job) = job
    {
        put_job(&mut members, job);
    }
    let mut text = serde_json::to_string(&members).unwrap_or_default();
    if members.contains_key("events")
        && let Some(job) = job
    {
        text.pop();
        let whole = spec_record::text(&job.accepted);
        if whole.len() <= SPEC_BYTES_MAX {
            text += ",\"accepted\":";
            text += &whole;
        } else {
            text += ",\"abridged\":";
            text += &spec_record::text(&job.accepted.abridged());
        }
        text.push('}');
    }
    slots::seal_text(&mut text);
    text.push('\n');
    text
}

fn put_job(members: &mut Map<String, Value>, job: &Job) {
    let Job { accepted, state, revision: _, labels, cancel, kills, timeout_change } = job;
    let history = state.history();
    let events = (1..).zip(&history).map(|(number, event)| record::event_members(number, event));
    let events: Vec<Value> = events.map(Value::Object).collect();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    put("events", Value::Array(events));
    if *labels != accepted.spec.labels {
        put("labels", json!(labels));
    }
    if let Some(cancel) = cancel {
        put("cancel", asked::stop_request_value(cancel));
    }
    if !kills.is_empty() {
        let kills = (1..).zip(kills).map(|(count, kill)| asked::kill_value(count, kill));
        put("kills", Value::Array(kills.collect()));
    }
    if let Some(TimeoutChange { number, timeout, answer }) = timeout_change {
        let timeout = timeout.map(span_text::seconds);
        put("timeout", json!({"number": number, "timeout": timeout, "answer": answer}));
    }
}

/// What a scan needs of a line; `None` if the line is not a whole one.
pub(super) fn summary(line: &str) -> Option<Summary> {
    if slots::is_sealed(line) { serde_json::from_str(line).ok() } else { None }
}

/// The event of a line. `whole` finds what was accepted of a job whose record is abridged.
pub(super) fn decode(
    line: &str,
    whole: impl FnOnce(JobId) -> Option<Arc<Accepted>>,
) -> Result<JobEvent, RecordError> {
    if !slots::is_sealed(line) {
        return Err(wrong("crc", "is missing or wrong"));
    }
    let mut members: Map<String, Value> =
        serde_json::from_str(line).map_err(|error| wrong("line", error.to_string()))?;
    let accepted = members.remove("accepted");
    let abridged = members.remove("abridged");
    let record = Record(&members);
    let id: JobId = record.text("id")?.parse().map_err(|error| wrong("id", format!("{error}")))?;
    let kind = record.text("kind")?;
    let kind =
        EventKind::of_name(kind).ok_or_else(|| wrong("kind", format!("{kind:?} is not known")))?;
    let revision = record.number("revision")?;
    let stored = |value: Value| spec_record::decode(value.to_string().as_bytes()).map(Arc::new);
    let accepted = match (accepted, abridged) {
        (Some(accepted), _) => Some(stored(accepted)?),
        (None, Some(abridged)) => Some(match whole(id) {
            Some(accepted) => accepted,
            None => stored(abridged)?,
        }),
        (None, None) => None,
    };
    let job = match accepted {
        None => None,
        Some(accepted) => Some(Arc::new(job(record, revision, accepted)?)),
    };
    let output = match record.object_if_any("output") {
        None => None,
        Some(span) => Some(OutputSpan {
            attempt: span.number("attempt")?,
            from: sizes(span, "from")?,
            to: sizes(span, "to")?,
        }),
    };
    Ok(JobEvent {
        sequence: record.number("seq")?,
        kind,
        time: record.time("time")?,
        previous: record.text_if_any("previous").and_then(state),
        id,
        revision,
        job,
        outline: record.object_if_any("outline").map(outline).transpose()?,
        output,
        matched: match record.object_if_any("match") {
            None => None,
            Some(matched) => Some(matches::record(matched)?),
        },
    })
}

fn job(record: Record<'_>, revision: u64, accepted: Arc<Accepted>) -> Result<Job, RecordError> {
    let events = record.0.get("events").and_then(Value::as_array);
    let events = events.ok_or_else(|| wrong("events", "is missing"))?;
    let mut state = State::Queued;
    for members in events {
        let members = members.as_object().ok_or_else(|| wrong("events", "is malformed"))?;
        let event = record::event(members)?;
        state = transition(&state, &event).map_err(|error| wrong("events", error.to_string()))?;
    }
    let labels = match record.0.get("labels") {
        None => accepted.spec.labels.clone(),
        Some(labels) => BTreeMap::<String, String>::deserialize(labels)
            .map_err(|error| wrong("labels", error.to_string()))?,
    };
    let cancel = record.0.get("cancel").and_then(Value::as_object);
    let kills = record.0.get("kills").and_then(Value::as_array);
    let kills = kills.into_iter().flatten().filter_map(Value::as_object);
    let timeout_change = match record.object_if_any("timeout") {
        None => None,
        Some(change) => Some(TimeoutChange {
            number: change.number("number")?,
            timeout: span_text::span("timeout", change.text_if_any("timeout"))?,
            answer: change.0.get("answer").and_then(Value::as_bool),
        }),
    };
    Ok(Job {
        labels,
        state,
        revision,
        cancel: cancel.map(|cancel| asked::stop_request_of(cancel, accepted.create_time)),
        kills: kills.map(|kill| asked::kill(Record(kill))).collect::<Result<_, _>>()?,
        timeout_change,
        accepted,
    })
}

fn outline(record: Record<'_>) -> Result<Outline, RecordError> {
    let kind = state(record.text("state")?).ok_or_else(|| wrong("state", "is not known"))?;
    let labels = record.0.get("labels").cloned().unwrap_or_default();
    let labels: BTreeMap<String, String> =
        serde_json::from_value(labels).map_err(|error| wrong("labels", error.to_string()))?;
    Ok(Outline {
        kind,
        create_time: record.time("create_time")?,
        owner: record.text("owner")?.into(),
        labels: Arc::new(labels),
    })
}

fn sizes(record: Record<'_>, member: &str) -> Result<[u64; 2], RecordError> {
    let sizes = record.0.get(member).cloned().unwrap_or_default();
    serde_json::from_value(sizes).map_err(|error| wrong(member, error.to_string()))
}

#[cfg(test)]
pub(super) mod tests;
