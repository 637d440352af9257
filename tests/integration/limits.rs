//! Time limits: of the run, of silence, of the queue, of the grace.

use jobwarden::api::{EndCause, JobSpec, JobState};

use crate::harness::{Daemon, JobFacts as _, Setup, argv, carriers, millis, pairs, seconds, shell};

#[tokio::test]
async fn a_job_that_runs_too_long_is_timed_out() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(JobSpec { timeout: millis(300), ..shell("echo on; sleep 600") }).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::TimedOut, EndCause::TimedOut));
    assert_eq!(job.signal(), Some(15));
    assert!(job.message.contains("300ms"), "{}", job.message);
    assert_eq!(daemon.stdout(&id).await, "on\n");
}

#[tokio::test]
async fn a_job_within_its_limits_ends_as_it_would_without() {
    let daemon = Daemon::start().await;
    let limit = seconds(3600);
    let spec = JobSpec {
        timeout: limit,
        idle_timeout: limit,
        queue_timeout: limit,
        ..shell("sleep 0.2; exit 3")
    };
    assert_eq!(daemon.run(spec).await.exit_code(), Some(3));
}

#[tokio::test]
async fn the_servers_limit_holds_for_jobs_without_their_own() {
    let daemon = Daemon::start_with(Setup::flags(&["--default-timeout", "300ms"])).await;
    let job = daemon.run(argv(&["sleep", "600"])).await;
    assert_eq!(job.how(), (JobState::TimedOut, EndCause::TimedOut));
}

#[tokio::test]
async fn a_silent_job_is_timed_out_and_one_that_writes_is_not() {
    let daemon = Daemon::start().await;
    let silent = JobSpec { idle_timeout: millis(400), ..shell("echo on; sleep 600") };
    let silent = daemon.exec(silent).await;
    let script = "for n in 1 2 3 4 5 6 7 8; do sleep 0.2; echo $n >&2; done; exit 3";
    let writes = daemon.exec(JobSpec { idle_timeout: seconds(1), ..shell(script) }).await;
    let job = daemon.wait(&silent).await;
    assert_eq!(job.how(), (JobState::TimedOut, EndCause::IdleTimedOut));
    assert_eq!(daemon.stdout(&silent).await, "on\n");
    assert_eq!(daemon.wait(&writes).await.exit_code(), Some(3));
}

#[tokio::test]
async fn a_job_that_waits_too_long_in_the_queue_never_starts() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let job = daemon.run(JobSpec { queue_timeout: millis(200), ..argv(&["true"]) }).await;
    assert_eq!(job.how(), (JobState::TimedOut, EndCause::QueueTimedOut));
    assert_eq!((job.start_time, job.exit_status), (None, None));
    assert!(job.end_time.is_some());
    daemon.delete(&gate, true).await.unwrap();
}

#[tokio::test]
async fn a_time_limit_in_the_queue_ends_with_the_start() {
    let daemon = Daemon::start().await;
    let spec = JobSpec { queue_timeout: millis(800), ..shell("sleep 1.2; exit 3") };
    assert_eq!(daemon.run(spec).await.exit_code(), Some(3));
}

#[tokio::test]
async fn the_signal_that_asks_to_stop_is_the_one_of_the_spec() {
    let daemon = Daemon::start().await;
    let script = "trap 'echo asked; exit 5' USR2; echo on; while :; do sleep 0.05; done";
    let id = daemon.exec(JobSpec { stop_signal: 12, timeout: seconds(1), ..shell(script) }).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::TimedOut, EndCause::TimedOut));
    assert_eq!(job.exit_code(), Some(5), "the exit status is kept");
    assert_eq!(daemon.stdout(&id).await, "on\nasked\n");
}

#[tokio::test]
async fn a_job_that_ignores_the_request_to_stop_is_killed_after_its_grace() {
    let daemon = Daemon::start().await;
    let mark = format!("{}-ignores", std::process::id());
    let spec = JobSpec {
        timeout: millis(300),
        stop_grace_period: millis(300),
        env: pairs([("MARK", &mark)]),
        ..shell("trap '' TERM; echo on; while :; do sleep 0.05; done")
    };
    let id = daemon.exec(spec).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::TimedOut, EndCause::TimedOut));
    assert_eq!(job.signal(), Some(9));
    assert_eq!(carriers(&format!("MARK={mark}")), [0; 0]);
}

#[tokio::test]
async fn a_job_that_has_stopped_itself_is_ended_by_its_limit() {
    let daemon = Daemon::start().await;
    let spec = JobSpec { timeout: millis(300), ..shell("kill -STOP $$") };
    let job = daemon.run(spec).await;
    assert_eq!(job.how(), (JobState::TimedOut, EndCause::TimedOut));
    assert_eq!(job.signal(), Some(15));
}

#[tokio::test]
async fn the_limit_goes_on_while_the_service_is_dead() {
    let mut daemon = Daemon::start().await;
    let id = daemon.exec(JobSpec { timeout: millis(500), ..argv(&["sleep", "600"]) }).await;
    let pid = daemon.started(&id).await.pid;
    daemon.kill();
    crate::harness::eventually("the end of the job", || {
        (!crate::harness::is_alive(pid)).then_some(())
    })
    .await;
    let daemon = daemon.restart().await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::TimedOut, EndCause::TimedOut));
}
