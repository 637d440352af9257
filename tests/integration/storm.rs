//! Jobs of all kinds while the service, its launcher and supervisors are killed at random: at the
//! end every exit status and every byte is right, every job ran once, and nothing is left.
//!
//! A storm is told by its seed. `JOBWARDEN_STORM_SEED` and `JOBWARDEN_STORM_JOBS` choose another;
//! `examples/soak/run.sh` has it blow for an hour.

use std::{fs, path::Path, time::Duration};

use jobwarden::{
    api::{EndCause, ExecRequest, Job, JobSpec, JobState},
    client::{Client, Endpoint},
};
use tokio::sync::mpsc;

use crate::{
    harness::{
        Daemon, JobFacts as _, carriers, eventually, kill_process, millis, pairs, shell, within,
    },
    watch_rounds::{Numbers, check, watch},
};

const SEEDS: [u64; 1] = [20_261_121];
const JOBS: u64 = 150;

/// A job, and what has to come of it.
struct Planned {
    spec: JobSpec,
    how: (JobState, EndCause),
    exit_code: Option<i32>,
    stdout: String,
}

fn plan(numbers: &mut Numbers, run: &str) -> Planned {
    let code = i32::try_from(numbers.below(4)).unwrap();
    let ended = if code == 0 { JobState::Succeeded } else { JobState::Failed };
    let how = (ended, EndCause::Exited);
    let plain = |script: String, stdout: String| {
        let spec = shell(&format!("{run}; {script}"));
        Planned { spec, how, exit_code: Some(code), stdout }
    };
    let pause = numbers.below(900);
    match numbers.below(6) {
        0 => plain(format!("echo short; exit {code}"), "short\n".to_owned()),
        1 => {
            // As much as many FIFOs hold, in a hurry.
            let count = 20_000 + numbers.below(60_000);
            let stdout = (1..=count).flat_map(|n| [n.to_string(), "\n".to_owned()]).collect();
            plain(format!("seq 1 {count}; exit {code}"), stdout)
        }
        2 => plain(
            format!("echo slow; sleep 0.{pause:03}; echo end; exit {code}"),
            "slow\nend\n".to_owned(),
        ),
        3 => {
            // Leaves a daemon behind that gives up its session and its output.
            let daemon = "(setsid sleep 600 <&- >&- 2>&- &)";
            plain(
                format!("{daemon}; echo daemon; sleep 0.{pause:03}; exit {code}"),
                "daemon\n".to_owned(),
            )
        }
        4 => {
            let script = format!("{run}; trap '' TERM; echo deaf; while :; do sleep 0.05; done");
            let (timeout, stop_grace_period) = (millis(300), millis(200));
            Planned {
                spec: JobSpec { timeout, stop_grace_period, ..shell(&script) },
                how: (JobState::TimedOut, EndCause::TimedOut),
                exit_code: None,
                stdout: "deaf\n".to_owned(),
            }
        }
        _ => {
            let script = format!("{run}; echo killed; sleep 0.{pause:03}; kill -9 $$");
            Planned {
                spec: shell(&script),
                how: (JobState::Failed, EndCause::Signaled),
                exit_code: None,
                stdout: "killed\n".to_owned(),
            }
        }
    }
}

/// Kills one of ours, or two of them.
async fn strike(mut daemon: Daemon, numbers: &mut Numbers, ids: &[String]) -> Daemon {
    let kinds = match numbers.below(8) {
        0 => [true, false, false],
        1 => [false, true, false],
        2 => [true, false, true],
        _ => [false, false, true],
    };
    let [service, launcher, supervisor] = kinds;
    if supervisor && !ids.is_empty() {
        let last = u64::try_from(ids.len()).unwrap();
        for _ in 0..=numbers.below(3) {
            // Mostly one that was submitted lately: others have ended.
            let back = numbers.below(last.min(12)) + 1;
            let id = &ids[usize::try_from(last - back).unwrap()];
            if let Some(supervisor) = daemon.supervisor_if_any(id) {
                kill_process(supervisor);
            }
        }
    }
    if launcher && let Some(launcher) = daemon.launcher_if_any() {
        kill_process(launcher);
    }
    if service {
        daemon = daemon.kill_and_restart().await;
    }
    daemon
}

async fn blow(seed: u64, jobs: u64) {
    let mut numbers = Numbers(seed);
    let mut daemon = Daemon::start().await;
    let client = Client::connect(Endpoint::Unix(daemon.socket())).await.unwrap();
    let (send_all, all) = mpsc::channel(1);
    let watcher = tokio::spawn(watch(client.clone(), all));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mark = format!("storm-{}-{seed}", std::process::id());
    let (mut planned, mut ids) = (Vec::new(), Vec::new());
    let mut strikes = 0;
    while planned.len() < usize::try_from(jobs).unwrap() {
        for _ in 0..=numbers.below(4) {
            let runs = daemon.beside().join(format!("runs-{}", planned.len()));
            let mut next = plan(&mut numbers, &format!("echo run >> {}", runs.display()));
            next.spec.env = pairs([("MARK", &mark)]);
            let request_id = format!("{seed}-{}", planned.len());
            let spec = Some(next.spec.clone());
            let request = ExecRequest { spec, request_id, ..ExecRequest::default() };
            let reply = client.exec(request).await.unwrap_or_else(|error| panic!("{error:?}"));
            ids.push(reply.job.unwrap().job_id);
            planned.push(next);
        }
        tokio::time::sleep(Duration::from_micros(numbers.below(60_000))).await;
        daemon = strike(daemon, &mut numbers, &ids).await;
        strikes += 1;
    }
    let mut lost = 0;
    for (number, (planned, id)) in planned.iter().zip(&ids).enumerate() {
        let job = daemon.wait(id).await;
        let runs = daemon.beside().join(format!("runs-{number}"));
        lost += u32::from(compare(planned, &job, &runs, &daemon, id));
    }
    eprintln!("seed {seed}: {} jobs, {strikes} strikes, {lost} lost to two deaths", ids.len());
    send_all.send(ids.clone()).await.unwrap();
    let told = within("every end is told", watcher).await.unwrap();
    check(&daemon, &ids, &told);
    let mark = format!("MARK={mark}");
    eventually("nothing is left", || carriers(&mark).is_empty().then_some(())).await;
}

/// Compares a job with what was planned; true if it is lost, as it may be where two of ours died
/// and the kernel does not tell.
fn compare(planned: &Planned, job: &Job, runs: &Path, daemon: &Daemon, id: &str) -> bool {
    let runs = fs::read_to_string(runs).unwrap_or_default();
    if job.state() == JobState::Lost && !crate::harness::kernel_tells_exits() {
        assert!(runs.len() <= 4, "{job:?} ran twice");
        return true;
    }
    assert_eq!(job.how(), planned.how, "{job:?}");
    assert_eq!(job.exit_code(), planned.exit_code, "{job:?}");
    assert_eq!(runs, "run\n", "{job:?} ran once");
    let stdout = daemon.stdout_so_far(id);
    // Two of ours died before the job did, in the time that a launcher takes to start.
    if job.message.contains("may be missing") {
        assert!(planned.stdout.starts_with(&stdout));
        return stdout != planned.stdout;
    }
    assert!(stdout == planned.stdout, "{id}: {} of {} bytes", stdout.len(), planned.stdout.len());
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_right_after_a_storm_of_deaths() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let jobs = number("JOBWARDEN_STORM_JOBS").unwrap_or(JOBS);
    let seeds = number("JOBWARDEN_STORM_SEED").map_or(SEEDS.to_vec(), |seed| vec![seed]);
    for seed in seeds {
        eprintln!("seed {seed}");
        blow(seed, jobs).await;
    }
}
