//! Fuzz targets of the files of a job's folder, and what all targets of the store share.
//!
//! What has a checksum on disk stands without it in an input and is sealed by the target, since
//! chance never makes a checksum; what is not sealed is read as it stands as well.

#![expect(clippy::expect_used, reason = "a target tells what is wrong by panicking")]

mod folder;
mod output;

use serde_json::{Map, Value};

use super::{Store, record, slots, spec_record};
use crate::job::{
    Accepted, Confinement, Durability, Event, JobId, Spec, State, Time,
    fuzzing::{LIMITS, check_spec, number_of},
    transition,
};

pub(crate) use self::{
    folder::{inbox, job_folder, request_file, requests},
    output::{log_reader, matches, output_cut, output_index},
};
pub(crate) use super::journal::fuzzing::{journal, journal_event};

/// The id of the jobs that are made up here.
pub(super) const ID: JobId = JobId::MAX;

/// What was accepted of a job with this spec.
pub(crate) fn accepted(spec: Spec) -> Accepted {
    Accepted {
        id: ID,
        create_time: Time::from_nanos(1_790_000_000_123_456_789),
        owner: "uid:0".to_owned(),
        request_id: Some("request-1".to_owned()),
        digest: "00ff".to_owned(),
        spec,
        working_dir: "/tmp".to_owned(),
        timeout: None,
        durability: Durability::Process,
        confinement: Confinement::default(),
    }
}

/// Holds that a checked spec survives `spec.json`, also when somebody drops that into the inbox.
pub(crate) fn survives(spec: Spec) {
    check_spec(&spec);
    let accepted = accepted(spec);
    let bytes = spec_record::encode(&accepted);
    let read = spec_record::decode(&bytes).expect("an accepted spec is readable");
    assert_eq!(read, accepted);
    let Ok(dropped) = spec_record::decode_dropped(&bytes, None) else {
        // Secrets and input are not in the file: without them it is another job.
        assert!(!accepted.spec.secret_keys.is_empty() || accepted.spec.stdin_bytes > 0);
        return;
    };
    let (again, _, _) = dropped.check(&LIMITS).expect("an accepted spec is accepted again");
    assert_eq!(again, accepted.spec);
}

/// The objects of an input, one a line, without checksums. What is none is left out.
pub(super) fn objects(data: &[u8]) -> Vec<Map<String, Value>> {
    let mut objects = Vec::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(mut object) = serde_json::from_slice::<Map<String, Value>>(line) {
            object.shift_remove("crc");
            objects.push(object);
        }
    }
    objects
}

/// The bytes with one of them changed.
pub(super) fn damaged(bytes: &[u8], number: usize) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    if !damaged.is_empty() {
        let place = number % bytes.len();
        damaged[place] ^= u8::try_from(number / bytes.len() % 255 + 1).unwrap_or(1);
    }
    damaged
}

/// Whether a value has a number that JSON may not bring back exactly.
fn is_inexact(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => false,
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(is_inexact),
        Value::Object(members) => members.values().any(is_inexact),
    }
}

/// A slot survives, and with one byte changed it is not there.
pub(crate) fn slot(data: &[u8]) {
    let found = slots::parse(data);
    for members in found.into_iter().chain(objects(data)) {
        let Some(slot) = slots::line(&members) else { continue };
        assert_eq!(slot.len(), slots::SLOT_BYTES);
        let parsed = slots::parse(&slot).expect("a slot is readable");
        if !members.values().any(is_inexact) {
            assert_eq!(parsed, members);
        }
        assert_eq!(slots::parse(&damaged(&slot, number_of(data))), None);
    }
}

/// An event survives its line but for what is cut to fit, and a life has a history.
pub(crate) fn state_record(data: &[u8]) {
    let mut state = State::Queued;
    for members in objects(data) {
        let Ok(event) = record::event(&members) else { continue };
        let again = record::event(&record::event_members(7, &event));
        assert_eq!(again.expect("an event is readable"), event);
        let slot = record::event_slot(7, &event);
        if let Some(members) = slots::parse(&slot) {
            let stored = record::event(&members).expect("a stored event is readable");
            assert_eq!(members["seq"], 7);
            assert_eq!(stored, cut_as(event.clone(), &stored));
        } else {
            assert!(slot.iter().all(|byte| *byte == b' '), "a slot that nobody can read");
        }
        if let Ok(next) = transition(&state, &event) {
            let history = next.history();
            let replayed =
                history.iter().try_fold(State::Queued, |state, event| transition(&state, event));
            assert_eq!(replayed.as_ref(), Ok(&next));
            state = next;
        }
    }
}

/// The event with its long texts as short as those of the one that was stored.
fn cut_as(mut event: Event, stored: &Event) -> Event {
    match (&mut event, stored) {
        (Event::Ended(end), Event::Ended(stored)) => {
            assert!(end.message.starts_with(&stored.message));
            end.message.clone_from(&stored.message);
        }
        (Event::Started(started), Event::Started(stored)) if stored.cgroup.is_none() => {
            started.cgroup = None;
        }
        _ => {}
    }
    event
}

/// What is read of a `spec.json` survives, and nothing that it asks for is passed over.
pub(crate) fn spec_json(data: &[u8]) {
    // A drop is more liberal; it must not panic.
    let _ = spec_record::decode_dropped(data, None).map(|draft| draft.check(&LIMITS));
    let Ok(accepted) = spec_record::decode(data) else { return };
    let bytes = spec_record::encode(&accepted);
    assert_eq!(memchr::memchr_iter(b'\n', &bytes).count(), 1);
    assert_eq!(spec_record::decode(&bytes).expect("what was read is readable"), accepted);
    let given: Value = serde_json::from_slice(data).unwrap_or_default();
    let kept: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    for (name, value) in given["spec"].as_object().into_iter().flatten() {
        let member = snake_case(name);
        let is_kept = kept["spec"].get(&member).is_some() || is_default(&member, value);
        assert!(is_kept, "{name} is read and forgotten");
    }
}

/// A member as the proto names it.
fn snake_case(name: &str) -> String {
    name.chars().fold(String::new(), |mut text, letter| {
        if letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
        text
    })
}

fn is_default(member: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => {
            let is_named = member == "env_inheritance"
                && ["ENV_INHERITANCE_UNSPECIFIED", "ENV_INHERITANCE_MINIMAL"].contains(&&**text);
            text.is_empty() || is_named
        }
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty() && !["limits", "retry"].contains(&member),
    }
}

/// A dropped spec that is accepted survives its folder.
pub(crate) fn dropped_spec(data: &[u8]) {
    let Ok(draft) = spec_record::decode_dropped(data, None) else { return };
    match draft.check(&LIMITS) {
        Ok((spec, secrets, stdin)) => {
            assert!(spec.secret_keys.iter().eq(secrets.0.keys()));
            assert_eq!(spec.stdin_bytes, stdin.len() as u64);
            survives(spec);
        }
        Err(violations) => assert!((1..=100).contains(&violations.len())),
    }
}

/// Lends a store that all inputs of a thread share: opening one syncs files.
pub(super) fn with_store(act: impl FnOnce(&Store)) {
    thread_local! {
        static STORE: (Store, tempfile::TempDir) = {
            let folder = tempfile::tempdir().expect("a folder");
            (Store::open(folder.path()).expect("a store"), folder)
        };
    }
    STORE.with(|(store, _)| act(store));
}
