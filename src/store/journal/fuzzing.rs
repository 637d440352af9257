//! Fuzz targets of the journal: single events, and a whole segment that a start finds.

#![expect(clippy::expect_used, reason = "a target tells what is wrong by panicking")]

use std::{fs, sync::Arc};

use serde_json::{Map, Value, json};

use super::{CLOSED_BYTES_MAX, EventKind, Journal, JournalLimits, Opened, record, segment};
use crate::{
    job::fuzzing::{number_of, parts},
    store::{
        Store,
        fuzzing::{damaged, objects, with_store},
        layout, slots,
    },
    sys::clock,
};

/// Small segments, so that a few events begin the next.
const LIMITS: JournalLimits = JournalLimits { bytes_max: 1 << 20, events_max: 64, age_max: None };
/// The longest texts that an event keeps whole: about an actor, and of a match.
const UNCUT_BYTES_MAX: usize = 64;

/// An event survives its line, and with one byte changed it is refused.
pub(crate) fn journal_event(data: &[u8]) {
    for members in objects(data) {
        let Some(line) = slots::seal(&members) else { continue };
        let summary = record::summary(&line);
        let Ok(mut event) = record::decode(&line, |_| None) else { continue };
        if event.kind == EventKind::Log {
            // Output is told without the job.
            event.job = None;
        }
        let told = summary.and_then(|summary| summary.told?.told());
        let again = record::encode(&event, told.as_ref());
        let again = again.strip_suffix('\n').expect("a line ends with its newline");
        assert!(!again.contains('\n') && again.len() < record::LINE_BYTES_MAX + data.len());
        let whole = event.job.as_ref().map(|job| Arc::clone(&job.accepted));
        let read = record::decode(again, |_| whole).expect("a written event is readable");
        if !has_long_text(&Value::Object(members)) {
            assert_eq!(read, event);
        }
        let summary = record::summary(again).expect("a written event has a summary");
        assert_eq!(summary.sequence, event.sequence);
        assert_eq!(summary.told.and_then(|told| told.told()), told);
        let damaged = damaged(again.as_bytes(), number_of(data));
        let damaged = String::from_utf8_lossy(&damaged);
        assert!(record::decode(&damaged, |_| None).is_err());
        assert!(record::summary(&damaged).is_none());
    }
}

/// Whether any text may have been cut when it was written.
fn has_long_text(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.len() > UNCUT_BYTES_MAX,
        Value::Array(values) => values.iter().any(has_long_text),
        Value::Object(members) => {
            members.iter().any(|(name, value)| name != "accepted" && has_long_text(value))
        }
    }
}

/// A start takes any segment as it is, cuts off its end or begins anew; what it took is read
/// back in order, goes on, and is found again by the next start.
pub(crate) fn journal(data: &[u8]) {
    let [header, events, torn, closed] = parts(data);
    let Some(mut header) = objects(header).pop() else { return };
    if header.get("boot_id") == Some(&json!("this")) {
        let boot_id = clock::boot_id().expect("the boot has an id");
        header.insert("boot_id".to_owned(), json!(boot_id));
    }
    let first = header.get("first").and_then(Value::as_u64).unwrap_or(1);
    let sealed = |members: &Map<String, Value>| slots::seal(members).map(|line| line + "\n");
    let Some(mut text) = sealed(&header) else { return };
    text.extend(objects(events).iter().filter_map(sealed));
    let bytes = [text.as_bytes(), torn].concat();
    with_store(|store| {
        let folder = store.layout().journal();
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("the folder of the journal");
        fs::write(segment::path(&folder, first), &bytes).expect("a segment");
        // A larger file is not from us: the start fails and names it.
        if !closed.is_empty() && closed.len() <= CLOSED_BYTES_MAX {
            fs::write(folder.join(layout::JOURNAL_CLOSED), closed).expect("how it was closed");
        }
        start(store, &bytes);
    });
}

fn open(store: &Store) -> Opened {
    Journal::open(store, LIMITS).expect("any journal can be opened")
}

fn start(store: &Store, bytes: &[u8]) {
    let Opened { mut journal, .. } = open(store);
    let (oldest, head) = (journal.oldest(), journal.head());
    assert!(oldest <= head);
    let lines = memchr::memchr_iter(b'\n', bytes).count() as u64;
    assert!(head - oldest <= lines);
    let mut unended = journal.unended();
    // Members beside those of the summary may still be wrong: then reading says so.
    let Ok(read) = journal.reader().read(oldest, head, usize::MAX) else { return };
    let events = read.expect("what is kept is there");
    assert!(events.iter().map(|event| event.sequence).eq(oldest + 1..=head));
    let mut added = 0;
    for event in events.iter().take(8) {
        let told = journal.told(event.id);
        let appended = journal.append(event.clone(), told).expect("an event can be appended");
        added += 1;
        assert_eq!(appended.sequence, head + added);
    }
    assert_eq!(journal.head(), head + added);
    let epoch = journal.epoch().to_owned();
    drop(journal);
    let Opened { journal, is_new_epoch, .. } = open(store);
    assert_eq!((journal.head(), journal.epoch(), is_new_epoch), (head + added, &*epoch, false));
    let mut found = journal.unended();
    unended.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, unended);
    if let Ok(Ok(again)) = journal.reader().read(head, head + added, usize::MAX) {
        assert_eq!(again.len() as u64, added);
    }
}
