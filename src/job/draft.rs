//! A spec as somebody wrote it, and the check that turns it into a `Spec`.
//!
//! Drafts come from two places, the wire and a folder in the inbox; both are held to these
//! rules. A draft may hold anything; the check names every fault at once.

use std::{collections::BTreeMap, time::Duration};

use super::spec::{Command, EnvInheritance, Secrets, Spec};

/// A span of time as the wire has it: any sign, any fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Whole seconds.
    pub seconds: i64,
    /// Nanoseconds of the same sign.
    pub nanos: i32,
}

/// A spec before it is checked; field names as in the proto.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Program and arguments; empty if absent.
    pub argv: Vec<String>,
    /// Script; empty if absent.
    pub shell: String,
    /// Directory; empty if absent.
    pub working_dir: String,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Secret variables.
    pub secret_env: BTreeMap<String, String>,
    /// Base environment; `None` for a value that is not known.
    pub env_inheritance: Option<EnvInheritance>,
    /// Files of variables.
    pub env_files: Vec<String>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// Limit on the run time.
    pub timeout: Option<Span>,
    /// Limit on silence.
    pub idle_timeout: Option<Span>,
    /// Limit on the time in the queue.
    pub queue_timeout: Option<Span>,
    /// Signal; zero if absent.
    pub stop_signal: i32,
    /// From the stop signal to SIGKILL.
    pub stop_grace_period: Option<Span>,
    /// How long leftovers may hold the output open.
    pub drain_timeout: Option<Span>,
    /// One pipe for both streams.
    pub merge_output: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Name for people; empty if absent.
    pub display_name: String,
    /// Priority.
    pub priority: i32,
    /// Deleted this long after the end.
    pub ttl_after_end: Option<Span>,
    /// Names of given fields that this version does not support.
    pub unsupported: Vec<&'static str>,
}

/// What a server allows beyond the fixed bounds.
#[derive(Clone, Copy, Debug)]
pub struct DraftLimits {
    /// The most bytes of standard input.
    pub stdin_bytes_max: u64,
}

/// One fault of a draft or of another request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, for example `spec.env["A B"]`.
    pub field: String,
    /// What is wrong and what would be right.
    pub description: String,
    /// Whether the field is fine and only this server does not support it yet.
    pub unsupported: bool,
}
