//! The service dies at any moment and comes back: nothing is lost, nothing happens twice.

use jobwarden::api::{EndCause, JobSpec, JobState, LogEndReason, TailLogRequest};

use crate::harness::{
    Daemon, JobFacts as _, Setup, argv, collect, eventually, is_alive, pairs, seconds, shell,
};

#[tokio::test]
async fn a_running_job_survives_the_death_of_the_service_with_all_its_output() {
    let daemon = Daemon::start().await;
    let script =
        "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); sleep 0.005; done; exit 7";
    let id = daemon.exec(shell(script)).await;
    daemon.printed(&id, "line 3\n").await;
    let daemon = daemon.kill_and_restart().await;
    assert_eq!(daemon.status(&id).await.state(), JobState::Running);
    let daemon = daemon.kill_and_restart().await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::Exited));
    assert_eq!(job.exit_code(), Some(7));
    let expected = (0..300).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat();
    assert_eq!(daemon.stdout(&id).await, expected);
}

#[tokio::test]
async fn jobs_that_ended_while_the_service_was_dead_are_told_as_they_ended() {
    let mut daemon = Daemon::start().await;
    let script = |rest: &str| format!("until [ -e go ]; do sleep 0.02; done; {rest}");
    let exits = daemon.exec(shell(&script("echo last; exit 5"))).await;
    let dies = daemon.exec(shell(&script("kill -9 $$"))).await;
    let pids = [daemon.started(&exits).await.pid, daemon.started(&dies).await.pid];
    daemon.kill();
    std::fs::write(daemon.beside().join("go"), "").unwrap();
    eventually("both have ended", || pids.iter().all(|pid| !is_alive(*pid)).then_some(())).await;
    let daemon = daemon.restart().await;
    let job = daemon.wait(&exits).await;
    assert_eq!((job.exit_code(), daemon.stdout(&exits).await.as_str()), (Some(5), "last\n"));
    let job = daemon.wait(&dies).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::Signaled));
    assert_eq!(job.signal(), Some(9));
}

#[tokio::test]
async fn queued_jobs_survive_and_run_in_their_order() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let order = daemon.beside().join("order");
    let mut ids = Vec::new();
    for n in 0..5 {
        let spec = JobSpec {
            stdin: format!("{n}\n").into(),
            secret_env: pairs([("KEY", "kept")]),
            ..shell(&format!("test $KEY = kept && cat >> {}", order.display()))
        };
        ids.push(daemon.exec(spec).await);
    }
    let daemon = daemon.kill_and_restart().await;
    for id in &ids {
        assert_eq!(daemon.status(id).await.state(), JobState::Queued);
    }
    daemon.cancel(&gate).await;
    for id in &ids {
        assert_eq!(daemon.wait(id).await.exit_code(), Some(0));
    }
    assert_eq!(std::fs::read_to_string(order).unwrap(), "0\n1\n2\n3\n4\n");
}

#[tokio::test]
async fn what_ended_before_is_the_same_after_a_restart() {
    let daemon = Daemon::start().await;
    let mut before = Vec::new();
    for spec in [
        shell("echo out; echo err >&2"),
        shell("exit 3"),
        shell("kill -9 $$"),
        argv(&["no-such-program"]),
        JobSpec { timeout: crate::harness::millis(50), ..argv(&["sleep", "600"]) },
    ] {
        before.push(daemon.run(spec).await);
    }
    let daemon = daemon.kill_and_restart().await;
    for job in before {
        assert_eq!(daemon.status(&job.job_id).await, job);
    }
}

#[tokio::test]
async fn ids_go_on_increasing_after_a_restart() {
    let mut daemon = Daemon::start().await;
    let mut last = String::new();
    for _ in 0..4 {
        for _ in 0..3 {
            let id = daemon.exec(argv(&["true"])).await;
            assert!(id > last, "{id} comes after {last}");
            last = id;
        }
        daemon = daemon.kill_and_restart().await;
    }
}

#[tokio::test]
async fn a_job_started_before_can_be_stopped_after_a_restart() {
    let daemon = Daemon::start().await;
    let signalled = daemon.exec(argv(&["sleep", "600"])).await;
    let cancelled = daemon.exec(argv(&["sleep", "600"])).await;
    let deleted = daemon.exec(argv(&["sleep", "600"])).await;
    let pid = daemon.started(&deleted).await.pid;
    daemon.started(&signalled).await;
    daemon.started(&cancelled).await;
    let daemon = daemon.kill_and_restart().await;
    assert!(daemon.kill_job(&signalled, 9).await.delivered);
    daemon.cancel(&cancelled).await;
    daemon.delete(&deleted, true).await.unwrap();
    assert_eq!(daemon.wait(&signalled).await.cause(), EndCause::Killed);
    assert_eq!(daemon.wait(&cancelled).await.cause(), EndCause::Cancelled);
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn output_can_be_followed_across_a_restart_at_the_byte_where_it_stopped() {
    let mut daemon = Daemon::start().await;
    let script = "i=0; while [ $i -lt 100 ]; do echo $i; i=$((i+1)); sleep 0.01; done";
    let id = daemon.exec(shell(script)).await;
    let request = TailLogRequest { job_id: id.clone(), follow: true, ..TailLogRequest::default() };
    let stream = daemon.api().tail_log(request.clone()).await.unwrap().into_inner();
    let reading = tokio::spawn(collect(stream));
    daemon.printed(&id, "9\n").await;
    daemon.kill();
    let first = reading.await.unwrap();
    assert!(first.end.is_none(), "a stream that was cut has no end");
    let daemon = daemon.restart().await;
    let stdout = first.chunks.last().map_or(0, |chunk| chunk.end_offset);
    let offsets = jobwarden::api::LogOffsets { stdout, stderr: 0 };
    let start = Some(jobwarden::api::tail_log_request::Start::Offsets(offsets));
    let rest = daemon.tail(TailLogRequest { start, ..request }).await;
    assert_eq!(rest.reason(), LogEndReason::Terminal);
    let expected = (0..100).map(|n| format!("{n}\n")).collect::<Vec<_>>().concat();
    assert_eq!([first.stdout(), rest.stdout()].concat(), expected.as_bytes());
}

#[tokio::test]
async fn a_cancel_that_was_accepted_holds_when_the_service_dies() {
    let daemon = Daemon::start().await;
    let script = "trap '' TERM; echo on; while :; do sleep 0.05; done";
    let spec = JobSpec { stop_grace_period: seconds(1), ..shell(script) };
    let id = daemon.exec(spec).await;
    daemon.printed(&id, "on\n").await;
    daemon.cancel(&id).await;
    let daemon = daemon.kill_and_restart().await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Cancelled, EndCause::Cancelled));
    assert_eq!(job.signal(), Some(9));
}

#[tokio::test]
async fn thirty_jobs_are_all_known_after_a_restart_in_their_midst() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "6"])).await;
    let mut ids = Vec::new();
    for n in 0..30 {
        ids.push(daemon.exec(shell(&format!("sleep 0.05; echo {n}; exit {n}"))).await);
    }
    let daemon = daemon.kill_and_restart().await;
    for (n, id) in (0..).zip(&ids) {
        assert_eq!(daemon.wait(id).await.exit_code(), Some(n));
        assert_eq!(daemon.stdout(id).await, format!("{n}\n"));
    }
}
