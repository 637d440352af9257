//! Kill: one signal, now, to whom it was meant for.

use jobwarden::api::{EndCause, JobState, KillRequest, KillScope};
use tonic::Code;

use crate::harness::{
    Daemon, JobFacts as _, Setup, argv, carriers, eventually, name_of, pairs, refused, shell,
    state_of,
};

#[tokio::test]
async fn a_job_that_dies_of_our_signal_was_killed() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&id).await;
    assert!(daemon.kill_job(&id, 9).await.delivered);
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::Killed));
    assert_eq!(job.signal(), Some(9));
    let kill = &job.kills[0];
    assert_eq!((job.kills.len(), kill.signal), (1, 9));
    let actor = kill.actor.as_ref().unwrap();
    assert_eq!(actor.principal, "anonymous");
    assert!(actor.peer.starts_with("127.0.0.1:"), "{}", actor.peer);
}

#[tokio::test]
async fn no_signal_means_the_usual_request_to_stop() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&id).await;
    assert!(daemon.kill_job(&id, 0).await.delivered);
    assert_eq!(daemon.wait(&id).await.signal(), Some(15));
}

#[tokio::test]
async fn a_signal_does_not_mean_cancel() {
    let daemon = Daemon::start().await;
    let script = "trap 'echo hup' HUP; echo on; until [ -e go ]; do sleep 0.05; done; exit 4";
    let id = daemon.exec(shell(script)).await;
    daemon.printed(&id, "on\n").await;
    let reply = daemon.kill_job(&id, 1).await;
    assert!(reply.delivered);
    assert_eq!(reply.job.unwrap().cancel, None);
    daemon.printed(&id, "hup\n").await;
    std::fs::write(daemon.beside().join("go"), "").unwrap();
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::Exited));
    assert_eq!(job.exit_code(), Some(4));
}

#[tokio::test]
async fn a_signal_to_the_leader_spares_the_others() {
    let daemon = Daemon::start().await;
    let script = "sh -c \"trap 'echo child' USR1; echo on; \
                  until [ -e go ]; do sleep 0.05; done\" & \
                  trap 'echo leader' USR1; wait; until [ -e go ]; do sleep 0.05; done";
    let id = daemon.exec(shell(script)).await;
    daemon.printed(&id, "on\n").await;
    let request = KillRequest { job_id: id.clone(), signal: 10, scope: KillScope::Leader.into() };
    assert!(daemon.api().kill(request).await.unwrap().into_inner().delivered);
    daemon.printed(&id, "leader\n").await;
    std::fs::write(daemon.beside().join("go"), "").unwrap();
    daemon.wait(&id).await;
    assert_eq!(daemon.stdout(&id).await, "on\nleader\n");
}

#[tokio::test]
async fn sigkill_leaves_no_process_behind_also_none_that_became_a_daemon() {
    let daemon = Daemon::start().await;
    let mark = format!("killed-{}", std::process::id());
    let script = "setsid sh -c 'setsid sleep 600 <&- >&- 2>&- & sleep 600' & echo on; sleep 600";
    let env = pairs([("MARK", &mark)]);
    let id = daemon.exec(jobwarden::api::JobSpec { env, ..shell(script) }).await;
    let variable = format!("MARK={mark}");
    eventually("the whole tree", || (carriers(&variable).len() >= 4).then_some(())).await;
    assert!(daemon.kill_job(&id, 9).await.delivered);
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::Killed));
    assert_eq!(carriers(&variable), [0; 0]);
}

#[tokio::test]
async fn a_job_can_be_stopped_and_continued() {
    let daemon = Daemon::start().await;
    let fifo = daemon.beside().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let id = daemon.exec(shell("echo on; exec cat fifo")).await;
    daemon.printed(&id, "on\n").await;
    let pid = daemon.status(&id).await.pid;
    eventually("it has become cat", || (name_of(pid).as_deref() == Some("cat")).then_some(()))
        .await;
    assert!(daemon.kill_job(&id, 19).await.delivered);
    eventually("it stands still", || (state_of(pid) == Some('T')).then_some(())).await;
    assert_eq!(daemon.status(&id).await.state(), JobState::Running);
    assert!(daemon.kill_job(&id, 18).await.delivered);
    let writing = tokio::task::spawn_blocking(move || std::fs::write(fifo, "moved\n"));
    let job = daemon.wait(&id).await;
    writing.await.unwrap().unwrap();
    assert_eq!(job.exit_code(), Some(0));
    assert_eq!(daemon.stdout(&id).await, "on\nmoved\n");
    let signals: Vec<i32> = job.kills.iter().map(|kill| kill.signal).collect();
    assert_eq!(signals, [19, 18]);
}

#[tokio::test]
async fn a_job_that_has_ended_gets_no_signal() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["true"])).await;
    let ended = daemon.wait(&id).await;
    let reply = daemon.kill_job(&id, 9).await;
    assert!(!reply.delivered);
    assert_eq!(reply.job, Some(ended));
}

#[tokio::test]
async fn a_queued_job_cannot_be_signalled() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let job_id = daemon.exec(argv(&["true"])).await;
    let request = KillRequest { job_id, signal: 9, scope: 0 };
    let error = refused(daemon.api().kill(request).await);
    assert_eq!(error.kind(), (Code::FailedPrecondition, "JOB_NOT_STARTED"));
    daemon.delete(&gate, true).await.unwrap();
}

#[tokio::test]
async fn an_unknown_signal_is_refused() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["true"])).await;
    for signal in [-1, 32, 65, i32::MAX, i32::MIN] {
        let request = KillRequest { job_id: id.clone(), signal, scope: 0 };
        let error = refused(daemon.api().kill(request).await);
        assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"), "{signal}");
        assert_eq!(error.fields, ["signal"]);
    }
}

#[tokio::test]
async fn the_last_sixteen_signals_are_told() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("trap '' USR1 USR2; echo on; while :; do sleep 0.1; done")).await;
    daemon.printed(&id, "on\n").await;
    for round in 0..20 {
        // The first few are pushed out by the later ones.
        let signal = if round < 4 { 10 } else { 12 };
        assert!(daemon.kill_job(&id, signal).await.delivered);
    }
    let job = daemon.status(&id).await;
    let signals: Vec<i32> = job.kills.iter().map(|kill| kill.signal).collect();
    assert_eq!(signals, [12; 16]);
    daemon.delete(&id, true).await.unwrap();
}
