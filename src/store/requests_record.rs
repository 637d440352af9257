//! The small files by which a job is asked for something, and the answers in `control.jsonl`.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use crate::job::{Actor, KillRecord, StopRequest, Time};

use super::{
    record::{Record, RecordError, wrong},
    slots, span_text,
};

/// Answered signals that are kept.
pub(super) const KILLS_MAX: usize = 16;
/// The slot of the answer to a change of the time limit; the signals come after it.
pub(super) const TIMEOUT_ANSWER_PLACE: usize = 0;
/// The most bytes of each text about an actor in a slot.
const ACTOR_TEXT_BYTES_MAX: usize = 64;

/// Which processes get a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillScope {
    /// Every process of the job.
    Tree,
    /// The main process.
    Leader,
}

/// A request for one signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillRequest {
    /// Names the request within the job: lower-case letters and digits.
    pub name: String,
    /// The signal's number.
    pub signal: i32,
    /// Who gets it.
    pub scope: KillScope,
    /// When it was asked for.
    pub time: Time,
    /// Who asked.
    pub actor: Actor,
}

fn bytes(value: &Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, RecordError> {
    serde_json::from_slice(bytes).map_err(|error| wrong("file", error.to_string()))
}

fn actor_value(actor: &Actor) -> Value {
    let Actor { principal, peer, request_id } = actor;
    let mut members = Map::new();
    for (name, text) in [("principal", principal), ("peer", peer), ("request_id", request_id)] {
        if !text.is_empty() {
            let end = text.floor_char_boundary(ACTOR_TEXT_BYTES_MAX);
            members.insert(name.to_owned(), json!(text[..end]));
        }
    }
    Value::Object(members)
}

fn actor(record: Record<'_>) -> Actor {
    let Some(record) = record.object_if_any("actor") else { return Actor::default() };
    let text = |name| record.text_if_any(name).unwrap_or_default().to_owned();
    Actor { principal: text("principal"), peer: text("peer"), request_id: text("request_id") }
}

pub(super) fn stop_request_bytes(request: &StopRequest) -> Vec<u8> {
    bytes(&stop_request_value(request))
}

pub(super) fn stop_request_value(request: &StopRequest) -> Value {
    let StopRequest { time, reason, actor, grace_period } = request;
    let mut value =
        json!({"time": time.to_string(), "reason": reason, "actor": actor_value(actor)});
    if let Some(grace) = grace_period {
        value["grace_period"] = json!(span_text::seconds(*grace));
    }
    value
}

/// What a marker says; its presence alone is a request, so nothing in it is an error.
pub(super) fn stop_request(bytes: &[u8], dropped: Time) -> StopRequest {
    stop_request_of(&object(bytes).unwrap_or_default(), dropped)
}

pub(super) fn stop_request_of(members: &Map<String, Value>, dropped: Time) -> StopRequest {
    let record = Record(members);
    StopRequest {
        time: record.time("time").unwrap_or(dropped),
        reason: record.text_if_any("reason").unwrap_or_default().to_owned(),
        actor: actor(record),
        grace_period: span_text::span("grace_period", record.text_if_any("grace_period"))
            .unwrap_or_default(),
    }
}

pub(super) fn labels_bytes(change: u64, labels: &BTreeMap<String, String>) -> Vec<u8> {
    bytes(&json!({"change": change, "labels": labels}))
}

pub(super) fn labels(bytes: &[u8]) -> Result<(BTreeMap<String, String>, u64), RecordError> {
    let members = object(bytes)?;
    let record = Record(&members);
    let labels = record.object("labels")?.0.iter();
    let labels = labels.map(|(key, value)| {
        let value =
            value.as_str().ok_or_else(|| wrong("labels", "has a value that is no string"))?;
        Ok((key.clone(), value.to_owned()))
    });
    Ok((labels.collect::<Result<_, RecordError>>()?, record.count("change")?))
}

pub(super) fn timeout_bytes(number: u64, timeout: Option<Duration>) -> Vec<u8> {
    bytes(&json!({"number": number, "timeout": timeout.map(span_text::seconds)}))
}

pub(super) fn timeout(bytes: &[u8]) -> Result<(u64, Option<Duration>), RecordError> {
    let members = object(bytes)?;
    let record = Record(&members);
    let timeout = span_text::span("timeout", record.text_if_any("timeout"))?;
    Ok((record.count("number")?, timeout))
}

pub(super) fn kill_request_bytes(request: &KillRequest) -> Vec<u8> {
    let KillRequest { name: _, signal, scope, time, actor } = request;
    let scope = match scope {
        KillScope::Tree => "tree",
        KillScope::Leader => "leader",
    };
    let time = time.to_string();
    bytes(&json!({"signal": signal, "scope": scope, "time": time, "actor": actor_value(actor)}))
}

pub(super) fn kill_request(name: &str, bytes: &[u8]) -> Option<KillRequest> {
    let members = object(bytes).ok()?;
    let record = Record(&members);
    let scope = match record.text("scope").ok()? {
        "tree" => KillScope::Tree,
        "leader" => KillScope::Leader,
        _ => return None,
    };
    Some(KillRequest {
        name: name.to_owned(),
        signal: record.number("signal").ok()?,
        scope,
        time: record.time("time").ok()?,
        actor: actor(record),
    })
}

/// The place and the line of the answer to a signal: the `count`th, from 1.
pub(super) fn kill_slot(count: u64, kill: &KillRecord) -> Option<(usize, [u8; slots::SLOT_BYTES])> {
    let place = 1 + usize::try_from(count - 1).ok()? % KILLS_MAX;
    Some((place, slots::line(kill_value(count, kill).as_object()?)?))
}

pub(super) fn kill_value(count: u64, kill: &KillRecord) -> Value {
    let KillRecord { time, signal, actor, delivered, request } = kill;
    json!({
        "seq": count, "kind": "kill", "time": time.to_string(), "signal": signal,
        "delivered": delivered, "request": request, "actor": actor_value(actor),
    })
}

/// The line of the answer to the `number`th change of the time limit.
pub(super) fn timeout_answer_slot(number: u64, taken: bool) -> Option<[u8; slots::SLOT_BYTES]> {
    let members = json!({"seq": number, "kind": "timeout", "taken": taken});
    slots::line(members.as_object()?)
}

/// The answered signals oldest first, how many there were in all, and the answered change.
pub(super) type Control = (Vec<KillRecord>, u64, Option<(u64, bool)>);

pub(super) fn control(slots: &[Option<Map<String, Value>>]) -> Result<Control, RecordError> {
    let mut kills: Vec<(u64, KillRecord)> = Vec::new();
    let mut answer = None;
    for members in slots.iter().flatten() {
        let record = Record(members);
        let sequence = record.count("seq")?;
        match record.text("kind")? {
            "kill" => kills.push((sequence, kill(record)?)),
            "timeout" => {
                let taken = members.get("taken").and_then(Value::as_bool);
                answer = Some((sequence, taken.ok_or_else(|| wrong("taken", "is missing"))?));
            }
            other => return Err(wrong("kind", format!("{other:?} is not known"))),
        }
    }
    kills.sort_by_key(|(sequence, _)| *sequence);
    let count = kills.last().map_or(0, |(sequence, _)| *sequence);
    Ok((kills.into_iter().map(|(_, kill)| kill).collect(), count, answer))
}

pub(super) fn kill(record: Record<'_>) -> Result<KillRecord, RecordError> {
    let delivered = record.0.get("delivered").and_then(Value::as_bool);
    Ok(KillRecord {
        time: record.time("time")?,
        signal: record.number("signal")?,
        actor: actor(record),
        delivered: delivered.ok_or_else(|| wrong("delivered", "is missing"))?,
        request: record.text("request")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn someone() -> Actor {
        let long = "é".repeat(100);
        Actor { principal: "uid:0".to_owned(), peer: long, request_id: String::new() }
    }

    #[test]
    fn an_empty_marker_is_a_request_and_a_full_one_keeps_its_details() {
        let dropped = Time::from_nanos(7);
        assert_eq!(stop_request(b"", dropped).time, dropped);
        assert_eq!(stop_request(b"\xff{", dropped).reason, "");
        let request = StopRequest {
            time: Time::from_nanos(9),
            reason: "enough".to_owned(),
            actor: Actor { principal: "uid:7".to_owned(), ..Actor::default() },
            grace_period: Some(Duration::ZERO),
        };
        assert_eq!(stop_request(&stop_request_bytes(&request), dropped), request);
    }

    #[test]
    fn the_last_sixteen_signals_are_kept_in_order() {
        let mut slots = vec![None; 17];
        for count in 1..=20 {
            let kill = KillRecord {
                time: Time::from_nanos(count),
                signal: 15,
                actor: someone(),
                delivered: true,
                request: format!("r{count}"),
            };
            let (place, slot) = kill_slot(count, &kill).unwrap();
            slots[place] = slots::parse(&slot);
        }
        slots[TIMEOUT_ANSWER_PLACE] = slots::parse(&timeout_answer_slot(3, false).unwrap());
        let (kills, count, answer) = control(&slots).unwrap();
        assert_eq!((count, answer), (20, Some((3, false))));
        let names: Vec<_> = kills.iter().map(|kill| kill.request.as_str()).collect();
        assert_eq!(names.first(), Some(&"r5"));
        assert_eq!(names.last(), Some(&"r20"));
        assert_eq!(names.len(), 16);
    }

    #[test]
    fn a_count_that_nobody_can_have_reached_is_damage() {
        for most in [u64::MAX, (1 << 53) + 1] {
            assert!(labels(&labels_bytes(most, &BTreeMap::new())).is_err());
            assert!(timeout(&timeout_bytes(most, None)).is_err());
            assert!(control(&[slots::parse(&timeout_answer_slot(most, true).unwrap())]).is_err());
        }
        assert_eq!(timeout(&timeout_bytes(1 << 53, None)).unwrap(), (1 << 53, None));
    }

    #[test]
    fn a_request_for_a_signal_survives_its_file() {
        let request = KillRequest {
            name: "abc".to_owned(),
            signal: 64,
            scope: KillScope::Leader,
            time: Time::from_nanos(5),
            actor: Actor { peer: "unix".to_owned(), ..Actor::default() },
        };
        assert_eq!(kill_request("abc", &kill_request_bytes(&request)), Some(request));
        assert_eq!(kill_request("abc", b"{}"), None);
    }
}
