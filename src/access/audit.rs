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
    collections::HashMap,
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
    terminal,
};

const NAME: &str = "audit.jsonl";
/// The longest text of an entry that a caller chose.
const TEXT_BYTES_MAX: usize = 256;
/// So many refusals of a principal, and of all unknown callers together, are recorded in a span of
/// time, so that they cannot push out what others did; the rest is counted.
const REFUSED_MAX: u32 = 100;
const REFUSED_SPAN: Duration = Duration::from_mins(1);
/// So many principals are remembered before those are forgotten whose span is over.
const REMEMBERED: usize = 1024;

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
#[derive(Clone, Debug, Serialize)]
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
    /// Whether it has passed the limit of refusals.
    #[serde(skip)]
    is_counted: bool,
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
            is_counted: false,
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
    /// By principal; those of unknown callers have none.
    refused: Mutex<HashMap<String, Refused>>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<(File, u64)>,
    is_failing: bool,
}

/// Refusals of one principal in the present span.
#[derive(Debug, Default)]
struct Refused {
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
            refused: Mutex::default(),
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

    /// Records a call, unless it was refused and its caller has had too many refused. What cannot be
    /// recorded is told in the log: a job can be stopped although the disk is full. Blocks on the
    /// disk.
    pub fn record(&self, entry: Entry) {
        if !self.is_on() {
            return;
        }
        let Some(entry) = self.within_limits(entry) else { return };
        let mut state = self.lock();
        self.write(&mut state, &entry);
    }

    /// A call by somebody who was not let in, to be recorded, unless there are too many of them.
    /// Does not block.
    pub fn unknown(&self, place: &Place, call: &str, outcome: &'static str) -> Option<Entry> {
        self.is_on().then(|| self.within_limits(Entry::unknown(place, call, outcome)))?
    }

    fn within_limits(&self, entry: Entry) -> Option<Entry> {
        if entry.outcome == "ok" || entry.is_counted {
            return Some(entry);
        }
        let now = clock::since_boot();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= REMEMBERED {
            refused.retain(|_, refused| now.saturating_sub(refused.since) < REFUSED_SPAN);
        }
        // Those who come when nobody more can be remembered share one count.
        let is_crowded = refused.len() >= REMEMBERED && !refused.contains_key(&entry.principal);
        let name = if is_crowded { String::new() } else { entry.principal.clone() };
        let own = refused.entry(name).or_insert(Refused { since: now, ..Refused::default() });
        if now.saturating_sub(own.since) >= REFUSED_SPAN {
            (own.since, own.recorded) = (now, 0);
        }
        if own.recorded >= REFUSED_MAX {
            own.not_recorded += 1;
            return None;
        }
        own.recorded += 1;
        let not_recorded = std::mem::take(&mut own.not_recorded);
        Some(Entry { not_recorded, is_counted: true, ..entry })
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
        // People read it with `cat`.
        let mut line = terminal::escaped_json(&serde_json::to_string(entry)?).into_bytes();
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
mod tests;
