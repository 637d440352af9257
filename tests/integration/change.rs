//! What may be changed of a job: its labels and its time limit.

use jobwarden::api::{
    EndCause, Job, JobSpec, JobState, UpdateLabelsRequest, UpdateTimeoutRequest,
    update_timeout_request::Change,
};
use tonic::{Code, Response, Status};

use crate::harness::{Daemon, JobFacts as _, Setup, argv, millis, pairs, refused, seconds, shell};

async fn update_timeout(
    daemon: &Daemon,
    id: &str,
    change: Change,
) -> Result<Response<Job>, Status> {
    let request = UpdateTimeoutRequest { job_id: id.to_owned(), change: Some(change) };
    let reply = daemon.api().update_timeout(request).await?;
    Ok(reply.map(|reply| reply.job.unwrap()))
}

#[tokio::test]
async fn labels_are_removed_then_set_and_the_spec_stays() {
    let daemon = Daemon::start().await;
    let labels = pairs([("a", "1"), ("b", "1"), ("c", "1")]);
    let id = daemon.exec(JobSpec { labels: labels.clone(), ..argv(&["true"]) }).await;
    let before = daemon.wait(&id).await;
    let request = UpdateLabelsRequest {
        job_id: id.clone(),
        set: pairs([("b", "2"), ("d", "2")]),
        remove: vec!["a".to_owned(), "b".to_owned(), "unknown".to_owned()],
    };
    let reply = daemon.api().update_labels(request).await.unwrap().into_inner().job.unwrap();
    assert_eq!(reply.labels, pairs([("b", "2"), ("c", "1"), ("d", "2")]));
    assert_eq!(reply.spec.as_ref().unwrap().labels, labels);
    assert!(reply.revision > before.revision);
    let daemon = daemon.kill_and_restart().await;
    assert_eq!(daemon.status(&id).await, reply);
}

#[tokio::test]
async fn labels_of_a_running_job_can_change() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&id).await;
    let set = pairs([("phase", "two")]);
    let request = UpdateLabelsRequest { job_id: id.clone(), set: set.clone(), remove: vec![] };
    daemon.api().update_labels(request).await.unwrap();
    assert_eq!(daemon.status(&id).await.labels, set);
    daemon.cancel(&id).await;
    assert_eq!(daemon.wait(&id).await.labels, set);
}

#[tokio::test]
async fn a_bad_label_changes_nothing() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(JobSpec { labels: pairs([("a", "1")]), ..argv(&["true"]) }).await;
    let before = daemon.wait(&id).await;
    let many = (0..33).map(|n| (format!("k{n}"), String::new())).collect();
    for set in [pairs([("B", "")]), pairs([("", "")]), pairs([("a", &"x".repeat(257))]), many] {
        let request = UpdateLabelsRequest { job_id: id.clone(), set, remove: vec![] };
        let error = refused(daemon.api().update_labels(request).await);
        assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"));
        assert!(error.fields[0].starts_with("set"), "{:?}", error.fields);
    }
    assert_eq!(daemon.status(&id).await, before);
}

#[tokio::test]
async fn a_shorter_limit_ends_a_running_job() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(JobSpec { timeout: seconds(600), ..argv(&["sleep", "600"]) }).await;
    daemon.started(&id).await;
    update_timeout(&daemon, &id, Change::Timeout(millis(100).unwrap())).await.unwrap();
    assert_eq!(daemon.wait(&id).await.how(), (JobState::TimedOut, EndCause::TimedOut));
}

#[tokio::test]
async fn a_longer_limit_counts_from_now() {
    let daemon = Daemon::start().await;
    let script = "until [ -e go ]; do sleep 0.02; done; exit 3";
    let id = daemon.exec(JobSpec { timeout: seconds(2), ..shell(script) }).await;
    let started = daemon.started(&id).await.start_time.unwrap();
    update_timeout(&daemon, &id, Change::Timeout(seconds(600).unwrap())).await.unwrap();
    // Beyond the old limit.
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let old_end = started.seconds + 3;
    crate::harness::eventually("the old limit is over", || {
        (now().as_secs().cast_signed() > old_end).then_some(())
    })
    .await;
    assert_eq!(daemon.status(&id).await.state(), JobState::Running);
    std::fs::write(daemon.beside().join("go"), "").unwrap();
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(3));
}

#[tokio::test]
async fn a_limit_that_was_cleared_ends_nothing() {
    let daemon = Daemon::start().await;
    let spec = JobSpec { timeout: seconds(1), ..shell("sleep 1.6; exit 3") };
    let id = daemon.exec(spec).await;
    daemon.started(&id).await;
    update_timeout(&daemon, &id, Change::Clear(true)).await.unwrap();
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(3));
}

#[tokio::test]
async fn a_queued_job_gets_its_limit_for_the_run_to_come() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    let job = update_timeout(&daemon, &id, Change::Timeout(millis(200).unwrap())).await.unwrap();
    assert_eq!(job.into_inner().state(), JobState::Queued);
    let daemon = daemon.kill_and_restart().await;
    daemon.cancel(&gate).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::TimedOut, EndCause::TimedOut));
    assert!(job.start_time.is_some());
}

#[tokio::test]
async fn the_limit_of_a_job_that_is_over_or_being_stopped_cannot_change() {
    let daemon = Daemon::start().await;
    let ended = daemon.exec(argv(&["true"])).await;
    daemon.wait(&ended).await;
    let script = "trap '' TERM; echo on; while :; do sleep 0.05; done";
    let stopping = daemon.exec(shell(script)).await;
    daemon.printed(&stopping, "on\n").await;
    daemon.cancel(&stopping).await;
    for id in [&ended, &stopping] {
        let error = refused(update_timeout(&daemon, id, Change::Clear(true)).await);
        assert_eq!(error.kind(), (Code::FailedPrecondition, "JOB_ENDED"));
    }
    daemon.delete(&stopping, true).await.unwrap();
}

#[tokio::test]
async fn a_change_of_the_limit_must_say_what_it_is() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["true"])).await;
    let request = UpdateTimeoutRequest { job_id: id.clone(), change: None };
    assert_eq!(refused(daemon.api().update_timeout(request).await).code, Code::InvalidArgument);
    for change in [
        Change::Clear(false),
        Change::Timeout(seconds(0).unwrap()),
        Change::Timeout(seconds(-1).unwrap()),
        Change::Timeout(seconds(i64::MAX).unwrap()),
    ] {
        let error = refused(update_timeout(&daemon, &id, change).await);
        assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"), "{change:?}");
    }
}
