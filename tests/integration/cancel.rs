//! Cancel: a durable request, the stop signal, the grace, then SIGKILL.

use jobwarden::api::{CancelRequest, EndCause, JobSpec, JobState};
use tonic::Code;

use crate::harness::{
    Daemon, JobFacts as _, Setup, argv, eventually, is_alive, millis, refused, seconds, shell,
};

#[tokio::test]
async fn a_queued_job_is_cancelled_at_once_and_never_starts() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let ran = daemon.beside().join("ran");
    let id = daemon.exec(argv(&["touch", ran.to_str().unwrap()])).await;
    let job = daemon.cancel(&id).await;
    assert_eq!(job.how(), (JobState::Cancelled, EndCause::Cancelled));
    assert_eq!((job.start_time, job.exit_status), (None, None));
    daemon.delete(&gate, true).await.unwrap();
    // One that comes after it runs: its turn has passed.
    assert_eq!(daemon.run(argv(&["true"])).await.exit_code(), Some(0));
    assert_eq!(daemon.status(&id).await.state(), JobState::Cancelled);
    assert!(!ran.exists());
}

#[tokio::test]
async fn a_running_job_is_asked_to_stop_and_its_exit_status_is_kept() {
    let daemon = Daemon::start().await;
    let script = "trap 'echo bye; exit 9' TERM; echo on; while :; do sleep 0.05; done";
    let id = daemon.exec(shell(script)).await;
    daemon.printed(&id, "on\n").await;
    let request = CancelRequest {
        job_id: id.clone(),
        reason: "no longer wanted".to_owned(),
        grace_period: seconds(20),
    };
    let asked = daemon.api().cancel(request).await.unwrap().into_inner().job.unwrap();
    let cancel = asked.cancel.unwrap();
    assert_eq!(cancel.reason, "no longer wanted");
    assert_eq!(cancel.grace_period, seconds(20));
    assert_eq!(cancel.actor.unwrap().principal, "anonymous");
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Cancelled, EndCause::Cancelled));
    assert_eq!(job.exit_code(), Some(9));
    assert!(job.message.contains("no longer wanted"), "{}", job.message);
    assert_eq!(daemon.stdout(&id).await, "on\nbye\n");
}

#[tokio::test]
async fn cancelling_again_changes_nothing() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("trap 'sleep 0.3; exit' TERM; echo on; sleep 600 & wait")).await;
    daemon.printed(&id, "on\n").await;
    let first = daemon.cancel(&id).await.cancel.unwrap();
    let again =
        CancelRequest { job_id: id.clone(), reason: "other".to_owned(), grace_period: None };
    let again = daemon.api().cancel(again).await.unwrap().into_inner().job.unwrap();
    assert_eq!(again.cancel, Some(first));
    daemon.wait(&id).await;
    let ended = daemon.cancel(&id).await;
    assert_eq!(ended.state(), JobState::Cancelled);
    assert_eq!(ended.cancel.unwrap().reason, "");
}

#[tokio::test]
async fn a_job_that_has_ended_otherwise_cannot_be_cancelled() {
    let daemon = Daemon::start().await;
    for spec in [argv(&["true"]), argv(&["false"]), argv(&["no-such-program"])] {
        let id = daemon.exec(spec).await;
        let ended = daemon.wait(&id).await;
        let error = refused(daemon.try_cancel(&id).await);
        assert_eq!(error.kind(), (Code::FailedPrecondition, "JOB_ENDED"));
        assert_eq!(daemon.status(&id).await, ended);
    }
}

#[tokio::test]
async fn without_grace_the_job_is_killed_at_once() {
    let daemon = Daemon::start().await;
    let script = "trap 'echo asked; exit' TERM; echo on; while :; do sleep 0.05; done";
    let id = daemon.exec(shell(script)).await;
    daemon.printed(&id, "on\n").await;
    let request =
        CancelRequest { job_id: id.clone(), grace_period: seconds(0), ..Default::default() };
    daemon.api().cancel(request).await.unwrap();
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Cancelled, EndCause::Cancelled));
    assert_eq!(job.signal(), Some(9));
    assert_eq!(daemon.stdout(&id).await, "on\n", "it was not asked first");
}

#[tokio::test]
async fn an_end_before_the_signal_stands() {
    let daemon = Daemon::start().await;
    // Its main process has ended; a child that holds the output keeps it from its end.
    let script = "(trap '' TERM; echo on; while :; do sleep 0.05; done) & exit 3";
    let spec =
        JobSpec { drain_timeout: seconds(600), stop_grace_period: millis(200), ..shell(script) };
    let id = daemon.exec(spec).await;
    daemon.printed(&id, "on\n").await;
    eventually("the main process has ended", || {
        daemon.slots(&id).iter().any(|slot| slot["kind"] == "exited").then_some(())
    })
    .await;
    daemon.cancel(&id).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::Exited));
    assert_eq!(job.exit_code(), Some(3));
}

#[tokio::test]
async fn a_stopped_job_is_cancelled_like_any_other() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("echo on; kill -STOP $$; sleep 600")).await;
    daemon.printed(&id, "on\n").await;
    daemon.cancel(&id).await;
    let job = daemon.wait(&id).await;
    assert_eq!((job.state(), job.signal()), (JobState::Cancelled, Some(15)));
}

#[tokio::test]
async fn a_marker_dropped_by_hand_cancels_a_running_job() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&id).await;
    std::fs::write(daemon.folder(&id).join("cancel"), "").unwrap();
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Cancelled, EndCause::Cancelled));
    assert_eq!(job.cancel.unwrap().actor.unwrap_or_default().principal, "");
}

#[tokio::test]
async fn a_marker_dropped_by_hand_cancels_a_queued_job() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let id = daemon.exec(argv(&["true"])).await;
    let marker = r#"{"reason": "by hand", "unknown": 1}"#;
    std::fs::write(daemon.folder(&id).join("cancel"), marker).unwrap();
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Cancelled, EndCause::Cancelled));
    assert_eq!(job.start_time, None);
    assert_eq!(job.cancel.unwrap().reason, "by hand");
    daemon.delete(&gate, true).await.unwrap();
}

#[tokio::test]
async fn a_marker_dropped_by_hand_cancels_while_the_service_is_dead() {
    let mut daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    let pid = daemon.started(&id).await.pid;
    daemon.kill();
    std::fs::write(daemon.folder(&id).join("cancel"), "{}").unwrap();
    eventually("the end of the job", || (!is_alive(pid)).then_some(())).await;
    let daemon = daemon.restart().await;
    assert_eq!(daemon.wait(&id).await.how(), (JobState::Cancelled, EndCause::Cancelled));
}
