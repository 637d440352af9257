//! The deaths of supervisors and launchers.

use jobwarden::api::{EndCause, JobSpec, JobState};

use crate::harness::{
    Daemon, JobFacts as _, carriers, eventually, is_alive, kill_process, pairs, shell,
};

#[tokio::test]
async fn a_job_whose_supervisor_was_killed_is_lost_at_once_and_its_tree_is_dead() {
    let daemon = Daemon::start().await;
    let mark = format!("lost-{}", std::process::id());
    let script = "trap '' TERM HUP; setsid sh -c 'setsid sleep 600 <&- >&- 2>&- & sleep 600' & \
                  echo on; while :; do sleep 0.05; done";
    let id = daemon.exec(JobSpec { env: pairs([("MARK", &mark)]), ..shell(script) }).await;
    daemon.printed(&id, "on\n").await;
    let variable = format!("MARK={mark}");
    eventually("the whole tree", || (carriers(&variable).len() >= 4).then_some(())).await;
    kill_process(daemon.supervisor(&id));
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Lost, EndCause::Lost));
    assert_eq!(job.exit_status, None);
    assert!(!job.message.is_empty());
    assert_eq!(carriers(&variable), [0; 0]);
    assert_eq!(daemon.stdout(&id).await, "on\n");
}

#[tokio::test]
async fn other_jobs_do_not_notice_the_death_of_a_supervisor() {
    let daemon = Daemon::start().await;
    let script = "until [ -e go ]; do sleep 0.02; done; echo done; exit 3";
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(daemon.exec(shell(script)).await);
    }
    let id = daemon.exec(shell("sleep 600")).await;
    daemon.started(&id).await;
    for other in &others {
        daemon.started(other).await;
    }
    kill_process(daemon.supervisor(&id));
    assert_eq!(daemon.wait(&id).await.state(), JobState::Lost);
    std::fs::write(daemon.beside().join("go"), "").unwrap();
    for other in &others {
        assert_eq!(daemon.wait(other).await.exit_code(), Some(3));
        assert_eq!(daemon.stdout(other).await, "done\n");
    }
}

#[tokio::test]
async fn several_supervisors_may_die_at_once() {
    let daemon = Daemon::start().await;
    let mark = format!("several-{}", std::process::id());
    let mut ids = Vec::new();
    for _ in 0..4 {
        let env = pairs([("MARK", &mark)]);
        ids.push(daemon.exec(JobSpec { env, ..shell("sleep 600 & sleep 600") }).await);
    }
    for id in &ids {
        daemon.started(id).await;
    }
    let supervisors: Vec<i32> = ids.iter().map(|id| daemon.supervisor(id)).collect();
    supervisors.into_iter().for_each(kill_process);
    for id in &ids {
        assert_eq!(daemon.wait(id).await.state(), JobState::Lost);
    }
    assert_eq!(carriers(&format!("MARK={mark}")), [0; 0]);
}

#[tokio::test]
async fn running_jobs_survive_the_death_of_the_launcher_and_new_ones_start() {
    let daemon = Daemon::start().await;
    let script = "until [ -e go ]; do sleep 0.02; done; echo done; exit 3";
    let id = daemon.exec(shell(script)).await;
    daemon.started(&id).await;
    let launcher = daemon.launcher();
    kill_process(launcher);
    assert_eq!(daemon.run(shell("exit 4")).await.exit_code(), Some(4));
    assert_ne!(daemon.launcher(), launcher);
    std::fs::write(daemon.beside().join("go"), "").unwrap();
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::Exited));
    assert_eq!(job.exit_code(), Some(3));
    assert_eq!(daemon.stdout(&id).await, "done\n");
}

#[tokio::test]
async fn no_job_is_lost_when_the_launcher_dies_while_jobs_are_being_started() {
    let daemon = Daemon::start().await;
    let mut ids = Vec::new();
    for n in 0..30 {
        ids.push(daemon.exec(shell(&format!("exit {n}"))).await);
        if n == 10 || n == 20 {
            kill_process(daemon.launcher());
        }
        if n == 11 || n == 21 {
            eventually("there is a new launcher", || {
                (crate::harness::children_of(daemon.pid()).len() == 1).then_some(())
            })
            .await;
        }
    }
    for (n, id) in (0..).zip(&ids) {
        let job = daemon.wait(id).await;
        assert_eq!(job.exit_code(), Some(n), "{job:?}");
    }
}

#[tokio::test]
async fn a_supervisor_that_dies_while_the_service_is_dead_is_noticed() {
    let mut daemon = Daemon::start().await;
    let id = daemon.exec(shell("echo on; sleep 600")).await;
    daemon.printed(&id, "on\n").await;
    let pid = daemon.status(&id).await.pid;
    let supervisor = daemon.supervisor(&id);
    daemon.kill();
    kill_process(supervisor);
    eventually("the job is dead", || (!is_alive(pid)).then_some(())).await;
    let daemon = daemon.restart().await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Lost, EndCause::Lost));
    assert_eq!(daemon.stdout(&id).await, "on\n");
}

#[tokio::test]
async fn service_launcher_and_supervisor_killed_together_leave_no_process_unsupervised() {
    let mut daemon = Daemon::start().await;
    let mark = format!("all-{}", std::process::id());
    let script = "trap '' TERM HUP; setsid sleep 600 & echo on; while :; do sleep 0.05; done";
    let id = daemon.exec(JobSpec { env: pairs([("MARK", &mark)]), ..shell(script) }).await;
    daemon.printed(&id, "on\n").await;
    let (launcher, supervisor) = (daemon.launcher(), daemon.supervisor(&id));
    daemon.kill();
    kill_process(launcher);
    kill_process(supervisor);
    let daemon = daemon.restart().await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Lost, EndCause::Lost));
    assert_eq!(carriers(&format!("MARK={mark}")), [0; 0]);
}
