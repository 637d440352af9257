//! What other processes of a job do after its main one has ended.

use jobwarden::api::{EndCause, JobSpec, JobState};

use crate::harness::{
    Daemon, JobFacts as _, Setup, carriers, eventually, millis, pairs, seconds, shell,
};

/// A variable that marks the processes of one test.
fn mark(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

#[tokio::test]
async fn a_late_line_of_a_child_is_kept() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("(sleep 1; echo late) & echo early")).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Succeeded, EndCause::Exited));
    assert_eq!(daemon.stdout(&id).await, "early\nlate\n");
}

#[tokio::test]
async fn the_job_runs_on_while_a_child_holds_its_output() {
    let daemon = Daemon::start().await;
    let script = "(trap 'echo bye; exit' TERM; echo on; while :; do sleep 0.05; done) & exit 3";
    let id = daemon.exec(JobSpec { drain_timeout: seconds(60), ..shell(script) }).await;
    daemon.printed(&id, "on\n").await;
    let kinds = eventually("the main process has ended", || {
        let kinds: Vec<_> = daemon.slots(&id).iter().map(|slot| slot["kind"].clone()).collect();
        kinds.iter().any(|kind| kind == "exited").then_some(kinds)
    });
    assert_eq!(kinds.await.last().unwrap(), "exited");
    assert_eq!(daemon.status(&id).await.state(), JobState::Running);
    assert!(daemon.kill_job(&id, 15).await.delivered);
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::Exited));
    assert_eq!(job.exit_code(), Some(3), "the main process decides");
    assert_eq!(daemon.stdout(&id).await, "on\nbye\n");
}

#[tokio::test]
async fn a_child_that_holds_the_output_for_ever_is_killed_after_the_drain_timeout() {
    let daemon = Daemon::start().await;
    let mark = mark("holds");
    let spec = JobSpec {
        drain_timeout: millis(300),
        env: pairs([("MARK", &mark)]),
        ..shell("setsid sleep 600 & echo early")
    };
    let id = daemon.exec(spec).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Succeeded, EndCause::Exited));
    assert!(job.message.contains("held its output"), "{}", job.message);
    assert_eq!(daemon.stdout(&id).await, "early\n");
    assert_eq!(carriers(&format!("MARK={mark}")), [0; 0]);
}

#[tokio::test]
async fn a_daemon_that_closed_everything_is_gone_when_the_job_has_ended() {
    let daemon = Daemon::start().await;
    let mark = mark("closed");
    let script = "(setsid sh -c 'setsid sleep 600 <&- >&- 2>&- & exit' <&- >&- 2>&- &) ; \
                  sleep 0.3; echo done";
    let id = daemon.exec(JobSpec { env: pairs([("MARK", &mark)]), ..shell(script) }).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.exit_code(), Some(0));
    assert_eq!(daemon.stdout(&id).await, "done\n");
    assert_eq!(carriers(&format!("MARK={mark}")), [0; 0]);
}

#[tokio::test]
async fn a_job_that_closes_its_output_runs_on() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("echo on; exec >&- 2>&-; sleep 0.3; exit 6")).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.exit_code(), Some(6));
    assert_eq!(daemon.stdout(&id).await, "on\n");
}

#[tokio::test]
async fn a_tree_of_daemons_that_ignore_everything_leaves_nobody() {
    let daemon = Daemon::start().await;
    let mark = mark("tree");
    let script = "trap '' TERM HUP INT; for n in 1 2 3 4 5; do \
                  setsid sh -c \"trap '' TERM; setsid sleep 600 & while :; do sleep 0.1; done\" \
                  & done; echo on; wait";
    let spec =
        JobSpec { stop_grace_period: millis(100), env: pairs([("MARK", &mark)]), ..shell(script) };
    let id = daemon.exec(spec).await;
    let variable = format!("MARK={mark}");
    eventually("the whole tree", || (carriers(&variable).len() >= 11).then_some(())).await;
    daemon.cancel(&id).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Cancelled, EndCause::Cancelled));
    assert_eq!(carriers(&variable), [0; 0]);
}

#[tokio::test]
async fn a_job_is_killed_whole_with_and_without_control_groups() {
    for cgroup in ["auto", "off"] {
        let daemon = Daemon::start_with(Setup::flags(&["--cgroup", cgroup])).await;
        let mark = mark(cgroup);
        let script = "setsid sh -c 'setsid sleep 600 & sleep 600' & echo on; sleep 600";
        let id = daemon.exec(JobSpec { env: pairs([("MARK", &mark)]), ..shell(script) }).await;
        let variable = format!("MARK={mark}");
        eventually("the whole tree", || (carriers(&variable).len() >= 4).then_some(())).await;
        assert!(daemon.kill_job(&id, 9).await.delivered);
        let job = daemon.wait(&id).await;
        assert_eq!(job.how(), (JobState::Failed, EndCause::Killed));
        assert_eq!(carriers(&variable), [0; 0]);
        // A group that was made for it is gone with it.
        let slots = daemon.slots(&id);
        let started = slots.iter().find(|slot| slot["kind"] == "started").unwrap();
        if let Some(group) = started["cgroup"].as_str() {
            let path = std::path::Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
            assert!(!path.exists(), "{}", path.display());
            assert_eq!(cgroup, "auto");
        }
    }
}
