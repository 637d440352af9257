//! What the audit record holds, how much of it, and after which failures.

use super::*;
use crate::access::Role;

fn identity() -> Identity {
    let principal = "token:ci".to_owned();
    Identity { principal, role: Role::Operator, token: Some("0a".to_owned()), expires: None }
}

const PLACE: Place = Place::Unix { pid: Some(7), uid: 1000, gid: 1000 };

fn audit(root: &Path, bytes_max: u64, files_max: u32) -> Audit {
    Audit::of(root, AuditLimits { scope: AuditScope::Changes, bytes_max, files_max })
}

fn lines(root: &Path, name: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(root.join(FOLDER).join(name)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_entry_says_who_did_what_from_where_on_one_line() {
    let root = tempfile::tempdir().unwrap();
    let who = identity();
    let long = "\n\u{1b}[31m".repeat(100);
    let entry = Entry::known(&who, &PLACE, "Cancel", "01ab", "ok", &long);
    audit(root.path(), 1 << 20, 3).record(entry.clone());
    let lines = lines(root.path(), NAME);
    assert_eq!(lines.len(), 1);
    let told = ["call", "principal", "role", "token", "peer", "job", "outcome"]
        .map(|key| lines[0][key].as_str().unwrap().to_owned());
    let expected = ["Cancel", "token:ci", "operator", "0a", "unix:pid=7,uid=1000", "01ab", "ok"];
    assert_eq!(told, expected);
    assert!(lines[0]["detail"].as_str().unwrap().len() <= TEXT_BYTES_MAX);
}

#[test]
fn full_files_are_kept_up_to_their_number_and_a_torn_line_stays_alone() {
    let root = tempfile::tempdir().unwrap();
    let who = identity();
    for number in 0..10 {
        let job = format!("{number}");
        // A service each: what is there is gone on with.
        let entry = Entry::known(&who, &PLACE, "Kill", &job, "ok", "");
        audit(root.path(), 300, 3).record(entry.clone());
    }
    let one = audit(root.path(), 300, 3);
    for number in 10..30 {
        let job = format!("{number}");
        one.record(Entry::known(&who, &PLACE, "Kill", &job, "ok", ""));
    }
    let jobs = |name: &str| -> Vec<u32> {
        let lines = lines(root.path(), name);
        lines.iter().map(|line| line["job"].as_str().unwrap().parse().unwrap()).collect()
    };
    let kept = [jobs("audit.2.jsonl"), jobs("audit.1.jsonl"), jobs(NAME)].concat();
    assert_eq!(kept.last(), Some(&29));
    assert!(kept.len() < 30 && kept.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{kept:?}");
    assert!(!root.path().join(FOLDER).join("audit.3.jsonl").exists());

    let path = root.path().join(FOLDER).join(NAME);
    std::fs::write(&path, "{\"torn").unwrap();
    audit(root.path(), 300, 3).record(Entry::known(&who, &PLACE, "Kill", "9", "ok", ""));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"torn\n{"), "{text}");
}

#[test]
fn unknown_callers_cannot_push_out_what_others_did() {
    let root = tempfile::tempdir().unwrap();
    let audit = audit(root.path(), 1 << 20, 3);
    for _ in 0..1000 {
        if let Some(entry) = audit.unknown(&PLACE, "/x", "UNAUTHENTICATED") {
            audit.record(entry);
        }
        let who = identity();
        audit.record(Entry::known(&who, &PLACE, "Kill", "\u{1}", "ROLE_REQUIRED", ""));
    }
    assert_eq!(lines(root.path(), NAME).len(), 2 * REFUSED_MAX as usize);
    let refused = audit.refused.lock().unwrap();
    assert!(refused.values().all(|own| own.not_recorded == 900));
}

#[test]
fn a_record_that_cannot_be_written_goes_on_once_it_can() {
    let root = tempfile::tempdir().unwrap();
    let in_place = root.path().join(FOLDER);
    std::fs::write(&in_place, "").unwrap();
    let (who, audit) = (identity(), audit(root.path(), 1 << 20, 3));
    let entry = Entry::known(&who, &PLACE, "Kill", "9", "ok", "");
    audit.record(entry.clone());
    std::fs::remove_file(&in_place).unwrap();
    audit.record(entry.clone());
    assert_eq!(lines(root.path(), NAME).len(), 1);
}
