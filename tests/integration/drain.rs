//! SIGTERM: whoever waits is told, the service ends, the jobs go on.

use jobwarden::api::{
    ExecRequest, JobState, TailLogRequest, WaitManyRequest, WaitRequest, WatchEventsRequest,
};
use tonic::Code;

use crate::harness::{
    Daemon, JobFacts as _, Refused, Setup, Watching, argv, collect, is_alive, refused, shell,
    within,
};

#[tokio::test]
async fn open_calls_are_told_that_the_service_drains_and_it_ends_with_zero() {
    let mut daemon = Daemon::start().await;
    let id = daemon.exec(shell("echo on; exec sleep 600")).await;
    daemon.printed(&id, "on\n").await;
    let pid = daemon.status(&id).await.pid;

    let (mut api, request) =
        (daemon.api(), WaitRequest { job_id: id.clone(), ..Default::default() });
    let waiting = tokio::spawn(async move { api.wait(request).await });
    let request = WaitManyRequest { job_ids: vec![id.clone()], ..WaitManyRequest::default() };
    let mut api = daemon.api();
    let waiting_many = tokio::spawn(async move { api.wait_many(request).await });
    let request = TailLogRequest { job_id: id.clone(), follow: true, ..Default::default() };
    let tail = daemon.api().tail_log(request).await.unwrap().into_inner();
    let mut watch = Watching::open(&daemon, WatchEventsRequest::default()).await.unwrap();
    watch.snapshot().await;
    // The waits were sent before this and are taken in order.
    daemon.status(&id).await;

    daemon.terminate();
    let error = refused(within("the end of Wait", waiting).await.unwrap());
    assert_eq!(error.kind(), (Code::Unavailable, "DRAINING"));
    assert!(error.retry_after.is_some());
    let error = refused(within("the end of WaitMany", waiting_many).await.unwrap());
    assert_eq!(error.kind(), (Code::Unavailable, "DRAINING"));
    let output = collect(tail).await;
    assert_eq!(output.stdout(), b"on\n");
    assert!(output.end.is_none(), "the job has not ended");
    let error = Refused::from(output.error.expect("the stream was cut with a reason"));
    assert_eq!(error.kind(), (Code::Unavailable, "DRAINING"));
    let error = Refused::from(watch.next().await.expect_err("the stream was cut with a reason"));
    assert_eq!(error.kind(), (Code::Unavailable, "DRAINING"));
    assert!(!error.metadata["resume_token"].is_empty());

    assert_eq!(daemon.ended().await.code(), Some(0));
    assert!(!daemon.socket().exists(), "it takes its socket with it");
    assert!(is_alive(pid), "jobs go on");
    let daemon = daemon.restart().await;
    let job = daemon.status(&id).await;
    assert_eq!((job.state(), job.pid), (JobState::Running, pid));
    daemon.delete(&id, true).await.unwrap();
}

#[tokio::test]
async fn queued_jobs_wait_for_the_next_service() {
    let mut daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let queued = daemon.exec(shell("echo ran")).await;
    daemon.terminate();
    assert_eq!(daemon.ended().await.code(), Some(0));
    let daemon = daemon.restart().await;
    assert_eq!(daemon.status(&queued).await.state(), JobState::Queued);
    daemon.delete(&gate, true).await.unwrap();
    assert_eq!(daemon.wait(&queued).await.exit_code(), Some(0));
}

#[tokio::test]
async fn a_job_that_ends_after_the_drain_is_told_by_the_next_service() {
    let mut daemon = Daemon::start().await;
    let id = daemon.exec(shell("until [ -e go ]; do sleep 0.02; done; echo last; exit 8")).await;
    let pid = daemon.started(&id).await.pid;
    daemon.terminate();
    daemon.ended().await;
    std::fs::write(daemon.beside().join("go"), "").unwrap();
    crate::harness::eventually("the job has ended", || (!is_alive(pid)).then_some(())).await;
    let daemon = daemon.restart().await;
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(8));
    assert_eq!(daemon.stdout(&id).await, "last\n");
}

#[tokio::test]
async fn a_silent_connection_does_not_keep_the_service() {
    let mut daemon = Daemon::start_with(Setup::flags(&["--drain-limit", "1s"])).await;
    // One that says nothing, and one that reads nothing of what is sent to it.
    let _silent = tokio::net::TcpStream::connect(daemon.tcp()).await.unwrap();
    let id = daemon.exec(shell("head -c 5000000 /dev/zero; exec sleep 600")).await;
    let request = TailLogRequest { job_id: id, follow: true, ..TailLogRequest::default() };
    let _stalled = daemon.api().tail_log(request).await.unwrap();
    daemon.terminate();
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_service_that_was_told_so_ends_when_nobody_needs_it() {
    let mut daemon = Daemon::start_with(Setup::flags(&["--idle-shutdown", "1s"])).await;
    let request = ExecRequest { spec: Some(shell("sleep 2; exit 3")), ..ExecRequest::default() };
    let id = daemon.api().exec(request).await.unwrap().into_inner().job.unwrap().job_id;
    assert_eq!(daemon.ended().await.code(), Some(0));
    // It did not leave before the job had ended.
    let slots = daemon.slots(&id);
    assert_eq!(slots.last().unwrap()["kind"], "ended");
    let daemon = daemon.restart().await;
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(3));
}
