//! The queue: how many run, who comes next, and when it is full.

use std::time::Duration;

use jobwarden::api::{JobSpec, JobState};
use tonic::Code;

use crate::harness::{Daemon, JobFacts as _, Setup, argv, refused, shell};

async fn one_at_a_time() -> (Daemon, String) {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    (daemon, gate)
}

#[tokio::test]
async fn no_more_jobs_run_at_once_than_allowed() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "2"])).await;
    let script = "mkdir \"slot.$$\"; ls -d slot.* | wc -l; sleep 0.1; rmdir \"slot.$$\"";
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(daemon.exec(shell(script)).await);
    }
    for id in &ids {
        daemon.wait(id).await;
        let seen: u32 = daemon.stdout(id).await.trim().parse().unwrap();
        assert!((1..=2).contains(&seen), "{seen} ran at once");
    }
}

#[tokio::test]
async fn the_higher_priority_comes_first_and_among_equals_the_oldest() {
    let (daemon, gate) = one_at_a_time().await;
    let order = daemon.beside().join("order");
    let mut ids = Vec::new();
    for (name, priority) in
        [("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5), ("f", i32::MAX), ("g", i32::MIN)]
    {
        let script = format!("echo {name} >> {}", order.display());
        ids.push(daemon.exec(JobSpec { priority, ..shell(&script) }).await);
    }
    daemon.cancel(&gate).await;
    for id in &ids {
        daemon.wait(id).await;
    }
    let order = std::fs::read_to_string(order).unwrap();
    assert_eq!(order.lines().collect::<String>(), "fbeacdg");
}

#[tokio::test]
async fn a_full_queue_refuses_with_a_hint_and_takes_jobs_again_later() {
    let flags = ["--max-running-jobs", "1", "--max-queued-jobs", "2"];
    let daemon = Daemon::start_with(Setup::flags(&flags)).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let queued = [daemon.exec(argv(&["true"])).await, daemon.exec(argv(&["true"])).await];
    let error = refused(daemon.try_exec(argv(&["true"])).await);
    assert_eq!(error.kind(), (Code::ResourceExhausted, "QUEUE_FULL"));
    assert!(error.retry_after.is_some_and(|after| after > Duration::ZERO));
    assert_eq!(error.metadata["limit"], "2");
    daemon.cancel(&queued[0]).await;
    let last = daemon.exec(argv(&["true"])).await;
    daemon.cancel(&gate).await;
    for id in [&queued[1], &last] {
        assert_eq!(daemon.wait(id).await.exit_code(), Some(0));
    }
}

#[tokio::test]
async fn a_queue_that_is_fuller_than_allowed_after_a_restart_loses_nothing() {
    let daemon = Daemon::start_with(Setup { env: env(&[("MAX_QUEUED_JOBS", "3")]), ..one() }).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(daemon.exec(argv(&["true"])).await);
    }
    let daemon = daemon.kill_and_restart().await;
    assert_eq!(refused(daemon.try_exec(argv(&["true"])).await).reason, "QUEUE_FULL");
    daemon.cancel(&gate).await;
    for id in &ids {
        assert_eq!(daemon.wait(id).await.exit_code(), Some(0));
    }
}

#[tokio::test]
async fn the_next_job_starts_whatever_way_the_one_before_ended() {
    let (daemon, gate) = one_at_a_time().await;
    let mut ids = vec![gate];
    for spec in [
        argv(&["no-such-program"]),
        JobSpec { timeout: crate::harness::millis(50), ..argv(&["sleep", "600"]) },
        shell("kill -9 $$"),
        argv(&["true"]),
    ] {
        ids.push(daemon.exec(spec).await);
    }
    daemon.delete(&ids.remove(0), true).await.unwrap();
    let mut states = Vec::new();
    for id in &ids {
        states.push(daemon.wait(id).await.state());
    }
    let expected = [JobState::Failed, JobState::TimedOut, JobState::Failed, JobState::Succeeded];
    assert_eq!(states, expected);
}

#[tokio::test]
async fn cancel_against_start_has_one_outcome() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "4"])).await;
    for round in 0..15_u64 {
        let ran = daemon.beside().join(format!("ran-{round}"));
        let script = format!("touch {}; exec sleep 600", ran.display());
        let id = daemon.exec(shell(&script)).await;
        tokio::time::sleep(Duration::from_micros(round * 300)).await;
        daemon.cancel(&id).await;
        let job = daemon.wait(&id).await;
        assert_eq!(job.state(), JobState::Cancelled);
        // Either it never started, or it ran and was stopped: never both, never neither.
        assert_eq!(job.start_time.is_some(), job.exit_status.is_some(), "{job:?}");
        assert!(job.start_time.is_some() || !ran.exists(), "{job:?}");
    }
}

fn one() -> Setup {
    Setup::flags(&["--max-running-jobs", "1"])
}

fn env(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let settings = settings.iter();
    settings.map(|(name, value)| (format!("JOBWARDEN_{name}"), (*value).to_owned())).collect()
}
