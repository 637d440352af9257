//! What to run and under which rules, once it has been checked.
//!
//! A `Spec` exists only for input that `Draft::check` has accepted, or that was read back
//! from the store; it never holds the values of secrets.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::OutputLimits;
use super::output_match::OutputMatch;

const STOP_SIGNAL_DEFAULT: i32 = 15;
const STOP_GRACE_DEFAULT: Duration = Duration::from_secs(10);
const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A program and its arguments; never empty.
    Argv(Vec<String>),
    /// A script for `/bin/sh -c`.
    Shell(String),
}

/// The base environment of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnvInheritance {
    /// A few well-known variables only.
    #[default]
    Minimal,
    /// All of the service's environment but its own variables.
    All,
}

/// An accepted spec, field by field as in the proto; `None` means that the caller left it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What to execute.
    pub command: Command,
    /// Where to run, absolute.
    pub working_dir: Option<String>,
    /// Variables added to the base environment.
    pub env: BTreeMap<String, String>,
    /// Names of the secret variables, sorted; their values are elsewhere.
    pub secret_keys: Vec<String>,
    /// The base environment.
    pub env_inheritance: EnvInheritance,
    /// Files of `KEY=VALUE` lines, absolute.
    pub env_files: Vec<String>,
    /// How many bytes of standard input there are; they are stored beside the spec.
    pub stdin_bytes: u64,
    /// Limit on the run time.
    pub timeout: Option<Duration>,
    /// Limit on silence.
    pub idle_timeout: Option<Duration>,
    /// Limit on the time in the queue.
    pub queue_timeout: Option<Duration>,
    /// The signal that asks the job to stop.
    pub stop_signal: Option<i32>,
    /// From the stop signal to SIGKILL.
    pub stop_grace_period: Option<Duration>,
    /// How long leftovers may hold the output open.
    pub drain_timeout: Option<Duration>,
    /// Both streams through one pipe.
    pub merge_output: bool,
    /// Patterns to look for in the output.
    pub output_matches: Vec<OutputMatch>,
    /// How much output is kept.
    pub output_limits: Option<OutputLimits>,
    /// Labels at acceptance.
    pub labels: BTreeMap<String, String>,
    /// A name for people; empty if there is none.
    pub display_name: String,
    /// The higher starts first.
    pub priority: i32,
    /// Deleted this long after the end.
    pub ttl_after_end: Option<Duration>,
}

impl Spec {
    /// The signal that asks this job to stop.
    pub fn stop_signal_or_default(&self) -> i32 {
        self.stop_signal.unwrap_or(STOP_SIGNAL_DEFAULT)
    }

    /// From the stop signal to SIGKILL.
    pub fn stop_grace_or_default(&self) -> Duration {
        self.stop_grace_period.unwrap_or(STOP_GRACE_DEFAULT)
    }

    /// How long leftovers may hold the output open.
    pub fn drain_timeout_or_default(&self) -> Duration {
        self.drain_timeout.unwrap_or(DRAIN_TIMEOUT_DEFAULT)
    }
}

/// Secret variables and their values. Its debug form shows the names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(pub BTreeMap<String, String>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
