//! What survives the file of a spec, and what is refused in it.

use std::time::Duration;

use super::*;
use crate::job::{MatchStream, OutputLimitAction, OutputLimits, Span, Time};

fn accepted(spec: Spec) -> Accepted {
    Accepted {
        id: "01kb0000000000000000000000".parse().unwrap(),
        create_time: Time::from_nanos(1_790_000_000_123_456_789),
        owner: "uid:0".to_owned(),
        request_id: Some("request-1".to_owned()),
        digest: "00ff".to_owned(),
        spec,
        working_dir: "/tmp".to_owned(),
        timeout: Some(Duration::from_millis(1_500)),
        durability: Durability::Process,
    }
}

fn rich() -> Spec {
    let second = Some(Duration::from_secs(1));
    Spec {
        command: Command::Argv(vec!["printf".to_owned(), "\u{7f}é".to_owned()]),
        working_dir: Some("/tmp".to_owned()),
        env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
        secret_keys: vec!["TOKEN".to_owned()],
        env_inheritance: EnvInheritance::All,
        env_files: vec!["/etc/environment".to_owned()],
        stdin_bytes: 7,
        timeout: second,
        idle_timeout: second,
        queue_timeout: second,
        stop_signal: Some(2),
        stop_grace_period: Some(Duration::ZERO),
        drain_timeout: Some(Duration::from_nanos(1)),
        merge_output: true,
        output_matches: [MatchStream::Both, MatchStream::Stdout, MatchStream::Stderr]
            .map(|stream| OutputMatch {
                name: "n".to_owned(),
                pattern: "[a\n]".to_owned(),
                literal: stream == MatchStream::Stdout,
                stream,
                once: stream == MatchStream::Stderr,
            })
            .to_vec(),
        output_limits: Some(OutputLimits {
            max_bytes_per_stream: 9,
            action: OutputLimitAction::Fail,
        }),
        labels: BTreeMap::from([("team".to_owned(), String::new())]),
        display_name: "a name".to_owned(),
        priority: -3,
        ttl_after_end: second,
    }
}

#[test]
fn what_was_accepted_survives_its_file() {
    for spec in [
        rich(),
        draft(SpecMembers { shell: "true".to_owned(), ..SpecMembers::default() })
            .map(|draft| Spec { command: Command::Shell(draft.shell), ..rich() })
            .unwrap(),
    ] {
        let accepted = accepted(spec);
        assert_eq!(decode(&encode(&accepted)).unwrap(), accepted);
    }
}

#[test]
fn a_newer_version_is_refused_by_its_number() {
    let mut value: Value = serde_json::from_slice(&encode(&accepted(rich()))).unwrap();
    value["version"] = Value::from(2);
    let error = decode(value.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.member, "version");
    assert!(error.why.contains('2'));
}

#[test]
fn an_accepted_record_with_a_rule_that_would_not_be_kept_is_refused() {
    for (member, value) in [
        ("limits", r#"{"memory_bytes":1}"#),
        ("retry", r#"{"max_attempts":2}"#),
        ("secret_env", r#"{"A":"b"}"#),
        ("stdin", r#""aW4=""#),
    ] {
        let mut file: Value = serde_json::from_slice(&encode(&accepted(rich()))).unwrap();
        file["spec"][member] = serde_json::from_str(value).unwrap();
        assert_eq!(decode(file.to_string().as_bytes()).unwrap_err().member, member);
    }
}

#[test]
fn a_dropped_spec_may_stand_alone_or_in_a_record_in_either_case() {
    for text in [
        r#"{"argv": ["true"], "idle_timeout": "2s"}"#,
        r#"{"argv": ["true"], "idleTimeout": "2s"}"#,
        r#"{"version": 1, "job_id": "x", "spec": {"argv": ["true"], "idle_timeout": "2s"}}"#,
    ] {
        let draft = decode_dropped(text.as_bytes()).unwrap();
        assert_eq!(draft.argv, ["true"]);
        assert_eq!(draft.idle_timeout, Some(Span { seconds: 2, nanos: 0 }));
    }
}

#[test]
fn a_dropped_spec_with_an_unknown_member_is_refused() {
    assert!(decode_dropped(br#"{"argv": ["true"], "arg": 1}"#).is_err());
    let draft = decode_dropped(br#"{"argv": ["true"], "limits": {"nice": 1}}"#).unwrap();
    assert_eq!(draft.unsupported, ["limits"]);
}
