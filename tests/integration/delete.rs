//! Delete: a job and all that was kept of it.

use jobwarden::api::{
    DeleteRequest, JobSpec, LogEndReason, TailLogRequest, WaitRequest, tail_log_response::Kind,
};
use tonic::Code;

use crate::harness::{
    Daemon, Setup, argv, carriers, collect, is_alive, pairs, refused, seconds, shell, within,
};

#[tokio::test]
async fn a_deleted_job_is_gone_with_its_folder() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("echo on")).await;
    daemon.wait(&id).await;
    let folder = daemon.folder(&id);
    daemon.delete(&id, false).await.unwrap();
    assert!(!folder.exists());
    let error = refused(daemon.try_status(&id).await);
    assert_eq!(error.kind(), (Code::NotFound, "JOB_NOT_FOUND"));
    assert_eq!(error.metadata["job_id"], id);
    // And it stays away.
    let daemon = daemon.kill_and_restart().await;
    assert_eq!(refused(daemon.try_status(&id).await).code, Code::NotFound);
}

#[tokio::test]
async fn a_job_that_has_not_ended_is_not_deleted_without_force() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let running = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&running).await;
    let queued = daemon.exec(argv(&["true"])).await;
    for id in [&running, &queued] {
        let request = DeleteRequest { job_id: id.clone(), ..DeleteRequest::default() };
        let error = refused(daemon.api().delete(request).await);
        assert_eq!(error.kind(), (Code::FailedPrecondition, "JOB_ACTIVE"));
        daemon.status(id).await;
    }
    daemon.delete(&queued, true).await.unwrap();
    daemon.delete(&running, true).await.unwrap();
}

#[tokio::test]
async fn force_kills_the_whole_tree_first() {
    let daemon = Daemon::start().await;
    let mark = format!("deleted-{}", std::process::id());
    let spec = JobSpec {
        env: pairs([("MARK", &mark)]),
        stop_grace_period: seconds(600),
        ..shell("trap '' TERM; setsid sleep 600 & echo on; while :; do sleep 0.1; done")
    };
    let id = daemon.exec(spec).await;
    daemon.printed(&id, "on\n").await;
    let pid = daemon.status(&id).await.pid;
    // It already has a request to stop, with all the time in the world.
    daemon.cancel(&id).await;
    let folder = daemon.folder(&id);
    daemon.delete(&id, true).await.unwrap();
    assert!(!folder.exists() && !is_alive(pid));
    assert_eq!(carriers(&format!("MARK={mark}")), [0; 0]);
}

#[tokio::test]
async fn a_job_that_does_not_exist_can_be_deleted_if_the_caller_says_so() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["true"])).await;
    daemon.wait(&id).await;
    daemon.delete(&id, false).await.unwrap();
    let request = DeleteRequest { job_id: id.clone(), ..DeleteRequest::default() };
    let error = refused(daemon.api().delete(request.clone()).await);
    assert_eq!(error.kind(), (Code::NotFound, "JOB_NOT_FOUND"));
    let request = DeleteRequest { allow_missing: true, ..request };
    daemon.api().delete(request).await.unwrap();
}

#[tokio::test]
async fn an_open_wait_learns_that_the_job_was_deleted() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&id).await;
    let request = WaitRequest { job_id: id.clone(), ..WaitRequest::default() };
    let mut api = daemon.api();
    let waiting = tokio::spawn(async move { api.wait(request).await });
    // A wait that comes too late learns the same, so there is nothing to wait for.
    daemon.delete(&id, true).await.unwrap();
    match within("the end of the wait", waiting).await.unwrap() {
        Err(status) => assert_eq!(status.code(), Code::NotFound),
        // The end was seen before the job went.
        Ok(reply) => assert!(reply.into_inner().ended),
    }
}

#[tokio::test]
async fn an_open_tail_of_a_deleted_job_ends_with_deleted() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let id = daemon.exec(argv(&["true"])).await;
    let request = TailLogRequest { job_id: id.clone(), follow: true, ..Default::default() };
    let mut stream = daemon.api().tail_log(request).await.unwrap().into_inner();
    let first = within("the header", stream.message()).await.unwrap().unwrap();
    assert!(matches!(first.kind, Some(Kind::Header(_))));
    daemon.delete(&id, true).await.unwrap();
    let mut output = crate::harness::Output::default();
    output.take(first);
    let rest = collect(stream).await;
    let end = rest.end.unwrap_or_else(|| panic!("no end: {:?}", rest.error));
    // It was cancelled a moment before it went; either may be seen.
    assert!(matches!(end.reason(), LogEndReason::Deleted | LogEndReason::Terminal), "{end:?}");
    daemon.delete(&gate, true).await.unwrap();
}

#[tokio::test]
async fn deleting_a_queued_job_by_force_keeps_it_from_starting() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let ran = daemon.beside().join("ran");
    let id = daemon.exec(argv(&["touch", ran.to_str().unwrap()])).await;
    daemon.delete(&id, true).await.unwrap();
    daemon.delete(&gate, true).await.unwrap();
    assert_eq!(daemon.run(argv(&["true"])).await.exit_status.unwrap().signal_name, "");
    assert!(!ran.exists());
}

#[tokio::test]
async fn a_job_with_a_time_to_live_goes_after_its_end() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(JobSpec { ttl_after_end: seconds(0), ..argv(&["true"]) }).await;
    let stays = daemon.exec(JobSpec { ttl_after_end: seconds(3600), ..argv(&["true"]) }).await;
    daemon.wait(&stays).await;
    let gone = async {
        while daemon.try_status(&id).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    within("it is removed", gone).await;
    daemon.status(&stays).await;
}
