//! Every name in the task directory, and where each job's folder is.
//!
//! No other module spells a file name of the store. docs/STORAGE.md describes what is in them.

use std::path::{Path, PathBuf};

use crate::job::JobId;

pub(super) const VERSION: &str = "VERSION";
pub(super) const IDENTITY: &str = "identity.json";
pub(super) const SERVICE_LOCK: &str = "service.lock";
pub(super) const LAST_BOOT: &str = "last_boot";
/// Tokens and the audit record, of which the store knows nothing else.
pub(super) const ACCESS: &str = "access";
/// What the service and the supervisors say when nobody else listens.
pub(super) const LOGS: [&str; 2] = ["service.log", SUPERVISOR_LOG];
const SUPERVISOR_LOG: &str = "supervisor.log";
pub(super) const SPEC: &str = "spec.json";
pub(super) const STATE: &str = "state.jsonl";
pub(super) const CONTROL: &str = "control.jsonl";
pub(super) const CANCEL: &str = "cancel";
pub(super) const LABELS: &str = "labels.json";
pub(super) const TIMEOUT: &str = "timeout.json";
pub(super) const SECRETS: &str = "secret.json";
pub(super) const STDIN: &str = "stdin";
pub(super) const STDOUT: &str = "stdout.log";
pub(super) const STDERR: &str = "stderr.log";
pub(super) const INDEX: &str = "output.index";
pub(super) const MATCHES: &str = "matches.jsonl";
/// Where the logs have holes.
pub(super) const CUT: &str = "output.cut";
pub(super) const OUT_FIFO: &str = "out.fifo";
pub(super) const ERR_FIFO: &str = "err.fifo";
pub(super) const KILL_PREFIX: &str = "kill.";
pub(super) const ACCEPTED: &str = "accepted";
pub(super) const REJECTED: &str = "rejected";
pub(super) const JOURNAL_SUFFIX: &str = ".jsonl";
pub(super) const JOURNAL_CLOSED: &str = "closed.json";

/// Where things are below the root.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout of the store at `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the days are.
    pub fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    /// The folder of a day.
    pub fn day(&self, day: &str) -> PathBuf {
        self.root.join("jobs").join(day)
    }

    /// The folder of a job.
    pub fn job(&self, id: JobId) -> PathBuf {
        let mut path = self.day(&id.day());
        path.push(id.to_string());
        path
    }

    /// The drop box.
    pub fn inbox(&self) -> PathBuf {
        self.root.join("inbox")
    }

    /// Request ids.
    pub fn requests(&self) -> PathBuf {
        self.root.join("requests")
    }

    /// One empty file for each job that has not ended.
    pub fn active(&self) -> PathBuf {
        self.root.join("active")
    }

    /// What has happened to jobs.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Folders on their way out.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Where the launcher and the supervisors say what they have nobody else to tell.
    pub fn supervisor_log(&self) -> PathBuf {
        self.root.join(SUPERVISOR_LOG)
    }
}
