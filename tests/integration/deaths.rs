//! The deaths of supervisors, launchers and services: no exit status and no byte is lost with any.

use std::time::Duration;

use jobwarden::api::{CancelRequest, EndCause, JobSpec, JobState, KillRequest};

use crate::harness::{
    Daemon, JobFacts as _, carriers, children_of, continue_process, eventually, is_alive,
    kernel_tells_exits, kill_process, pairs, seconds, shell, state_of, stop_process,
};

/// Ends with 3 once a file `go` is there.
const UNTIL_GO: &str = "until [ -e go ]; do sleep 0.02; done; echo done; exit 3";

fn go(daemon: &Daemon) {
    std::fs::write(daemon.beside().join("go"), "").unwrap();
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.flat_map(|line| [line, "\n".to_owned()]).collect()
}

async fn cancel(daemon: &Daemon, id: &str) {
    let request = CancelRequest {
        job_id: id.to_owned(),
        reason: "enough".to_owned(),
        ..CancelRequest::default()
    };
    daemon.api().cancel(request).await.unwrap();
}

/// A supervisor other than the one given holds the job.
async fn adopted(daemon: &Daemon, id: &str, before: i32) -> i32 {
    eventually("another supervisor", || daemon.supervisor_if_any(id).filter(|now| *now != before))
        .await
}

#[tokio::test]
async fn a_job_whose_supervisor_is_killed_again_and_again_keeps_every_byte_and_its_exit_code() {
    let daemon = Daemon::start().await;
    let script = "i=0; while [ $i -lt 4000 ]; do echo line $i; echo error $i >&2; \
                  i=$((i+1)); [ $((i % 50)) = 0 ] && sleep 0.01; done; exit 7";
    let id = daemon.exec(shell(script)).await;
    daemon.started(&id).await;
    let mut supervisor = daemon.supervisor(&id);
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        kill_process(supervisor);
        supervisor = adopted(&daemon, &id, supervisor).await;
    }
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::Exited));
    assert_eq!(job.exit_code(), Some(7));
    let lines = |name: &str| lines((0..4000).map(|n| format!("{name} {n}")));
    assert_eq!(daemon.stdout(&id).await, lines("line"));
    assert_eq!(
        std::fs::read_to_string(daemon.folder(&id).join("stderr.log")).unwrap(),
        lines("error")
    );
}

#[tokio::test]
async fn a_status_and_a_tail_that_nobody_saw_are_found_by_the_next_supervisor() {
    let daemon = Daemon::start().await;
    let id = daemon
        .exec(shell("echo begin; until [ -e go ]; do sleep 0.02; done; seq 1 5000; exit 9"))
        .await;
    daemon.printed(&id, "begin\n").await;
    let (pid, supervisor, launcher) =
        (daemon.status(&id).await.pid, daemon.supervisor(&id), daemon.launcher());
    // While the launcher sleeps the job ends without anybody to see it.
    stop_process(launcher);
    kill_process(supervisor);
    go(&daemon);
    eventually("the job has ended", || (state_of(pid) == Some('Z')).then_some(())).await;
    continue_process(launcher);
    let job = daemon.wait(&id).await;
    assert_eq!(job.exit_code(), Some(9));
    let numbers = (1..=5000).map(|n| n.to_string());
    let expected = lines(std::iter::once("begin".to_owned()).chain(numbers));
    assert_eq!(daemon.stdout(&id).await, expected);
    assert!(job.usage.is_some());
}

#[tokio::test]
async fn other_jobs_do_not_notice_the_death_of_a_supervisor() {
    let daemon = Daemon::start().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(daemon.exec(shell(UNTIL_GO)).await);
    }
    for id in &ids {
        daemon.started(id).await;
    }
    let before: Vec<i32> = ids.iter().map(|id| daemon.supervisor(id)).collect();
    kill_process(before[0]);
    adopted(&daemon, &ids[0], before[0]).await;
    go(&daemon);
    for (id, before) in ids.iter().zip(before).skip(1) {
        assert_eq!(daemon.supervisor(id), before);
    }
    for id in &ids {
        assert_eq!(daemon.wait(id).await.exit_code(), Some(3));
        assert_eq!(daemon.stdout(id).await, "done\n");
    }
}

#[tokio::test]
async fn several_supervisors_may_die_at_once() {
    let daemon = Daemon::start().await;
    let mark = format!("several-{}", std::process::id());
    let mut ids = Vec::new();
    for n in 0..6 {
        let env = pairs([("MARK", &mark)]);
        let script =
            format!("sleep 600 & until [ -e go ]; do sleep 0.02; done; echo {n}; exit {n}");
        ids.push(daemon.exec(JobSpec { env, ..shell(&script) }).await);
    }
    for id in &ids {
        daemon.started(id).await;
    }
    let supervisors: Vec<i32> = ids.iter().map(|id| daemon.supervisor(id)).collect();
    supervisors.into_iter().for_each(kill_process);
    go(&daemon);
    for (n, id) in ids.iter().enumerate() {
        let job = daemon.wait(id).await;
        assert_eq!(job.exit_code(), Some(i32::try_from(n).unwrap()), "{job:?}");
        assert_eq!(daemon.stdout(id).await, format!("{n}\n"));
    }
    eventually("all leftovers are dead", || {
        carriers(&format!("MARK={mark}")).is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn limits_and_requests_hold_under_the_next_supervisor() {
    let daemon = Daemon::start().await;
    let timed = JobSpec { timeout: seconds(2), ..shell("sleep 600") };
    let timed = daemon.exec(timed).await;
    let killed = daemon.exec(shell("sleep 600")).await;
    let script = "trap 'echo term; exit 4' TERM; echo on; while :; do sleep 0.02; done";
    let cancelled = daemon.exec(shell(script)).await;
    daemon.printed(&cancelled, "on\n").await;
    for id in [&timed, &killed, &cancelled] {
        daemon.started(id).await;
        let before = daemon.supervisor(id);
        kill_process(before);
        adopted(&daemon, id, before).await;
    }
    let request = KillRequest { job_id: killed.clone(), signal: 10, scope: 0 };
    daemon.api().kill(request).await.unwrap();
    cancel(&daemon, &cancelled).await;
    let job = daemon.wait(&killed).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::Killed));
    assert_eq!(job.signal(), Some(10));
    let job = daemon.wait(&cancelled).await;
    assert_eq!(job.how(), (JobState::Cancelled, EndCause::Cancelled));
    assert_eq!(
        (job.exit_code(), daemon.stdout(&cancelled).await.as_str()),
        (Some(4), "on\nterm\n")
    );
    assert_eq!(daemon.wait(&timed).await.how(), (JobState::TimedOut, EndCause::TimedOut));
}

#[tokio::test]
async fn a_stop_that_was_begun_is_carried_out_by_the_next_supervisor() {
    let daemon = Daemon::start().await;
    let stop_grace_period = seconds(1);
    let script = "trap 'echo term' TERM; echo on; while :; do sleep 0.02; done";
    let id = daemon.exec(JobSpec { stop_grace_period, ..shell(script) }).await;
    daemon.printed(&id, "on\n").await;
    cancel(&daemon, &id).await;
    daemon.printed(&id, "on\nterm\n").await;
    kill_process(daemon.supervisor(&id));
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Cancelled, EndCause::Cancelled));
    assert_eq!((job.signal(), daemon.stdout(&id).await.as_str()), (Some(9), "on\nterm\n"));
    assert!(job.message.contains("enough"), "{}", job.message);
}

#[tokio::test]
async fn nothing_is_left_of_a_job_whose_supervisor_died() {
    let daemon = Daemon::start().await;
    let mark = format!("strays-{}", std::process::id());
    // One leaves its session, one its environment as well.
    let script = format!(
        "setsid sleep 600 & (setsid env -i MARK={mark} sleep 600 <&- >&- 2>&- &); {UNTIL_GO}"
    );
    let env = pairs([("MARK", &mark)]);
    let id = daemon.exec(JobSpec { env, ..shell(&script) }).await;
    let variable = format!("MARK={mark}");
    eventually("the whole tree", || (carriers(&variable).len() >= 3).then_some(())).await;
    let before = daemon.supervisor(&id);
    kill_process(before);
    adopted(&daemon, &id, before).await;
    go(&daemon);
    let job = daemon.wait(&id).await;
    assert_eq!(job.exit_code(), Some(3));
    eventually("nothing is left", || carriers(&variable).is_empty().then_some(())).await;
}

#[tokio::test]
async fn running_jobs_survive_the_death_of_the_launcher_and_new_ones_start() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell(UNTIL_GO)).await;
    daemon.started(&id).await;
    let launcher = daemon.launcher();
    kill_process(launcher);
    assert_eq!(daemon.run(shell("exit 4")).await.exit_code(), Some(4));
    assert_ne!(daemon.launcher(), launcher);
    go(&daemon);
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
                (children_of(daemon.pid()).len() == 1).then_some(())
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
async fn the_new_launcher_takes_up_what_the_old_one_had_started() {
    if !kernel_tells_exits() {
        return eprintln!("skipped: this kernel does not tell how strangers' children ended");
    }
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell(UNTIL_GO)).await;
    daemon.started(&id).await;
    let launcher = daemon.launcher();
    kill_process(launcher);
    assert_eq!(daemon.run(shell("exit 4")).await.exit_code(), Some(4));
    // The job ends before anybody has taken it up.
    let (pid, next) = (daemon.status(&id).await.pid, daemon.launcher());
    stop_process(next);
    kill_process(daemon.supervisor(&id));
    go(&daemon);
    eventually("the job has ended", || (!is_alive(pid)).then_some(())).await;
    continue_process(next);
    let job = daemon.wait(&id).await;
    assert_eq!(job.exit_code(), Some(3), "{job:?}");
    assert_eq!(daemon.stdout(&id).await, "done\n");
}

#[tokio::test]
async fn a_supervisor_that_dies_while_the_service_is_dead_is_replaced() {
    let mut daemon = Daemon::start().await;
    let id = daemon.exec(shell(&format!("echo on; {UNTIL_GO}"))).await;
    daemon.printed(&id, "on\n").await;
    let supervisor = daemon.supervisor(&id);
    daemon.kill();
    kill_process(supervisor);
    adopted(&daemon, &id, supervisor).await;
    go(&daemon);
    let daemon = daemon.restart().await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.exit_code(), Some(3));
    assert_eq!(daemon.stdout(&id).await, "on\ndone\n");
}

#[tokio::test]
async fn jobs_go_on_after_all_of_ours_were_killed_at_once() {
    if !kernel_tells_exits() {
        return eprintln!("skipped: this kernel does not tell how strangers' children ended");
    }
    let mut daemon = Daemon::start().await;
    let script = format!(
        "echo on; until [ -e more ]; do sleep 0.02; done; seq 1 500; : > written; {UNTIL_GO}"
    );
    let id = daemon.exec(shell(&script)).await;
    daemon.printed(&id, "on\n").await;
    let (launcher, supervisor) = (daemon.launcher(), daemon.supervisor(&id));
    daemon.kill();
    kill_process(launcher);
    kill_process(supervisor);
    // Nobody reads this now; it waits in the FIFO.
    std::fs::write(daemon.beside().join("more"), "").unwrap();
    let written = daemon.beside().join("written");
    eventually("the output is in the FIFO", || written.exists().then_some(())).await;
    let daemon = daemon.restart().await;
    adopted(&daemon, &id, supervisor).await;
    go(&daemon);
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::Exited));
    assert_eq!(job.exit_code(), Some(3));
    let numbers = lines((1..=500).map(|n| n.to_string()));
    assert_eq!(daemon.stdout(&id).await, format!("on\n{numbers}done\n"));
}

#[tokio::test]
async fn a_job_that_ended_while_nobody_of_ours_lived_is_lost_and_nothing_is_left_of_it() {
    let mut daemon = Daemon::start().await;
    let mark = format!("all-{}", std::process::id());
    let script = "trap '' TERM HUP; setsid sleep 600 & echo on; while :; do sleep 0.05; done";
    let id = daemon.exec(JobSpec { env: pairs([("MARK", &mark)]), ..shell(script) }).await;
    daemon.printed(&id, "on\n").await;
    let pid = daemon.status(&id).await.pid;
    let (launcher, supervisor) = (daemon.launcher(), daemon.supervisor(&id));
    daemon.kill();
    kill_process(launcher);
    kill_process(supervisor);
    kill_process(pid);
    // Until it is reaped its status can be had.
    eventually("it is reaped", || state_of(pid).is_none().then_some(())).await;
    let daemon = daemon.restart().await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Lost, EndCause::Lost));
    assert_eq!(job.exit_status, None);
    assert!(!job.message.is_empty());
    assert_eq!(carriers(&format!("MARK={mark}")), [0; 0]);
    assert_eq!(daemon.stdout(&id).await, "on\n");
}
