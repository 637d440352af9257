//! What survives the file of a spec, and what is refused in it.

use std::time::Duration;

use super::*;
use crate::job::{
    Account, Confinement, MatchStream, OutputLimitAction, OutputLimits, Resource, ResourceLimit,
    Span, Time,
};

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
        confinement: Confinement::default(),
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
    value["version"] = Value::from(3);
    let error = decode(value.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.member, "version");
    assert!(error.why.contains('3'));
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
        let draft = decode_dropped(text.as_bytes(), None).unwrap();
        assert_eq!(draft.argv, ["true"]);
        assert_eq!(draft.idle_timeout, Some(Span { seconds: 2, nanos: 0 }));
    }
}

#[test]
fn a_dropped_spec_with_an_unknown_member_is_refused() {
    assert!(decode_dropped(br#"{"argv": ["true"], "arg": 1}"#, None).is_err());
    let draft = decode_dropped(br#"{"argv": ["true"], "limits": {"nice": 1}}"#, None).unwrap();
    assert_eq!(draft.unsupported, ["limits"]);
}

#[test]
fn the_rules_of_the_host_survive_and_a_record_without_them_has_none() {
    let confinement = Confinement {
        run_as: Some(Account {
            name: "ada".to_owned(),
            uid: 1000,
            gid: u32::MAX - 1,
            groups: vec![1000, 27],
            home: "/home/ada".to_owned(),
        }),
        no_new_privs: true,
        umask: 0o077,
        limits: Resource::ALL.map(|resource| ResourceLimit { resource, value: u64::MAX }).to_vec(),
    };
    let confined = Accepted { confinement, ..accepted(rich()) };
    assert_eq!(decode(&encode(&confined)).unwrap(), confined);
    assert!(text(&confined).contains("\"umask\":\"077\""));
    let plain = accepted(rich());
    assert!(!text(&plain).contains("confinement"));
    assert_eq!(decode(&encode(&plain)).unwrap().confinement, Confinement::default());
}

#[test]
fn a_rule_of_the_host_that_would_not_be_kept_makes_the_record_unreadable() {
    let base: Value = serde_json::from_slice(&encode(&accepted(rich()))).unwrap();
    for rules in [
        r#"{"seccomp": "strict"}"#,
        r#"{"umask": "999"}"#,
        r#"{"umask": "1777"}"#,
        r#"{"limits": {"nice": 1}}"#,
        r#"{"run_as": {"name": "ada"}}"#,
        r#"{"run_as": {"name": "a", "uid": 4294967295, "gid": 7, "groups": [], "home": "/"}}"#,
    ] {
        let mut file = base.clone();
        file["confinement"] = serde_json::from_str(rules).unwrap();
        assert!(decode(file.to_string().as_bytes()).is_err(), "{rules}");
    }
}

#[test]
fn a_dropped_record_without_its_secrets_or_its_input_is_refused() {
    let dropped = |spec: &str, stdin: Option<&str>| {
        let text = format!(r#"{{"version": 1, "spec": {{"argv": ["true"], {spec}}}}}"#);
        decode_dropped(text.as_bytes(), stdin.map(|stdin| stdin.as_bytes().to_vec()))
    };
    let member = |spec: &str| dropped(spec, None).unwrap_err().member;
    assert_eq!(member(r#""secret_keys": ["A"]"#), "secret_keys");
    assert_eq!(member(r#""secret_keys": ["A"], "secret_env": {"B": "b"}"#), "secret_keys");
    assert_eq!(member(r#""stdin_bytes": 2"#), "stdin_bytes");
    assert!(dropped(r#""secret_keys": ["A"], "secret_env": {"A": "a"}"#, None).is_ok());
    assert_eq!(dropped(r#""stdin_bytes": 2"#, Some("in")).unwrap().stdin, b"in");
    assert_eq!(dropped(r#""stdin": "aW4=""#, Some("in")).unwrap_err().member, "stdin");
}

#[test]
fn what_is_said_of_wrong_secrets_does_not_quote_them() {
    for secrets in [r#""hush""#, r#"["hush"]"#, r#"{"A": ["hush"]}"#, r#"{"A": {"hush": 1}}"#] {
        for name in ["secret_env", "secretEnv"] {
            let text = format!(r#"{{"argv": ["true"], "{name}": {secrets}}}"#);
            let error = decode_dropped(text.as_bytes(), None).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("hush"), "{error}");
        }
    }
}
