//! A spec as somebody wrote it, and the check that turns it into a `Spec`.
//!
//! Drafts come from two places, the wire and a folder in the inbox; both are held to these
//! rules. A draft may hold anything; the check names every fault at once.

mod faults;
mod matches;
mod rules;
mod span;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, time::Duration};

use self::faults::{Faults, element, entry};
pub use self::{
    rules::{check_labels, check_request_id, check_signal, check_stop_reason, check_variables},
    span::{SPAN_MAX, any_span, positive_span},
};
use super::{
    OutputLimitAction, OutputLimits, OutputLimitsDraft,
    output_match::OutputMatch,
    spec::{Command, EnvInheritance, Secrets, Spec},
};

const SPEC_BYTES_MAX: usize = 1024 * 1024;

/// A span of time as the wire has it: any sign, any fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Whole seconds.
    pub seconds: i64,
    /// Nanoseconds of the same sign.
    pub nanos: i32,
}

/// A spec before it is checked; field names as in the proto. Its debug form shows no values.
#[derive(Clone, Default)]
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
    /// Patterns to look for in the output.
    pub output_matches: Vec<OutputMatch>,
    /// How much output is kept.
    pub output_limits: Option<OutputLimitsDraft>,
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
    /// Whether the newest output can be kept instead of the first.
    pub can_keep_tail: bool,
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

/// The spans of a draft, once they are known to be in range.
#[derive(Clone, Copy)]
struct Spans {
    timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    queue_timeout: Option<Duration>,
    stop_grace_period: Option<Duration>,
    drain_timeout: Option<Duration>,
    ttl_after_end: Option<Duration>,
}

impl Draft {
    /// The spec, the secrets and the standard input, or every fault at once (the first 100).
    pub fn check(self, limits: &DraftLimits) -> Result<(Spec, Secrets, Vec<u8>), Vec<Violation>> {
        let mut faults = Faults::default();
        for name in &self.unsupported {
            faults.push(Violation::unsupported(format!("spec.{name}")));
        }
        self.check_command(&mut faults);
        self.check_environment(&mut faults);
        self.check_rest(limits.stdin_bytes_max, &mut faults);
        let spans = self.check_spans(&mut faults);
        let output_limits = self.check_output_limits(limits.can_keep_tail, &mut faults);
        let violations = faults.into_violations();
        if violations.is_empty() {
            Ok(self.into_spec(spans, output_limits))
        } else {
            Err(violations)
        }
    }

    fn check_command(&self, faults: &mut Faults) {
        let Self { argv, shell, working_dir, .. } = self;
        match (argv.first(), shell.is_empty()) {
            (None, true) => faults.add("spec.argv", "give exactly one of argv and shell"),
            (Some(_), false) => {
                faults
                    .add("spec.shell", "is given beside argv; give exactly one of argv and shell");
            }
            (Some(program), true) if program.is_empty() => {
                faults.add("spec.argv[0]", "must name a program");
            }
            (Some(_), true) | (None, false) => {}
        }
        if argv.len() > rules::ARGV_LEN_MAX {
            let (count, most) = (argv.len(), rules::ARGV_LEN_MAX);
            faults.add("spec.argv", format!("has {count} elements; at most {most} are allowed"));
        }
        for (index, argument) in argv.iter().enumerate() {
            if let Some(fault) = rules::text_fault(argument, rules::TEXT_BYTES_MAX) {
                faults.add(element("spec.argv", index), fault);
            }
        }
        if let Some(fault) = rules::text_fault(shell, rules::TEXT_BYTES_MAX) {
            faults.add("spec.shell", fault);
        }
        if let Some(fault) = rules::path_fault(working_dir)
            && !working_dir.is_empty()
        {
            faults.add("spec.working_dir", fault);
        }
    }

    fn check_environment(&self, faults: &mut Faults) {
        let Self { env, secret_env, env_inheritance, env_files, .. } = self;
        rules::variables_into("spec.env", env, faults);
        rules::variables_into("spec.secret_env", secret_env, faults);
        for key in secret_env.keys().filter(|key| env.contains_key(*key)) {
            faults.add(entry("spec.secret_env", key), "stands in env as well; keep one of the two");
        }
        if env_inheritance.is_none() {
            faults.push(Violation::unsupported("spec.env_inheritance"));
        }
        rules::env_files_into("spec.env_files", env_files, faults);
    }

    fn check_rest(&self, stdin_bytes_max: u64, faults: &mut Faults) {
        let stdin_bytes = self.stdin.len() as u64;
        if stdin_bytes > stdin_bytes_max {
            let fault = format!("has more than {stdin_bytes_max} bytes, the most that are taken");
            faults.add("spec.stdin", fault);
        }
        // Any default will do: what is unset stays unset in the spec.
        if let Err(fault) = check_signal("spec.stop_signal", self.stop_signal, 0) {
            faults.push(fault);
        }
        matches::check_into(&self.output_matches, self.merge_output, faults);
        rules::labels_into("spec.labels", &self.labels, faults);
        if let Some(fault) = rules::display_name_fault(&self.display_name) {
            faults.add("spec.display_name", fault);
        }
        let bytes = self.text_bytes();
        if bytes > SPEC_BYTES_MAX {
            let fault = format!(
                "has {bytes} bytes of text besides stdin; at most {SPEC_BYTES_MAX} are allowed"
            );
            faults.add("spec", fault);
        }
    }

    fn check_output_limits(
        &self,
        can_keep_tail: bool,
        faults: &mut Faults,
    ) -> Option<OutputLimits> {
        let checked = self.output_limits?.check("spec.output_limits");
        let checked =
            checked.map_err(|found| found.into_iter().for_each(|fault| faults.push(fault))).ok()?;
        if checked.action == OutputLimitAction::KeepTail && !can_keep_tail {
            faults.push(Violation::unsupported("spec.output_limits.action".to_owned()));
        }
        Some(checked)
    }

    fn check_spans(&self, faults: &mut Faults) -> Spans {
        let mut check = |field: &str, span: Option<Span>, range| {
            let checked = span.map(|span| span.duration(field, &range)).transpose();
            checked.map_err(|fault| faults.push(fault)).ok().flatten()
        };
        Spans {
            timeout: check("spec.timeout", self.timeout, positive_span()),
            idle_timeout: check("spec.idle_timeout", self.idle_timeout, positive_span()),
            queue_timeout: check("spec.queue_timeout", self.queue_timeout, positive_span()),
            stop_grace_period: check("spec.stop_grace_period", self.stop_grace_period, any_span()),
            drain_timeout: check("spec.drain_timeout", self.drain_timeout, any_span()),
            ttl_after_end: check("spec.ttl_after_end", self.ttl_after_end, any_span()),
        }
    }

    /// The bytes of all strings, which is what the size of a spec means here.
    fn text_bytes(&self) -> usize {
        let Self {
            argv,
            shell,
            working_dir,
            env,
            secret_env,
            env_files,
            labels,
            output_matches,
            ..
        } = self;
        let lists = argv.iter().chain(env_files).map(String::len);
        let maps = env.iter().chain(secret_env).chain(labels).map(|(k, v)| k.len() + v.len());
        let patterns = output_matches.iter().map(|one| one.name.len() + one.pattern.len());
        lists
            .chain(maps)
            .chain(patterns)
            .chain([shell.len(), working_dir.len(), self.display_name.len()])
            .sum()
    }

    fn into_spec(
        self,
        spans: Spans,
        output_limits: Option<OutputLimits>,
    ) -> (Spec, Secrets, Vec<u8>) {
        let Self {
            argv,
            shell,
            working_dir,
            env,
            secret_env,
            env_inheritance,
            env_files,
            stdin,
            timeout: _,
            idle_timeout: _,
            queue_timeout: _,
            stop_signal,
            stop_grace_period: _,
            drain_timeout: _,
            merge_output,
            output_matches,
            output_limits: _,
            labels,
            display_name,
            priority,
            ttl_after_end: _,
            unsupported: _,
        } = self;
        let Spans {
            timeout,
            idle_timeout,
            queue_timeout,
            stop_grace_period,
            drain_timeout,
            ttl_after_end,
        } = spans;
        let spec = Spec {
            command: if argv.is_empty() { Command::Shell(shell) } else { Command::Argv(argv) },
            working_dir: Some(working_dir).filter(|path| !path.is_empty()),
            env,
            secret_keys: secret_env.keys().cloned().collect(),
            env_inheritance: env_inheritance.unwrap_or_default(),
            env_files,
            stdin_bytes: stdin.len() as u64,
            timeout,
            idle_timeout,
            queue_timeout,
            stop_signal: Some(stop_signal).filter(|signal| *signal != 0),
            stop_grace_period,
            drain_timeout,
            merge_output,
            output_matches,
            output_limits,
            labels,
            display_name,
            priority,
            ttl_after_end,
        };
        (spec, Secrets(secret_env), stdin)
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("argv_len", &self.argv.len())
            .field("env", &self.env.keys())
            .field("secret_env", &self.secret_env.keys())
            .field("stdin_bytes", &self.stdin.len())
            .field("labels", &self.labels)
            .field("unsupported", &self.unsupported)
            .finish_non_exhaustive()
    }
}

impl Violation {
    /// A fault of `field`.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into(), unsupported: false }
    }

    /// A use of `field` that this server does not support yet.
    pub fn unsupported(field: impl Into<String>) -> Self {
        let description = "is not supported by this server; leave it out".to_owned();
        Self { field: field.into(), description, unsupported: true }
    }
}
