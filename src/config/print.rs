//! The settings as a TOML file in which each value says where it came from.

use std::{
    fmt::{Display, Write as _},
    path::PathBuf,
    time::Duration,
};

use toml::Value;

use crate::job::{Patterns, Policy};

use super::{
    AuditLimits, AuditScope, CgroupUse, Config, Durability, Effective, FileNotices, LogFormat,
    Shares, Source,
};

/// A setting and its value.
type Line = (&'static str, Value);

impl Effective {
    /// A TOML file that gives these settings again, with a comment over each value that names
    /// its source.
    pub fn to_toml(&self) -> String {
        let Config {
            root,
            listen,
            insecure_loopback_without_token,
            unix_users,
            certificates,
            audit,
            durability,
            max_running_jobs,
            max_queued_jobs,
            shares,
            policy,
            default_timeout,
            default_working_dir,
            confinement,
            max_stdin_bytes,
            max_wait,
            max_streams,
            max_streams_per_principal,
            drain_limit,
            idle_shutdown,
            retention,
            journal_max_bytes,
            journal_max_events,
            journal_max_age,
            file_notices,
            cgroup,
            log_filter,
            log_format,
            network,
        } = &self.config;
        let (home, path) = (text("home"), |path: &PathBuf| text(path.display()));
        let lines: [Line; 24] = [
            ("root", text(root.display())),
            ("listen", list(listen)),
            ("insecure_loopback_without_token", Value::Boolean(*insecure_loopback_without_token)),
            ("unix_users", list(unix_users)),
            ("certificates", list(certificates)),
            ("durability", text(durability_name(*durability))),
            ("max_running_jobs", Value::Integer(i64::from(*max_running_jobs))),
            ("max_queued_jobs", Value::Integer(i64::from(*max_queued_jobs))),
            ("default_timeout", optional_duration(*default_timeout)),
            ("default_working_dir", default_working_dir.as_ref().map_or(home, path)),
            ("max_stdin_bytes", bytes(*max_stdin_bytes)),
            ("max_wait", optional_duration(Some(*max_wait))),
            ("max_streams", Value::Integer(i64::from(*max_streams))),
            ("max_streams_per_principal", Value::Integer(i64::from(*max_streams_per_principal))),
            ("drain_limit", optional_duration(Some(*drain_limit))),
            ("idle_shutdown", optional_duration(*idle_shutdown)),
            ("retention", optional_duration(*retention)),
            ("journal_max_bytes", bytes(*journal_max_bytes)),
            ("journal_max_events", Value::Integer(i64::from(*journal_max_events))),
            ("journal_max_age", optional_duration(*journal_max_age)),
            ("file_notices", text(file_notices_name(*file_notices))),
            ("cgroup", text(cgroup_name(*cgroup))),
            ("log_filter", text(log_filter)),
            ("log_format", text(log_format_name(*log_format))),
        ];
        let mut toml = String::new();
        let lines = lines.into_iter().chain(audit_lines(*audit)).chain(share_lines(*shares));
        let lines = lines.chain(policy_lines(policy)).chain(confinement.lines());
        for (key, value) in lines.chain(network.lines()) {
            let source = self.sources.get(key).unwrap_or(&Source::Default);
            // A path with a line break must not become a line of the file.
            let source = source.to_string().escape_debug().to_string();
            // Writing to a string cannot go wrong.
            let _ = writeln!(toml, "# {source}\n{key} = {value}");
        }
        toml
    }
}

fn audit_lines(audit: AuditLimits) -> [Line; 3] {
    let AuditLimits { scope, bytes_max, files_max } = audit;
    [
        ("audit", text(audit_name(scope))),
        ("audit_max_bytes", bytes(bytes_max)),
        ("audit_max_files", Value::Integer(i64::from(files_max))),
    ]
}

fn share_lines(shares: Shares) -> [Line; 3] {
    let Shares { running_max, queued_max, per_minute_max } = shares;
    [
        ("max_running_jobs_per_principal", optional(running_max)),
        ("max_queued_jobs_per_principal", optional(queued_max)),
        ("max_jobs_per_minute_per_principal", optional(per_minute_max)),
    ]
}

fn policy_lines(policy: &Policy) -> [Line; 6] {
    let Policy { executables, working_dirs, env_keys, timeout_max, output_bytes_max, labels_max } =
        policy;
    [
        ("allowed_executables", patterns(executables)),
        ("allowed_working_dirs", patterns(working_dirs)),
        ("allowed_env_keys", patterns(env_keys)),
        ("max_timeout", optional_duration(*timeout_max)),
        ("max_output_bytes", output_bytes_max.map_or_else(|| text("none"), bytes)),
        ("max_labels", Value::Integer(i64::from(*labels_max))),
    ]
}

fn patterns(patterns: &Patterns) -> Value {
    if patterns.texts().is_empty() { text("none") } else { list(patterns.texts()) }
}

fn text(value: impl Display) -> Value {
    Value::String(value.to_string())
}

fn list(values: &[impl Display]) -> Value {
    Value::Array(values.iter().map(text).collect())
}

fn optional_duration(duration: Option<Duration>) -> Value {
    match duration {
        Some(duration) => text(humantime::format_duration(duration)),
        None => text("none"),
    }
}

fn optional(number: Option<u32>) -> Value {
    number.map_or_else(|| text("none"), |number| Value::Integer(number.into()))
}

fn bytes(count: u64) -> Value {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

fn audit_name(scope: AuditScope) -> &'static str {
    match scope {
        AuditScope::Off => "off",
        AuditScope::Changes => "changes",
        AuditScope::All => "all",
    }
}

fn file_notices_name(notices: FileNotices) -> &'static str {
    match notices {
        FileNotices::Auto => "auto",
        FileNotices::Poll => "poll",
    }
}

fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Power => "power",
        Durability::Process => "process",
    }
}

fn cgroup_name(cgroup: CgroupUse) -> &'static str {
    match cgroup {
        CgroupUse::Auto => "auto",
        CgroupUse::Off => "off",
    }
}

fn log_format_name(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Auto => "auto",
        LogFormat::Human => "human",
        LogFormat::Json => "json",
    }
}
