//! From the flags of `exec` to the spec of a job.
//!
//! Values of secrets are never taken from the command line, where `ps` shows them to everybody.

use std::{
    collections::HashMap,
    env, fs,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use clap::Args;

use crate::api::{EnvInheritance, JobSpec, OutputLimitAction, OutputLimits, OutputMatch};

use super::{failure::Failure, parse};

/// The most of standard input that is read for a job; the service has its own, lower bound.
const STDIN_BYTES_MAX: u64 = 64 << 20;

/// The longest secret that is read from a file.
const SECRET_BYTES_MAX: u64 = 128 << 10;

/// What to run and under which rules.
#[derive(Args, Debug, Default)]
pub(super) struct SpecFlags {
    /// The program and its arguments; no shell is involved
    #[arg(trailing_var_arg = true, required_unless_present = "shell", value_name = "COMMAND")]
    pub(super) command: Vec<String>,
    /// Run this script with /bin/sh instead of a command
    #[arg(long, value_name = "SCRIPT", conflicts_with = "command")]
    shell: Option<String>,
    /// Run it in this directory of the service's host [default: the current directory]
    #[arg(long, value_name = "DIR", help_heading = "Surroundings")]
    cwd: Option<String>,
    /// Set a variable, or pass one on from here; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Surroundings")]
    env: Vec<String>,
    /// Read variables from this file when the job starts; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Surroundings")]
    env_file: Vec<String>,
    /// Set a variable whose value is secret: passed on from here, or read from a file
    #[arg(long, value_name = "NAME[=@FILE]", help_heading = "Surroundings")]
    secret_env: Vec<String>,
    /// Start from the environment of the service rather than from a minimal one
    #[arg(long, help_heading = "Surroundings")]
    inherit_env: bool,
    /// Give the job what this command reads on standard input
    #[arg(long, help_heading = "Surroundings")]
    stdin: bool,
    /// Give the job this file as standard input
    #[arg(long, value_name = "FILE", conflicts_with = "stdin", help_heading = "Surroundings")]
    stdin_file: Option<String>,
    /// Write both streams to standard output, in their exact order
    #[arg(long, help_heading = "Surroundings")]
    merge_output: bool,
    /// End it when it has run for this long
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", help_heading = "Limits")]
    timeout: Option<Duration>,
    /// End it when it has printed nothing for this long
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", help_heading = "Limits")]
    idle_timeout: Option<Duration>,
    /// Give up when it has waited in the queue for this long
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", help_heading = "Limits")]
    queue_timeout: Option<Duration>,
    /// Ask it to stop with this signal [default: TERM]
    #[arg(long, value_parser = parse::signal, value_name = "SIGNAL", help_heading = "Limits")]
    stop_signal: Option<i32>,
    /// Kill it this long after it was asked to stop; 0 kills at once [default: 10s]
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", help_heading = "Limits")]
    grace: Option<Duration>,
    /// Kill what still holds its output open this long after it ended [default: 10s]
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", help_heading = "Limits")]
    drain_timeout: Option<Duration>,
    /// Report output that matches a regular expression, as an event; may be repeated
    #[arg(long = "match", value_parser = parse::pair, value_name = "NAME=REGEX", help_heading = "Record")]
    matches: Vec<(String, String)>,
    /// Report output that holds a text, as an event; may be repeated
    #[arg(long, value_parser = parse::pair, value_name = "NAME=TEXT", help_heading = "Record")]
    match_literal: Vec<(String, String)>,
    /// Keep no more than this many bytes of each stream
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(i64).range(1..), help_heading = "Limits")]
    output_limit: Option<i64>,
    /// What happens to a job that writes more [default: truncate]
    #[arg(long, value_name = "ACTION", requires = "output_limit", help_heading = "Limits")]
    output_limit_action: Option<LimitAction>,
    /// Add a label; may be repeated
    #[arg(short, long, value_parser = parse::pair, value_name = "KEY=VALUE", help_heading = "Record")]
    label: Vec<(String, String)>,
    /// Name the job for people
    #[arg(long, value_name = "NAME", help_heading = "Record")]
    name: Option<String>,
    /// Start it before queued jobs with a lower number [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Record")]
    priority: Option<i32>,
    /// Delete it this long after its end
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", help_heading = "Record")]
    ttl: Option<Duration>,
}

/// What happens to a job that writes more than its limit.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum LimitAction {
    /// Drop and count the rest
    Truncate,
    /// Keep the first half and the newest bytes; drop and count what lies between
    KeepTail,
    /// Drop and count the rest, and stop the job
    Fail,
}

fn output_limits(most: i64, action: Option<LimitAction>) -> OutputLimits {
    let action = match action {
        None => OutputLimitAction::Unspecified,
        Some(LimitAction::Truncate) => OutputLimitAction::Truncate,
        Some(LimitAction::KeepTail) => OutputLimitAction::KeepTail,
        Some(LimitAction::Fail) => OutputLimitAction::Fail,
    };
    OutputLimits { max_bytes_per_stream: most, action: action.into() }
}

/// The spec that the flags describe, with what has to be read for it.
pub(super) fn build(flags: SpecFlags) -> Result<JobSpec, Failure> {
    let env_inheritance =
        if flags.inherit_env { EnvInheritance::All } else { EnvInheritance::Unspecified };
    let env_files: Result<_, Failure> = flags.env_file.iter().map(|file| absolute(file)).collect();
    Ok(JobSpec {
        argv: flags.command,
        shell: flags.shell.unwrap_or_default(),
        working_dir: absolute(flags.cwd.as_deref().unwrap_or("."))?,
        env: variables(&flags.env)?,
        secret_env: secrets(&flags.secret_env)?,
        env_inheritance: env_inheritance.into(),
        env_files: env_files?,
        stdin: standard_input(flags.stdin, flags.stdin_file.as_deref())?,
        timeout: parse::span(flags.timeout),
        idle_timeout: parse::span(flags.idle_timeout),
        queue_timeout: parse::span(flags.queue_timeout),
        stop_signal: flags.stop_signal.unwrap_or_default(),
        stop_grace_period: parse::span(flags.grace),
        drain_timeout: parse::span(flags.drain_timeout),
        merge_output: flags.merge_output,
        output_limits: flags
            .output_limit
            .map(|most| output_limits(most, flags.output_limit_action)),
        limits: None,
        labels: flags.label.into_iter().collect(),
        display_name: flags.name.unwrap_or_default(),
        priority: flags.priority.unwrap_or_default(),
        retry: None,
        output_matches: patterns(flags.matches, flags.match_literal),
        ttl_after_end: parse::span(flags.ttl),
    })
}

fn patterns(expressions: Vec<(String, String)>, texts: Vec<(String, String)>) -> Vec<OutputMatch> {
    let pattern =
        |(name, pattern), literal| OutputMatch { name, pattern, literal, ..OutputMatch::default() };
    let expressions = expressions.into_iter().map(|pair| pattern(pair, false));
    expressions.chain(texts.into_iter().map(|pair| pattern(pair, true))).collect()
}

/// The values of secret variables, each from the environment or from a file.
pub(super) fn secrets(given: &[String]) -> Result<HashMap<String, String>, Failure> {
    let secret = |text: &String| {
        match text.split_once('=') {
        None => own_variable("--secret-env", text),
        Some((name, value)) => match value.strip_prefix('@') {
            Some(file) => secret_file(file).map(|value| (name.to_owned(), value)),
            None => Err(Failure::usage(format!(
                "--secret-env {name}: its value must not stand on the command line, where others \
                 can see it"
            ))
            .hint(format!("write `--secret-env {name}=@FILE`, or export {name} and write `--secret-env {name}`"))),
        },
    }
    };
    given.iter().map(secret).collect()
}

fn variables(given: &[String]) -> Result<HashMap<String, String>, Failure> {
    let variable = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => own_variable("--env", text),
    };
    given.iter().map(variable).collect()
}

fn own_variable(flag: &str, name: &str) -> Result<(String, String), Failure> {
    match env::var(name) {
        Ok(value) => Ok((name.to_owned(), value)),
        Err(env::VarError::NotPresent) => {
            Err(Failure::usage(format!("{flag} {name}: there is no such variable here")))
        }
        Err(env::VarError::NotUnicode(_)) => {
            Err(Failure::usage(format!("{flag} {name}: its value is not UTF-8")))
        }
    }
}

fn secret_file(file: &str) -> Result<String, Failure> {
    let bytes = fs::File::open(file).and_then(|file| limited(file, SECRET_BYTES_MAX));
    let bytes = bytes.map_err(|error| cannot_read(file, &error))?;
    let mut text = String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("cannot use {file:?} as a secret: it is not UTF-8")))?;
    // Editors end a file with a line break, which is hardly part of the secret.
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

fn standard_input(own: bool, file: Option<&str>) -> Result<Vec<u8>, Failure> {
    match file {
        Some(file) => fs::File::open(file)
            .and_then(|file| limited(file, STDIN_BYTES_MAX))
            .map_err(|error| cannot_read(file, &error)),
        None if own => limited(io::stdin().lock(), STDIN_BYTES_MAX)
            .map_err(|error| cannot_read("standard input", &error)),
        None => Ok(Vec::new()),
    }
}

fn limited(source: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let text = format!("it has more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

fn cannot_read(what: &str, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot read {what}: {error}"))
}

fn absolute(path: &str) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::usage(format!("{path:?} is no path for a job: {why}"));
    let path = match path {
        // The shell's idea of the current directory keeps symbolic links as the user wrote them,
        // but only the kernel's is sure to exist.
        "." => env::current_dir(),
        path => std::path::absolute(Path::new(path)),
    };
    let path = path.map_err(|error| wrong(&error.to_string()))?;
    path.into_os_string().into_string().map_err(|_| wrong("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_taken_from_a_file_and_never_from_the_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "s3cret\n").unwrap();
        let read = secrets(&[format!("TOKEN=@{}", file.display())]).unwrap();
        assert_eq!(read["TOKEN"], "s3cret");
        let refused = secrets(&["TOKEN=s3cret".to_owned()]).unwrap_err();
        assert!(!format!("{refused:?}").contains("s3cret"));
        assert!(secrets(&["JOBWARDEN_TEST_UNSET_VARIABLE".to_owned()]).is_err());
    }

    #[test]
    fn a_variable_is_set_or_passed_on() {
        let path = env::var("PATH").unwrap();
        let read = variables(&["A=b=c".to_owned(), "PATH".to_owned()]).unwrap();
        assert_eq!((read["A"].as_str(), read["PATH"].as_str()), ("b=c", path.as_str()));
    }

    #[test]
    fn paths_become_absolute_because_the_service_runs_elsewhere() {
        let spec = build(SpecFlags {
            command: vec!["true".to_owned()],
            env_file: vec!["x.env".to_owned()],
            ..SpecFlags::default()
        })
        .unwrap();
        let here = env::current_dir().unwrap();
        assert_eq!(Path::new(&spec.working_dir), here);
        assert_eq!(Path::new(&spec.env_files[0]), here.join("x.env"));
    }

    #[test]
    fn input_beyond_the_bound_is_refused_rather_than_cut() {
        assert_eq!(limited(&b"abc"[..], 3).unwrap(), b"abc");
        assert!(limited(&b"abcd"[..], 3).is_err());
    }
}
