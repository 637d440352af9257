//! What the operator's policy refuses, by every way a job or a change of it comes in, and shares of
//! one principal.

use jobwarden::api::{
    ExecRequest, JobSpec, JobState, OutputLimitAction, OutputLimits, RerunRequest,
    UpdateLabelsRequest, UpdateTimeoutRequest, update_timeout_request::Change,
};
use tonic::Code;

use crate::harness::{
    Daemon, Setup, argv, eventually, over_tcp, pairs, refused, seconds, shell, token,
};

async fn with_policy(flags: &[&str]) -> Daemon {
    Daemon::start_with(Setup::flags(flags)).await
}

async fn fields(daemon: &Daemon, spec: JobSpec) -> Vec<String> {
    let request = ExecRequest { spec: Some(spec), ..ExecRequest::default() };
    let error = refused(daemon.api().exec(request).await);
    assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"));
    error.fields
}

#[tokio::test]
async fn a_program_that_is_not_allowed_is_refused_before_the_job_exists() {
    let flags = ["--allowed-executables", "/bin/echo", "--allowed-executables", "true"];
    let daemon = with_policy(&flags).await;
    assert_eq!(daemon.run(argv(&["/bin/echo", "hi"])).await.state(), JobState::Succeeded);
    assert_eq!(daemon.run(argv(&["true"])).await.state(), JobState::Succeeded);
    for program in ["/bin/sh", "false", "/bin/../bin/sh", "/bin//echo", "./true", "/bin/echo/"] {
        assert_eq!(fields(&daemon, argv(&[program])).await, ["spec.argv[0]"], "{program}");
    }
    assert_eq!(fields(&daemon, shell("true")).await, ["spec.shell"]);
    let path = JobSpec { env: pairs([("PATH", "/tmp")]), ..argv(&["true"]) };
    assert_eq!(fields(&daemon, path).await, ["spec.env[\"PATH\"]"]);
    let secret = JobSpec { secret_env: pairs([("LD_PRELOAD", "/x")]), ..argv(&["true"]) };
    assert_eq!(fields(&daemon, secret).await, ["spec.secret_env[\"LD_PRELOAD\"]"]);
    let open = JobSpec { env: pairs([("BASH_ENV", "x")]), ..argv(&["true"]) };
    assert_eq!(fields(&daemon, open).await, ["spec.env[\"BASH_ENV\"]"]);
    let file = JobSpec { env_files: vec!["/etc/environment".to_owned()], ..argv(&["true"]) };
    assert_eq!(fields(&daemon, file).await, ["spec.env_files"]);
    let listed = daemon.api().list(jobwarden::api::ListRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().jobs.len(), 2);
}

#[tokio::test]
async fn directories_and_variables_are_allowed_by_pattern() {
    let flags = ["--allowed-working-dirs", "/tmp/**", "--allowed-env-keys", "CI_*"];
    let daemon = with_policy(&flags).await;
    let spec = |dir: &str, key: &str| JobSpec {
        working_dir: dir.to_owned(),
        env: pairs([(key, "x")]),
        ..argv(&["true"])
    };
    let outside = fields(&daemon, spec("/tmp/../etc", "HOME")).await;
    assert_eq!(outside, ["spec.env[\"HOME\"]", "spec.working_dir"]);
    let inside = daemon.beside().to_str().unwrap().to_owned();
    assert_eq!(daemon.run(spec(&inside, "CI_JOB")).await.state(), JobState::Succeeded);
}

#[tokio::test]
async fn limits_of_the_policy_hold_for_what_is_given_left_open_and_changed_later() {
    let flags = ["--max-timeout", "90s", "--max-output-bytes", "5", "--max-labels", "1"];
    let daemon = with_policy(&flags).await;
    let two = pairs([("a", ""), ("b", "")]);
    let limits =
        OutputLimits { max_bytes_per_stream: 6, action: OutputLimitAction::KeepTail.into() };
    let spec = JobSpec {
        timeout: seconds(91),
        output_limits: Some(limits),
        labels: two,
        ..argv(&["true"])
    };
    let limit = "spec.output_limits.max_bytes_per_stream";
    let long = || seconds(91);
    let prolonged = JobSpec { stop_grace_period: long(), drain_timeout: long(), ..argv(&["true"]) };
    let expected = ["spec.stop_grace_period", "spec.drain_timeout"];
    assert_eq!(fields(&daemon, prolonged).await, expected);
    assert_eq!(fields(&daemon, spec).await, ["spec.labels", "spec.timeout", limit]);

    let job = daemon.run(shell("echo 0123456789")).await;
    let stdout = job.stdout.unwrap();
    assert_eq!((stdout.size_bytes, stdout.dropped_bytes), (11, 6));
    assert_eq!(daemon.stdout_so_far(&job.job_id), "01234");
    assert_eq!(job.spec.unwrap().timeout, seconds(90));

    let id = daemon.exec(argv(&["sleep", "60"])).await;
    daemon.started(&id).await;
    let change = |change| UpdateTimeoutRequest { job_id: id.clone(), change: Some(change) };
    let longer = change(Change::Timeout(seconds(90).unwrap()));
    assert_eq!(refused(daemon.api().update_timeout(longer).await).fields, ["timeout"]);
    let none = change(Change::Clear(true));
    assert_eq!(refused(daemon.api().update_timeout(none).await).fields, ["clear"]);
    let shorter = change(Change::Timeout(seconds(30).unwrap()));
    assert!(daemon.api().update_timeout(shorter).await.is_ok());
    let set = pairs([("a", ""), ("b", "")]);
    let labels = UpdateLabelsRequest { job_id: id.clone(), set, ..UpdateLabelsRequest::default() };
    assert_eq!(refused(daemon.api().update_labels(labels).await).fields, ["set"]);
    daemon.cancel(&id).await;
}

#[tokio::test]
async fn a_policy_that_came_later_holds_for_reruns_and_the_inbox_but_not_for_a_known_request() {
    let mut daemon = Daemon::start().await;
    let request = || ExecRequest {
        spec: Some(argv(&["true"])),
        request_id: "one".to_owned(),
        wait: seconds(20),
        ..ExecRequest::default()
    };
    let id = daemon.api().exec(request()).await.unwrap().into_inner().job.unwrap().job_id;
    daemon.setup.flags = ["--allowed-executables", "/bin/false"].map(str::to_owned).to_vec();
    let daemon = daemon.kill_and_restart().await;
    let rerun = RerunRequest { job_id: id.clone(), ..RerunRequest::default() };
    assert_eq!(refused(daemon.api().rerun(rerun).await).fields, ["spec.argv[0]"]);
    let again = daemon.api().exec(request()).await.unwrap().into_inner();
    assert_eq!((again.deduplicated, again.job.unwrap().job_id), (true, id));

    let folder = daemon.beside().join("dropped");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("spec.json"), r#"{"argv":["true"]}"#).unwrap();
    let inside = daemon.root().join("inbox/dropped");
    std::fs::rename(&folder, &inside).unwrap();
    let why =
        eventually("an answer", || std::fs::read_to_string(inside.join("rejected")).ok()).await;
    assert!(why.contains("spec.argv[0]") && why.contains("allowed_executables"), "{why}");
}

#[tokio::test]
async fn shares_of_one_principal_hold_nobody_else_up() {
    let flags = [
        "--max-running-jobs-per-principal",
        "1",
        "--max-queued-jobs-per-principal",
        "1",
        "--max-running-jobs",
        "3",
    ];
    let flags = flags.map(str::to_owned).to_vec();
    let daemon = Daemon::start_with(Setup { needs_token: true, flags, ..Setup::default() }).await;
    let mut ada = over_tcp(&daemon, Some(&token(&daemon, "ada", "submitter", &[]))).await;
    let mut bob = over_tcp(&daemon, Some(&token(&daemon, "bob", "submitter", &[]))).await;
    let sleeper = || ExecRequest { spec: Some(argv(&["sleep", "60"])), ..ExecRequest::default() };
    let first = ada.exec(sleeper()).await.unwrap().into_inner().job.unwrap().job_id;
    let second = ada.exec(sleeper()).await.unwrap().into_inner().job.unwrap().job_id;
    let error = refused(ada.exec(sleeper()).await);
    assert_eq!(error.kind(), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
    assert_eq!(error.metadata["setting"], "max_queued_jobs_per_principal");
    assert!(error.retry_after.is_some());

    let request =
        ExecRequest { spec: Some(argv(&["true"])), wait: seconds(20), ..Default::default() };
    let job = bob.exec(request).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.state(), JobState::Succeeded, "another's share is not used up");
    let status = |job_id: &String| jobwarden::api::StatusRequest { job_id: job_id.clone() };
    let waiting = ada.status(status(&second)).await.unwrap().into_inner().job.unwrap();
    assert_eq!(waiting.state(), JobState::Queued, "although two places are free");
    let cancel = jobwarden::api::CancelRequest { job_id: first, ..Default::default() };
    ada.cancel(cancel).await.unwrap();
    let request = jobwarden::api::WaitRequest {
        job_id: second.clone(),
        until: jobwarden::api::WaitUntil::Started.into(),
        ..Default::default()
    };
    assert!(ada.wait(request).await.unwrap().into_inner().ended);
    let cancel = jobwarden::api::CancelRequest { job_id: second, ..Default::default() };
    ada.cancel(cancel).await.unwrap();
}

#[tokio::test]
async fn jobs_beyond_the_rate_are_refused_and_repeated_requests_are_not_counted() {
    let daemon = with_policy(&["--max-jobs-per-minute-per-principal", "3"]).await;
    let request = |request_id: &str| ExecRequest {
        spec: Some(argv(&["true"])),
        request_id: request_id.to_owned(),
        ..ExecRequest::default()
    };
    for name in ["one", "two", "three", "one", "two", "three"] {
        daemon.api().exec(request(name)).await.unwrap();
    }
    let error = refused(daemon.api().exec(request("four")).await);
    assert_eq!(error.kind(), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
    assert_eq!(error.metadata["setting"], "max_jobs_per_minute_per_principal");
    assert!(error.retry_after.is_some_and(|pause| !pause.is_zero()));
    let own = daemon.api_over_socket().await.exec(request("four")).await;
    assert!(own.is_ok(), "another principal is not concerned");
}
