//! System calls that fail: the Nth call that changes the disk or makes a descriptor, in the service
//! or in each supervisor, with a full disk, a broken one or no descriptors left. Nothing hangs,
//! nothing is half, nothing runs twice, and once calls go well again so does everything.
//!
//! Only with the feature `faults`: `cargo test --features faults --test integration failing_calls`.
//! Some of the calls are tried each time; `JOBWARDEN_ALL_CALLS=1` tries them all.

use std::{fs, path::Path, time::Duration};

use jobwarden::api::{
    CancelRequest, EndCause, ExecRequest, Job, JobSpec, JobState, KillRequest, StatusRequest,
    UpdateTimeoutRequest, WaitRequest, update_timeout_request::Change,
};
use tonic::Code;

use crate::harness::{Daemon, Setup, argv, carriers, eventually, pairs, seconds, shell, within};

const FULL_DISK: i32 = 28;
const BROKEN_DISK: i32 = 5;
const NO_DESCRIPTORS: i32 = 24;
/// A signal that ends nothing.
const WINDOW_CHANGED: i32 = 28;

/// More calls than there ever are: it goes on until it is mended.
const LASTING: u32 = 1_000_000;
/// How long that takes.
const MENDED_AFTER: Duration = Duration::from_millis(400);
/// Runs at the same time.
const AT_ONCE: usize = 4;
/// Tries of one submission.
const TRIES: u32 = 100;

/// What fails.
#[derive(Clone, Copy, Debug)]
struct Failing {
    role: &'static str,
    first: u32,
    errno: i32,
    count: u32,
}

fn all() -> Vec<Failing> {
    let is_all = std::env::var_os("JOBWARDEN_ALL_CALLS").is_some();
    let mut all = Vec::new();
    for (role, calls) in [("service", 60), ("supervisor", 24), ("launcher", 12)] {
        for first in 1..=calls {
            for (place, errno) in (0..).zip([FULL_DISK, BROKEN_DISK, NO_DESCRIPTORS]) {
                for (other, count) in (0..).zip([1, 6, LASTING]) {
                    // A run for each call, not for each call and each way to fail.
                    if is_all || (first % 3 == place && first / 3 % 3 == other) {
                        all.push(Failing { role, first, errno, count });
                    }
                }
            }
        }
    }
    all
}

/// Submits until it is accepted: what cannot be accepted is told, and may be tried again.
async fn submit(daemon: &Daemon, name: &str, spec: &JobSpec) -> String {
    for _ in 0..TRIES {
        let request = ExecRequest {
            spec: Some(spec.clone()),
            request_id: name.to_owned(),
            ..ExecRequest::default()
        };
        match daemon.api().exec(request).await {
            Ok(reply) => return reply.into_inner().job.unwrap().job_id,
            Err(status) => {
                let is_told = matches!(status.code(), Code::Unavailable | Code::Internal);
                assert!(is_told, "{status:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never accepted");
}

async fn ended(daemon: &Daemon, id: &str) -> Job {
    for _ in 0..TRIES {
        let request =
            WaitRequest { job_id: id.to_owned(), timeout: seconds(30), ..WaitRequest::default() };
        match daemon.api().wait(request).await {
            Ok(reply) => {
                let job = reply.into_inner().job.unwrap();
                assert!(job.end_time.is_some(), "it hangs: {job:?}");
                return job;
            }
            Err(status) => assert!(
                matches!(status.code(), Code::Unavailable | Code::Internal | Code::DataLoss),
                "{status:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never answered");
}

/// Asks for all that may be asked of a running job, and in the end for its stop.
async fn ask(daemon: &Daemon, id: &str) {
    let mut api = daemon.api();
    let is_told = |status: tonic::Status| {
        let codes = [Code::Unavailable, Code::Internal, Code::DataLoss, Code::FailedPrecondition];
        assert!(codes.contains(&status.code()), "{status:?}");
    };
    let change = seconds(60).map(Change::Timeout);
    let timeout = UpdateTimeoutRequest { job_id: id.to_owned(), change };
    let _ = api.update_timeout(timeout).await.map_err(is_told);
    let kill = KillRequest { job_id: id.to_owned(), signal: WINDOW_CHANGED, ..Default::default() };
    let _ = api.kill(kill).await.map_err(is_told);
    for _ in 0..TRIES {
        let cancel = CancelRequest { job_id: id.to_owned(), ..CancelRequest::default() };
        match api.cancel(cancel).await {
            Ok(_) => return,
            // It is lost already, or could not be started.
            Err(status) if status.code() == Code::FailedPrecondition => return,
            Err(status) => is_told(status),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never cancelled");
}

async fn suffer(failing: Failing) {
    let Failing { role, first, errno, count } = failing;
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    fs::create_dir(&runs).unwrap();
    let mut setup = Setup::default();
    let plan = format!("{role}:{first}:{errno}:{count}");
    let latch = folder.path().join("latch");
    setup.env = vec![
        ("JOBWARDEN_FAULT_CALL".to_owned(), plan),
        ("JOBWARDEN_FAULT_LATCH".to_owned(), latch.to_str().unwrap().to_owned()),
    ];
    // A service that cannot open its store says so and ends.
    let Some(daemon) = Daemon::start_if_it_can(setup).await else {
        assert_eq!(role, "service", "{failing:?}");
        return;
    };
    let mend = async {
        if count == LASTING {
            tokio::time::sleep(MENDED_AFTER).await;
            let latch = fs::OpenOptions::new().append(true).create(true).open(&latch).unwrap();
            latch.set_len(LASTING.into()).unwrap();
        }
    };
    let mark = format!("{role}-{first}-{errno}-{count}-{}", std::process::id());
    tokio::join!(mend, run_three(&daemon, &runs, &mark, failing));
    let spec = argv(&["true"]);
    let last = submit(&daemon, "last", &spec).await;
    ended(&daemon, &last).await;
    // A call that is never reached may still be about to fail.
    let is_over = fs::metadata(&latch).is_ok_and(|failed| failed.len() >= count.into());
    if is_over {
        let again = submit(&daemon, "again", &spec).await;
        assert_eq!(ended(&daemon, &again).await.state(), JobState::Succeeded, "{failing:?}");
    }
    daemon.api().status(StatusRequest { job_id: last }).await.unwrap();
    let mark = format!("MARK={mark}");
    eventually("nothing is left", || carriers(&mark).is_empty().then_some(())).await;
}

/// Three jobs to their ends: one that ends at once, one that runs a while, one that is asked to.
async fn run_three(daemon: &Daemon, runs: &Path, mark: &str, failing: Failing) {
    let mut ids = Vec::new();
    for (name, script) in [
        ("plain", "echo out; echo err >&2; exit 3"),
        ("slow", "echo out; sleep 0.2; exit 3"),
        ("asked", "echo out; sleep 60"),
    ] {
        let script = format!("echo run >> {}; {script}", runs.join(name).display());
        let spec = JobSpec { env: pairs([("MARK", mark)]), ..shell(&script) };
        ids.push((name, submit(daemon, name, &spec).await));
    }
    ask(daemon, &ids[2].1).await;
    for (name, id) in &ids {
        check(daemon, &ended(daemon, id).await, &runs.join(name), failing);
    }
}

fn check(daemon: &Daemon, job: &Job, runs: &Path, failing: Failing) {
    let runs = fs::read_to_string(runs).unwrap_or_default();
    let context = format!("{failing:?}: {job:?}");
    assert!(!job.message.is_empty(), "{context}");
    assert!(runs.is_empty() || runs == "run\n", "it ran twice: {context}");
    match (job.state(), job.cause()) {
        (JobState::Failed, EndCause::Exited) => {
            assert_eq!(runs, "run\n", "{context}");
            let is_told = job.message.contains("output was lost");
            let stdout = daemon.stdout_so_far(&job.job_id);
            assert!(stdout == "out\n" || is_told, "{stdout:?} {context}");
        }
        // Told as what it is: it could not be started, or those who watched it could not go on.
        (JobState::Failed, EndCause::LaunchFailed) => assert_eq!(runs, "", "{context}"),
        (JobState::Cancelled, EndCause::Cancelled) => {
            assert!(job.cancel.is_some() && runs.len() <= 4, "{context}");
        }
        // One failure is survived, whatever it is.
        (JobState::Lost, EndCause::Lost) => assert_ne!(failing.count, 1, "{context}"),
        other => panic!("{other:?}: {context}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_call_may_fail() {
    let mut running = tokio::task::JoinSet::new();
    for failing in all() {
        while running.len() >= AT_ONCE {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(async move {
            let what = format!("{failing:?}");
            Box::pin(within(&what, suffer(failing))).await;
            eprintln!("{what}: passed");
        });
    }
    while let Some(suffered) = running.join_next().await {
        suffered.unwrap();
    }
}
