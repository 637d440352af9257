//! The settings as a TOML file in which each value says where it came from.

use std::{
    fmt::{Display, Write as _},
    path::PathBuf,
    time::Duration,
};

use toml::Value;

use super::{CgroupUse, Config, Durability, Effective, FileNotices, LogFormat, Source};

impl Effective {
    /// A TOML file that gives these settings again, with a comment over each value that names
    /// its source.
    pub fn to_toml(&self) -> String {
        let Config {
            root,
            listen,
            insecure_loopback_without_token,
            durability,
            max_running_jobs,
            max_queued_jobs,
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
        } = &self.config;
        let (home, path) = (text("home"), |path: &PathBuf| text(path.display()));
        let listen = listen.iter().map(|address| Value::String(address.to_string())).collect();
        let lines: [(&'static str, Value); 22] = [
            ("root", text(root.display())),
            ("listen", Value::Array(listen)),
            ("insecure_loopback_without_token", Value::Boolean(*insecure_loopback_without_token)),
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
        for (key, value) in lines.into_iter().chain(confinement.lines()) {
            let source = self.sources.get(key).unwrap_or(&Source::Default);
            // A path with a line break must not become a line of the file.
            let source = source.to_string().escape_debug().to_string();
            // Writing to a string cannot go wrong.
            let _ = writeln!(toml, "# {source}\n{key} = {value}");
        }
        toml
    }
}

fn text(value: impl Display) -> Value {
    Value::String(value.to_string())
}

fn optional_duration(duration: Option<Duration>) -> Value {
    match duration {
        Some(duration) => text(humantime::format_duration(duration)),
        None => text("none"),
    }
}

fn bytes(count: u64) -> Value {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
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
