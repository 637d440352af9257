//! Specs: from the wire to a draft, and back once they have been accepted.

use super::{choice::choice, reply::duration, request::span};
use crate::{
    api,
    job::{
        Command, Draft, EnvInheritance, MatchStream, OutputLimitAction, OutputLimits,
        OutputLimitsDraft, OutputMatch, Spec,
    },
};

/// The draft that a spec of the wire is; `Draft::check` looks for its faults.
pub fn draft(spec: api::JobSpec) -> Draft {
    let api::JobSpec {
        argv,
        shell,
        working_dir,
        env,
        secret_env,
        env_inheritance,
        env_files,
        stdin,
        timeout,
        idle_timeout,
        queue_timeout,
        stop_signal,
        stop_grace_period,
        drain_timeout,
        merge_output,
        output_limits,
        limits,
        labels,
        display_name,
        priority,
        retry,
        output_matches,
        ttl_after_end,
    } = spec;
    let patterns: Option<Vec<_>> = output_matches.into_iter().map(match_in).collect();
    let unsupported = [
        ("limits", limits.is_some()),
        ("retry", retry.is_some()),
        ("output_matches", patterns.is_none()),
    ];
    Draft {
        argv,
        shell,
        working_dir,
        env: env.into_iter().collect(),
        secret_env: secret_env.into_iter().collect(),
        env_inheritance: inheritance_in(env_inheritance),
        env_files,
        stdin,
        timeout: timeout.map(span),
        idle_timeout: idle_timeout.map(span),
        queue_timeout: queue_timeout.map(span),
        stop_signal,
        stop_grace_period: stop_grace_period.map(span),
        drain_timeout: drain_timeout.map(span),
        merge_output,
        output_matches: patterns.unwrap_or_default(),
        output_limits: output_limits.map(limits_in),
        labels: labels.into_iter().collect(),
        display_name,
        priority,
        ttl_after_end: ttl_after_end.map(span),
        unsupported: unsupported
            .iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| *name)
            .collect(),
    }
}

/// The spec on the wire, without secrets and standard input.
pub(super) fn spec(spec: &Spec) -> api::JobSpec {
    let Spec {
        command,
        working_dir,
        env,
        secret_keys: _,
        env_inheritance,
        env_files,
        stdin_bytes: _,
        timeout,
        idle_timeout,
        queue_timeout,
        stop_signal,
        stop_grace_period,
        drain_timeout,
        merge_output,
        output_matches,
        output_limits,
        labels,
        display_name,
        priority,
        ttl_after_end,
    } = spec;
    let (argv, shell) = match command {
        Command::Argv(argv) => (argv.clone(), String::new()),
        Command::Shell(shell) => (Vec::new(), shell.clone()),
    };
    api::JobSpec {
        argv,
        shell,
        working_dir: working_dir.clone().unwrap_or_default(),
        env: env.clone().into_iter().collect(),
        secret_env: [].into(),
        env_inheritance: inheritance_out(*env_inheritance).into(),
        env_files: env_files.clone(),
        stdin: Vec::new(),
        timeout: timeout.map(duration),
        idle_timeout: idle_timeout.map(duration),
        queue_timeout: queue_timeout.map(duration),
        stop_signal: stop_signal.unwrap_or_default(),
        stop_grace_period: stop_grace_period.map(duration),
        drain_timeout: drain_timeout.map(duration),
        merge_output: *merge_output,
        output_limits: output_limits.map(limits_out),
        limits: None,
        labels: labels.clone().into_iter().collect(),
        display_name: display_name.clone(),
        priority: *priority,
        retry: None,
        output_matches: output_matches.iter().cloned().map(match_out).collect(),
        ttl_after_end: ttl_after_end.map(duration),
    }
}

/// The pattern; `None` if its stream is not known.
fn match_in(one: api::OutputMatch) -> Option<OutputMatch> {
    let api::OutputMatch { name, pattern, literal, stream, once } = one;
    let stream = match choice("spec.output_matches", stream).ok()? {
        api::LogStream::Unspecified => MatchStream::Both,
        api::LogStream::Stdout => MatchStream::Stdout,
        api::LogStream::Stderr => MatchStream::Stderr,
    };
    Some(OutputMatch { name, pattern, literal, stream, once })
}

fn match_out(one: OutputMatch) -> api::OutputMatch {
    let OutputMatch { name, pattern, literal, stream, once } = one;
    let stream = match stream {
        MatchStream::Both => api::LogStream::Unspecified,
        MatchStream::Stdout => api::LogStream::Stdout,
        MatchStream::Stderr => api::LogStream::Stderr,
    };
    api::OutputMatch { name, pattern, literal, stream: stream.into(), once }
}

fn limits_in(limits: api::OutputLimits) -> OutputLimitsDraft {
    let api::OutputLimits { max_bytes_per_stream, action } = limits;
    let action = match choice("spec.output_limits.action", action) {
        Ok(api::OutputLimitAction::Unspecified | api::OutputLimitAction::Truncate) => {
            Some(OutputLimitAction::Truncate)
        }
        Ok(api::OutputLimitAction::Fail) => Some(OutputLimitAction::Fail),
        Ok(api::OutputLimitAction::KeepTail) => Some(OutputLimitAction::KeepTail),
        Err(_) => None,
    };
    OutputLimitsDraft { max_bytes_per_stream, action }
}

fn limits_out(limits: OutputLimits) -> api::OutputLimits {
    let OutputLimits { max_bytes_per_stream, action } = limits;
    let action = match action {
        OutputLimitAction::Truncate => api::OutputLimitAction::Truncate,
        OutputLimitAction::KeepTail => api::OutputLimitAction::KeepTail,
        OutputLimitAction::Fail => api::OutputLimitAction::Fail,
    };
    let max_bytes_per_stream = i64::try_from(max_bytes_per_stream).unwrap_or(i64::MAX);
    api::OutputLimits { max_bytes_per_stream, action: action.into() }
}

fn inheritance_in(number: i32) -> Option<EnvInheritance> {
    match choice("spec.env_inheritance", number).ok()? {
        api::EnvInheritance::Unspecified | api::EnvInheritance::Minimal => {
            Some(EnvInheritance::Minimal)
        }
        api::EnvInheritance::All => Some(EnvInheritance::All),
    }
}

fn inheritance_out(inheritance: EnvInheritance) -> api::EnvInheritance {
    match inheritance {
        EnvInheritance::Minimal => api::EnvInheritance::Minimal,
        EnvInheritance::All => api::EnvInheritance::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::DraftLimits;

    #[test]
    fn each_field_of_a_spec_arrives_in_its_place() {
        let pair = |key: &str, value: &str| [(key.to_owned(), value.to_owned())];
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let spec = api::JobSpec {
            argv: vec!["a".to_owned()],
            working_dir: "/w".to_owned(),
            env: pair("K", "v").into(),
            secret_env: pair("S", "hush").into(),
            env_inheritance: api::EnvInheritance::All.into(),
            env_files: vec!["/f".to_owned()],
            stdin: b"in".to_vec(),
            timeout: seconds(1),
            idle_timeout: seconds(2),
            queue_timeout: seconds(3),
            stop_signal: 2,
            stop_grace_period: seconds(4),
            drain_timeout: seconds(5),
            merge_output: true,
            output_matches: vec![api::OutputMatch {
                name: "n".to_owned(),
                pattern: "p".to_owned(),
                literal: true,
                stream: api::LogStream::Stdout.into(),
                once: true,
            }],
            output_limits: Some(api::OutputLimits {
                max_bytes_per_stream: 9,
                action: api::OutputLimitAction::Fail.into(),
            }),
            labels: pair("l", "v").into(),
            display_name: "name".to_owned(),
            priority: -7,
            ttl_after_end: seconds(6),
            ..api::JobSpec::default()
        };
        let limits = DraftLimits { stdin_bytes_max: 2, can_keep_tail: true };
        let (checked, secrets, stdin) = draft(spec.clone()).check(&limits).unwrap();
        assert_eq!((secrets.0["S"].as_str(), stdin.as_slice()), ("hush", &b"in"[..]));
        // What comes back is what went in, less what is never told.
        let told = api::JobSpec { secret_env: [].into(), stdin: Vec::new(), ..spec };
        assert_eq!(super::spec(&checked), told);
    }

    #[test]
    fn what_is_not_supported_yet_is_named_and_not_ignored() {
        let spec = api::JobSpec {
            shell: "true".to_owned(),
            env_inheritance: 3,
            output_limits: Some(api::OutputLimits {
                max_bytes_per_stream: 9,
                action: api::OutputLimitAction::KeepTail.into(),
            }),
            limits: Some(api::ResourceLimits::default()),
            retry: Some(api::RetryPolicy::default()),
            output_matches: vec![api::OutputMatch { stream: 9, ..api::OutputMatch::default() }],
            ..api::JobSpec::default()
        };
        let limits = DraftLimits { stdin_bytes_max: 0, can_keep_tail: false };
        let violations = draft(spec).check(&limits).unwrap_err();
        let fields: Vec<_> = violations.iter().map(|fault| fault.field.as_str()).collect();
        let names =
            ["limits", "retry", "output_matches", "env_inheritance", "output_limits.action"];
        assert_eq!(fields, names.map(|name| format!("spec.{name}")));
        assert!(violations.iter().all(|fault| fault.unsupported));
    }
}
