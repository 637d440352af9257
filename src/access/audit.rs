//! The audit record: who did what to which job, from where, and what it came to.
//!
//! JSON lines in `access/audit.jsonl` below the root, only ever appended to; a full file becomes
//! `audit.1.jsonl`, that one `audit.2.jsonl`, and so on to the last, which goes. The service writes
//! and turns them over; `jobwarden token` appends a line of its own. An entry is in the file before
//! the call is answered, that of an accepted job as soon as it is accepted; it is not synced, so a
//! power cut may take the last ones, and the death of the service those of the calls under way. No
//! text here comes from a command, an environment or an
//! output but the reason that a caller gave.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;

use super::{Identity, Place, token_file::FOLDER};
use crate::{
    job::Time,
    sys::{clock, fs, process},
};

const NAME: &str = "audit.jsonl";
/// The longest text of an entry that a caller chose.
const TEXT_BYTES_MAX: usize = 256;
/// So many refusals of unknown callers are recorded in a span of time, so that they cannot push out
/// what others did; the rest is counted.
const UNKNOWN_MAX: u32 = 100;
const UNKNOWN_SPAN: Duration = Duration::from_mins(1);

/// What is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditScope {
    /// Nothing.
    Off,
    /// Calls that change something, and every call that was not allowed.
    Changes,
    /// Every call.
    All,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditLimits {
    /// What is recorded.
    pub scope: AuditScope,
    /// The most bytes of a file.
    pub bytes_max: u64,
    /// The most files, the newest among them.
    pub files_max: u32,
}

/// One call.
#[derive(Debug, Serialize)]
pub struct Entry {
    time: String,
    call: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    principal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    peer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    job: String,
    /// `ok`, or the reason of the refusal.
    outcome: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    #[serde(skip_serializing_if = "is_zero")]
    not_recorded: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Entry {
    /// A call by somebody who was let in; `detail` is what it said of its reasons.
    pub fn known(
        identity: &Identity,
        place: &Place,
        call: &str,
        job: &str,
        outcome: &'static str,
        detail: &str,
    ) -> Self {
        let principal = identity.principal.clone();
        let role = Some(identity.role.name());
        let token = identity.token.clone();
        let (job, detail) = (cut(job), cut(detail));
        Self { principal, role, token, job, detail, ..Self::unknown(place, call, outcome) }
    }

    /// Something that was done beside the service: `how` says by what way.
    pub fn local(principal: &str, how: &str, call: &str, job: &str, outcome: &'static str) -> Self {
        Self {
            time: Time::from(clock::now()).to_string(),
            call: cut(call),
            principal: cut(principal),
            role: None,
            token: None,
            peer: cut(how),
            job: cut(job),
            outcome,
            detail: String::new(),
            not_recorded: 0,
        }
    }

    /// Something that the account of this process did.
    pub fn by_account(how: &str, call: &str) -> Self {
        Self::local(&format!("uid:{}", process::own_uid()), how, call, "", "ok")
    }

    /// The same with what is to be said of it.
    #[must_use]
    pub fn with_detail(self, detail: &str) -> Self {
        Self { detail: cut(detail), ..self }
    }

    fn unknown(place: &Place, call: &str, outcome: &'static str) -> Self {
        Self::local("", &place.to_string(), call, "", outcome)
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

/// The record.
#[derive(Debug)]
pub struct Audit {
    folder: PathBuf,
    limits: AuditLimits,
    state: Mutex<State>,
    unknown: Mutex<Unknown>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<(File, u64)>,
    is_failing: bool,
}

/// Refusals of unknown callers in the present span.
#[derive(Debug, Default)]
struct Unknown {
    /// When it began, on the boot clock.
    since: Duration,
    recorded: u32,
    not_recorded: u64,
}

impl Audit {
    /// The record of the task directory `root`.
    pub fn of(root: &Path, limits: AuditLimits) -> Self {
        Self {
            folder: root.join(FOLDER),
            limits,
            state: Mutex::default(),
            unknown: Mutex::default(),
        }
    }

    /// Whether a call is recorded that was allowed.
    pub fn wants(&self, is_change: bool) -> bool {
        match self.limits.scope {
            AuditScope::Off => false,
            AuditScope::Changes => is_change,
            AuditScope::All => true,
        }
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.limits.scope != AuditScope::Off
    }

    /// Records a call. What cannot be recorded is told in the log: a job can be stopped although
    /// the disk is full. Blocks on the disk.
    pub fn record(&self, entry: &Entry) {
        if self.is_on() {
            let mut state = self.lock();
            self.write(&mut state, entry);
        }
    }

    /// A call by somebody who was not let in, to be recorded, unless there are too many of them.
    /// Does not block.
    pub fn unknown(&self, place: &Place, call: &str, outcome: &'static str) -> Option<Entry> {
        if !self.is_on() {
            return None;
        }
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::since_boot();
        if now.saturating_sub(unknown.since) >= UNKNOWN_SPAN {
            (unknown.since, unknown.recorded) = (now, 0);
        }
        if unknown.recorded >= UNKNOWN_MAX {
            unknown.not_recorded += 1;
            return None;
        }
        unknown.recorded += 1;
        let not_recorded = std::mem::take(&mut unknown.not_recorded);
        Some(Entry { not_recorded, ..Entry::unknown(place, call, outcome) })
    }

    fn write(&self, state: &mut State, entry: &Entry) {
        match self.append(state, entry) {
            Ok(()) => state.is_failing = false,
            Err(error) => {
                state.file = None;
                // Once until it goes well again: a log that fills up helps nobody.
                if !std::mem::replace(&mut state.is_failing, true) {
                    tracing::error!(%error, "the audit record cannot be written");
                }
            }
        }
    }

    fn append(&self, state: &mut State, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        if state.file.as_ref().is_some_and(|(_, size)| *size >= self.limits.bytes_max) {
            state.file = None;
            self.rotate()?;
        }
        let (file, size) = match &mut state.file {
            Some(open) => open,
            None => state.file.insert(self.open()?),
        };
        fs::append(file, &line)?;
        *size += line.len() as u64;
        Ok(())
    }

    /// The newest file and its size. A line that was cut short stays as a line of its own.
    fn open(&self) -> io::Result<(File, u64)> {
        fs::create_dir_all(&self.folder)?;
        let file = fs::open_to_append(&self.folder.join(NAME))?;
        let size = file.metadata()?.len();
        let mut last = [b'\n'];
        if size > 0 {
            fs::read_at(&file, &mut last, size - 1)?;
        }
        if last == [b'\n'] {
            return Ok((file, size));
        }
        fs::append(&file, b"\n")?;
        Ok((file, size + 1))
    }

    fn rotate(&self) -> io::Result<()> {
        let older = |number: u32| self.folder.join(format!("audit.{number}.jsonl"));
        for number in (1..self.limits.files_max.saturating_sub(1)).rev() {
            match fs::rename(&older(number), &older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        let newest = self.folder.join(NAME);
        match self.limits.files_max {
            1 => fs::remove_if_any(&newest),
            _ => fs::rename(&newest, &older(1)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
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
        audit(root.path(), 1 << 20, 3).record(&entry);
        let lines = lines(root.path(), NAME);
        assert_eq!(lines.len(), 1);
        let told = ["call", "principal", "role", "token", "peer", "job", "outcome"]
            .map(|key| lines[0][key].as_str().unwrap().to_owned());
        let expected =
            ["Cancel", "token:ci", "operator", "0a", "unix:pid=7,uid=1000", "01ab", "ok"];
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
            audit(root.path(), 300, 3).record(&entry);
        }
        let one = audit(root.path(), 300, 3);
        for number in 10..30 {
            let job = format!("{number}");
            one.record(&Entry::known(&who, &PLACE, "Kill", &job, "ok", ""));
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
        audit(root.path(), 300, 3).record(&Entry::known(&who, &PLACE, "Kill", "9", "ok", ""));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"torn\n{"), "{text}");
    }

    #[test]
    fn unknown_callers_cannot_push_out_what_others_did() {
        let root = tempfile::tempdir().unwrap();
        let audit = audit(root.path(), 1 << 20, 3);
        for _ in 0..1000 {
            if let Some(entry) = audit.unknown(&PLACE, "/x", "UNAUTHENTICATED") {
                audit.record(&entry);
            }
        }
        assert_eq!(lines(root.path(), NAME).len(), UNKNOWN_MAX as usize);
        assert_eq!(audit.unknown.lock().unwrap().not_recorded, 900);
    }

    #[test]
    fn a_record_that_cannot_be_written_goes_on_once_it_can() {
        let root = tempfile::tempdir().unwrap();
        let in_place = root.path().join(FOLDER);
        std::fs::write(&in_place, "").unwrap();
        let (who, audit) = (identity(), audit(root.path(), 1 << 20, 3));
        let entry = Entry::known(&who, &PLACE, "Kill", "9", "ok", "");
        audit.record(&entry);
        std::fs::remove_file(&in_place).unwrap();
        audit.record(&entry);
        assert_eq!(lines(root.path(), NAME).len(), 1);
    }
}
