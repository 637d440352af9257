//! Rerun: a new job from the spec of an old one.

use jobwarden::api::{JobSpec, RerunRequest, RerunResponse};
use tonic::Code;

use crate::harness::{Daemon, JobFacts as _, argv, pairs, refused, shell};

async fn rerun(daemon: &Daemon, request: RerunRequest) -> RerunResponse {
    daemon.api().rerun(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_job_runs_again_with_its_input_and_is_linked_to_the_first() {
    let daemon = Daemon::start().await;
    let spec = JobSpec {
        stdin: "in put".into(),
        labels: pairs([("team", "red")]),
        ..shell("cat; exit 3")
    };
    let first = daemon.exec(spec).await;
    daemon.wait(&first).await;
    let reply =
        rerun(&daemon, RerunRequest { job_id: first.clone(), ..RerunRequest::default() }).await;
    let second = reply.job.unwrap();
    assert!(second.job_id > first && !reply.deduplicated);
    let expected = pairs([("team", "red"), ("jobwarden/rerun-of", &first)]);
    assert_eq!(second.labels, expected);
    assert_eq!(daemon.wait(&second.job_id).await.exit_code(), Some(3));
    assert_eq!(daemon.stdout(&second.job_id).await, "in put");
}

#[tokio::test]
async fn secrets_are_asked_for_again() {
    let daemon = Daemon::start().await;
    let secret_env = pairs([("ONE", "1"), ("TWO", "2")]);
    let spec = JobSpec { secret_env: secret_env.clone(), ..shell("echo $ONE$TWO") };
    let first = daemon.exec(spec).await;
    daemon.wait(&first).await;
    let request = RerunRequest { job_id: first.clone(), ..RerunRequest::default() };
    let some = RerunRequest { secret_env: pairs([("ONE", "1")]), ..request.clone() };
    for request in [request.clone(), some] {
        let error = refused(daemon.api().rerun(request).await);
        assert_eq!(error.kind(), (Code::FailedPrecondition, "INVALID_SPEC"));
        assert!(error.message.contains("TWO"), "{}", error.message);
        assert!(error.fields.iter().any(|field| field.contains("TWO")), "{:?}", error.fields);
    }
    let other = pairs([("ONE", "x"), ("TWO", "y")]);
    let reply = rerun(&daemon, RerunRequest { secret_env: other, ..request }).await;
    let second = reply.job.unwrap().job_id;
    daemon.wait(&second).await;
    assert_eq!(daemon.stdout(&second).await, "xy\n");
}

#[tokio::test]
async fn a_secret_that_the_spec_does_not_have_is_refused() {
    let daemon = Daemon::start().await;
    let job_id = daemon.exec(argv(&["true"])).await;
    let secret_env = pairs([("OTHER", "1")]);
    let request = RerunRequest { job_id, secret_env, ..RerunRequest::default() };
    let error = refused(daemon.api().rerun(request).await);
    assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"));
    assert!(error.fields[0].contains("OTHER"), "{:?}", error.fields);
}

#[tokio::test]
async fn a_repeated_request_to_run_again_makes_one_job() {
    let daemon = Daemon::start().await;
    let job_id = daemon.exec(argv(&["true"])).await;
    let request_id = "again-1".to_owned();
    let request = RerunRequest { job_id, request_id, ..RerunRequest::default() };
    let first = rerun(&daemon, request.clone()).await;
    let second = rerun(&daemon, request).await;
    assert!(!first.deduplicated && second.deduplicated);
    assert_eq!(first.job.unwrap().job_id, second.job.unwrap().job_id);
}

#[tokio::test]
async fn a_job_that_does_not_exist_cannot_run_again() {
    let daemon = Daemon::start().await;
    let request = RerunRequest { job_id: "0".repeat(26), ..RerunRequest::default() };
    let error = refused(daemon.api().rerun(request).await);
    assert_eq!(error.kind(), (Code::NotFound, "JOB_NOT_FOUND"));
}
