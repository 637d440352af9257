//! Requests with faults in them: each is refused by name, and none leaves a job behind.

use std::collections::HashMap;

use jobwarden::api::{
    CancelRequest, ExecRequest, JobFilter, JobSpec, ListRequest, OutputLimits, OutputMatch,
    ResourceLimits, RetryPolicy, StatusRequest, TailLogRequest, WaitRequest, WatchEventsRequest,
    tail_log_request::Start,
};
use tonic::Code;

use crate::harness::{Daemon, Refused, argv, pairs, refused, seconds, shell};

/// Ten years and a second.
const TOO_LONG: i64 = 10 * 366 * 24 * 3600;

async fn refusal(daemon: &Daemon, spec: JobSpec) -> Refused {
    refused(daemon.try_exec(spec).await)
}

/// Checks that each spec is refused for the field beside it, and that no job was made.
async fn check(cases: Vec<(&str, JobSpec)>) {
    let daemon = Daemon::start().await;
    for (field, spec) in cases {
        let error = refusal(&daemon, spec).await;
        assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"), "{field}: {error:?}");
        assert!(error.fields.iter().any(|named| named == field), "{field}: {error:?}");
        assert!(error.message.len() < 2048, "{field}");
    }
    let jobs = daemon.api().list(ListRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(jobs.len(), 0);
}

fn many(count: usize) -> HashMap<String, String> {
    (0..count).map(|n| (format!("k{n}"), String::new())).collect()
}

#[tokio::test]
async fn a_bad_command_or_place_is_refused() {
    let long = "x".repeat(128 * 1024 + 1);
    let with_dir = |dir: &str| JobSpec { working_dir: dir.to_owned(), ..argv(&["true"]) };
    check(vec![
        ("spec.argv", JobSpec::default()),
        ("spec.shell", JobSpec { shell: "true".to_owned(), ..argv(&["true"]) }),
        ("spec.argv[0]", argv(&["", "x"])),
        ("spec.argv[1]", argv(&["true", "a\0b"])),
        ("spec.argv[1]", argv(&["true", &long])),
        ("spec.argv", argv(&["x"; 4097])),
        ("spec.shell", shell("a\0b")),
        ("spec.shell", shell(&long)),
        ("spec.working_dir", with_dir("relative/dir")),
        ("spec.working_dir", with_dir("/a\0b")),
        ("spec.working_dir", with_dir(&format!("/{}", "x".repeat(4096)))),
        ("spec", argv(&["x"; 20].map(|_| &long[..100 * 1024]))),
    ])
    .await;
}

#[tokio::test]
async fn a_bad_environment_is_refused() {
    let env = |env| JobSpec { env, ..argv(&["true"]) };
    let secret = |secret_env| JobSpec { secret_env, ..argv(&["true"]) };
    let files = |files: Vec<&str>| JobSpec {
        env_files: files.into_iter().map(str::to_owned).collect(),
        ..argv(&["true"])
    };
    let both = JobSpec { secret_env: pairs([("A", "2")]), ..env(pairs([("A", "1")])) };
    check(vec![
        (r#"spec.env["A B"]"#, env(pairs([("A B", "")]))),
        (r#"spec.env["1A"]"#, env(pairs([("1A", "")]))),
        (r#"spec.env[""]"#, env(pairs([("", "")]))),
        (r#"spec.env["JOBWARDEN_JOB_ID"]"#, env(pairs([("JOBWARDEN_JOB_ID", "x")]))),
        (r#"spec.env["A"]"#, env(pairs([("A", "a\0b")]))),
        (r#"spec.env["A"]"#, env(pairs([("A", &"x".repeat(128 * 1024 + 1))]))),
        ("spec.env", env(many(1025))),
        (r#"spec.secret_env["A=B"]"#, secret(pairs([("A=B", "x")]))),
        (r#"spec.secret_env["JOBWARDEN_X"]"#, secret(pairs([("JOBWARDEN_X", "x")]))),
        (r#"spec.secret_env["A"]"#, both),
        ("spec.env_files[0]", files(vec!["relative"])),
        ("spec.env_files[1]", files(vec!["/a", ""])),
        ("spec.env_files", files(vec!["/a"; 17])),
    ])
    .await;
}

#[tokio::test]
async fn a_span_or_signal_out_of_range_is_refused() {
    let with = |change: fn(&mut JobSpec)| {
        let mut spec = argv(&["true"]);
        change(&mut spec);
        spec
    };
    check(vec![
        ("spec.timeout", with(|spec| spec.timeout = seconds(0))),
        ("spec.timeout", with(|spec| spec.timeout = seconds(-1))),
        ("spec.timeout", with(|spec| spec.timeout = seconds(TOO_LONG))),
        ("spec.timeout", with(|spec| spec.timeout = seconds(i64::MAX))),
        (
            "spec.timeout",
            with(|spec| spec.timeout = Some(prost_types::Duration { seconds: 1, nanos: -1 })),
        ),
        (
            "spec.timeout",
            with(|spec| {
                spec.timeout = Some(prost_types::Duration { seconds: 1, nanos: 1_000_000_000 });
            }),
        ),
        ("spec.idle_timeout", with(|spec| spec.idle_timeout = seconds(0))),
        ("spec.queue_timeout", with(|spec| spec.queue_timeout = seconds(0))),
        ("spec.stop_grace_period", with(|spec| spec.stop_grace_period = seconds(-1))),
        ("spec.drain_timeout", with(|spec| spec.drain_timeout = seconds(TOO_LONG))),
        ("spec.ttl_after_end", with(|spec| spec.ttl_after_end = seconds(-1))),
        ("spec.stop_signal", with(|spec| spec.stop_signal = -1)),
        ("spec.stop_signal", with(|spec| spec.stop_signal = 65)),
    ])
    .await;
}

#[tokio::test]
async fn bad_labels_names_and_input_are_refused() {
    let labels = |labels| JobSpec { labels, ..argv(&["true"]) };
    let name = |name: &str| JobSpec { display_name: name.to_owned(), ..argv(&["true"]) };
    check(vec![
        (r#"spec.labels["A"]"#, labels(pairs([("A", "")]))),
        (r#"spec.labels[""]"#, labels(pairs([("", "")]))),
        (r#"spec.labels["a b"]"#, labels(pairs([("a b", "")]))),
        (r#"spec.labels["a"]"#, labels(pairs([("a", &"x".repeat(257))]))),
        (r#"spec.labels["a"]"#, labels(pairs([("a", "x\0")]))),
        ("spec.labels", labels(many(33))),
        ("spec.display_name", name(&"x".repeat(201))),
        ("spec.display_name", name("a\nb")),
        ("spec.stdin", JobSpec { stdin: vec![0; 1024 * 1024 + 1], ..argv(&["true"]) }),
    ])
    .await;
}

#[tokio::test]
async fn the_largest_values_are_accepted() {
    let daemon = Daemon::start().await;
    let spec = JobSpec {
        stdin: vec![0; 1024 * 1024],
        labels: many(32),
        display_name: "x".repeat(200),
        env: many(1024),
        stop_signal: 64,
        timeout: seconds(10 * 365 * 24 * 3600),
        ..argv(&["wc", "-c"])
    };
    let id = daemon.exec(spec).await;
    daemon.wait(&id).await;
    assert_eq!(daemon.stdout(&id).await.trim(), "1048576");
}

#[tokio::test]
async fn all_faults_of_a_spec_are_told_at_once() {
    let daemon = Daemon::start().await;
    let spec = JobSpec {
        working_dir: "x".to_owned(),
        stop_signal: 99,
        timeout: seconds(-1),
        labels: pairs([("A", "")]),
        ..JobSpec::default()
    };
    let mut fields = refusal(&daemon, spec).await.fields;
    fields.sort_unstable();
    let expected = [
        "spec.argv",
        r#"spec.labels["A"]"#,
        "spec.stop_signal",
        "spec.timeout",
        "spec.working_dir",
    ];
    assert_eq!(fields, expected);
}

#[tokio::test]
async fn a_request_with_a_thousand_faults_gets_an_answer_that_fits() {
    let daemon = Daemon::start().await;
    let env = (0..1000).map(|n| (format!("bad name {n}"), "s3cret".to_owned())).collect();
    let error = refusal(&daemon, JobSpec { secret_env: env, ..argv(&["true"]) }).await;
    assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"));
    assert!(!error.fields.is_empty());
    assert!(!format!("{error:?}").contains("s3cret"), "values may be secret");
}

#[tokio::test]
async fn what_is_not_supported_yet_is_refused_and_not_ignored() {
    let daemon = Daemon::start().await;
    let base = || argv(&["true"]);
    let unknown = Some(OutputLimits { max_bytes_per_stream: 1, action: 99 });
    for (field, spec) in [
        ("output_limits.action", JobSpec { output_limits: unknown, ..base() }),
        ("limits", JobSpec { limits: Some(ResourceLimits::default()), ..base() }),
        ("retry", JobSpec { retry: Some(RetryPolicy::default()), ..base() }),
        (
            "output_matches",
            JobSpec {
                output_matches: vec![OutputMatch { stream: 9, ..OutputMatch::default() }],
                ..base()
            },
        ),
        ("env_inheritance", JobSpec { env_inheritance: 99, ..base() }),
    ] {
        let error = refusal(&daemon, spec).await;
        assert_eq!(error.kind(), (Code::InvalidArgument, "UNSUPPORTED"), "{field}");
        assert_eq!(error.fields, [format!("spec.{field}")]);
    }
}

#[tokio::test]
async fn unknown_numbers_of_enums_are_refused() {
    let daemon = Daemon::start().await;
    let job_id = daemon.exec(argv(&["true"])).await;
    daemon.wait(&job_id).await;
    let mut api = daemon.api();
    let mut errors = Vec::new();
    let request = WaitRequest { job_id: job_id.clone(), until: 9, ..WaitRequest::default() };
    errors.push(("until", refused(api.wait(request).await)));
    let request = jobwarden::api::KillRequest { job_id: job_id.clone(), signal: 0, scope: -1 };
    errors.push(("scope", refused(api.kill(request).await)));
    let tail = TailLogRequest { job_id: job_id.clone(), ..TailLogRequest::default() };
    let request = TailLogRequest { streams: vec![1, 9], ..tail.clone() };
    errors.push(("streams[1]", refused(api.tail_log(request).await)));
    let request = TailLogRequest { encoding: 7, ..tail };
    errors.push(("encoding", refused(api.tail_log(request).await)));
    let request = WatchEventsRequest { start: 7, ..WatchEventsRequest::default() };
    errors.push(("start", refused(api.watch_events(request).await)));
    let filter = Some(JobFilter { states: vec![77], ..JobFilter::default() });
    let request = ListRequest { filter, ..ListRequest::default() };
    errors.push(("filter.states[0]", refused(api.list(request).await)));
    for (field, error) in errors {
        assert_eq!(error.kind(), (Code::InvalidArgument, "UNSUPPORTED"), "{field}");
        assert_eq!(error.fields, [field]);
    }
}

#[tokio::test]
async fn other_values_out_of_range_are_refused() {
    let daemon = Daemon::start().await;
    let job_id = daemon.exec(argv(&["true"])).await;
    daemon.wait(&job_id).await;
    let mut api = daemon.api();
    let mut errors = vec![("spec", refused(api.exec(ExecRequest::default()).await))];
    let spec = Some(argv(&["true"]));
    let request =
        ExecRequest { spec: spec.clone(), output_tail_bytes: 65_537, ..Default::default() };
    errors.push(("output_tail_bytes", refused(api.exec(request).await)));
    let request = ExecRequest { spec, wait: seconds(-1), ..ExecRequest::default() };
    errors.push(("wait", refused(api.exec(request).await)));
    let request = WaitRequest { job_id: job_id.clone(), timeout: seconds(-1), until: 0 };
    errors.push(("timeout", refused(api.wait(request).await)));
    let request =
        CancelRequest { job_id: job_id.clone(), reason: "x".repeat(201), ..Default::default() };
    errors.push(("reason", refused(api.cancel(request).await)));
    let request =
        CancelRequest { job_id: job_id.clone(), grace_period: seconds(-1), ..Default::default() };
    errors.push(("grace_period", refused(api.cancel(request).await)));
    let tail = TailLogRequest { job_id, ..TailLogRequest::default() };
    let request = TailLogRequest { start: Some(Start::FromBeginning(false)), ..tail.clone() };
    errors.push(("from_beginning", refused(api.tail_log(request).await)));
    let request = TailLogRequest { heartbeat_interval: seconds(0), ..tail };
    errors.push(("heartbeat_interval", refused(api.tail_log(request).await)));
    let request = WatchEventsRequest { heartbeat_interval: seconds(3601), ..Default::default() };
    errors.push(("heartbeat_interval", refused(api.watch_events(request).await)));
    let filter = Some(JobFilter { job_ids: vec!["../x".to_owned()], ..JobFilter::default() });
    let request = ListRequest { filter, ..ListRequest::default() };
    errors.push(("filter.job_ids[0]", refused(api.list(request).await)));
    let filter = Some(JobFilter { owner: "x".repeat(257), ..JobFilter::default() });
    let request = ListRequest { filter: filter.clone(), ..ListRequest::default() };
    errors.push(("filter.owner", refused(api.list(request).await)));
    let request = WatchEventsRequest { filter, ..WatchEventsRequest::default() };
    errors.push(("filter.owner", refused(api.watch_events(request).await)));
    for (field, error) in errors {
        assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"), "{field}");
        assert_eq!(error.fields, [field]);
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_the_limit_is_named() {
    let daemon = Daemon::start().await;
    let spec = JobSpec { stdin: vec![0; 8 << 20], ..argv(&["true"]) };
    let error = refusal(&daemon, spec).await;
    assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"));
    assert!(error.message.contains("max_request_bytes"), "{}", error.message);
    let request = StatusRequest { job_id: "x".repeat(1 << 20) };
    let error = refused(daemon.api().status(request).await);
    assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"));
}
