//! Death at every named point: whichever process meets it is killed there, once, and everything
//! comes out as if it had not been.
//!
//! Only with the feature `faults`: `cargo test --features faults --test integration fault_points`.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use jobwarden::{
    api::{
        CancelRequest, DeleteRequest, EndCause, EventType, ExecRequest, Job, JobSpec, JobState,
        OutputMatch, WaitRequest,
    },
    client::{Client, Endpoint, Error},
};
use tokio::sync::{Mutex, mpsc};

use crate::{
    harness::{
        Daemon, JobFacts as _, Setup, argv, carriers, kill_process, millis, pairs, shell, within,
    },
    watch_rounds::{check, watch},
};

/// Every point of the program.
const POINTS: [&str; 36] = [
    "adopter.adopted",
    "adopter.captured",
    "adopter.locked",
    "child.exec_failed",
    "child.starting",
    "delete.begun",
    "delete.disposed",
    "delete.hidden",
    "delete.told",
    "journal.append",
    "journal.appended",
    "journal.full",
    "launcher.adopting",
    "launcher.asked",
    "launcher.forked",
    "launcher.orphan",
    "output.captured",
    "output.moved",
    "queue.launching",
    "submit.durable",
    "submit.folder",
    "submit.marked",
    "submit.request_noted",
    "submit.reserved",
    "submit.spec",
    "supervisor.claimed",
    "supervisor.drained",
    "supervisor.end_recorded",
    "supervisor.ended",
    "supervisor.exit_recorded",
    "supervisor.exit_seen",
    "supervisor.locked",
    "supervisor.not_spawned",
    "supervisor.spawned",
    "supervisor.started",
    "supervisor.stopping",
];
/// Points that a launcher comes by while one of its supervisors is dead.
const KILLS_TWO: [&str; 2] = ["launcher.adopting", "launcher.orphan"];
/// Points that are tried at the same time.
const AT_ONCE: usize = 4;

/// A service that is started again when it dies.
type Kept = Arc<Mutex<Option<Daemon>>>;

async fn keep(kept: Kept) {
    loop {
        let mut daemon = kept.lock().await;
        if !daemon.as_mut().unwrap().is_alive() {
            let dead = daemon.take().unwrap();
            *daemon = Some(dead.restart().await);
        }
        drop(daemon);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A job of each kind. Each notes in `runs` that it ran.
fn specs(runs: &Path) -> Vec<(&'static str, JobSpec)> {
    let noted = |name: &str, script: &str| {
        shell(&format!("echo run >> {}; {script}", runs.join(name).display()))
    };
    let needle = OutputMatch {
        name: "needle".to_owned(),
        pattern: "needle".to_owned(),
        ..OutputMatch::default()
    };
    vec![
        ("plain", noted("plain", "echo out; echo err >&2; exit 3")),
        ("missing", argv(&["/nonexistent/program"])),
        (
            "victim",
            noted("victim", "echo begin; until [ -e go ]; do sleep 0.02; done; seq 1 2000; exit 5"),
        ),
        (
            "matched",
            JobSpec {
                output_matches: vec![needle],
                ..noted("matched", "echo a needle; sleep 0.1; echo a needle")
            },
        ),
        ("cancelled", noted("cancelled", "sleep 600")),
        ("timed", JobSpec { timeout: millis(400), ..noted("timed", "sleep 600") }),
        ("deleted", noted("deleted", "true")),
        (
            "leftover",
            JobSpec { drain_timeout: millis(200), ..noted("leftover", "sleep 600 & exit 0") },
        ),
    ]
}

async fn wait(client: &Client, job_id: &str) -> Job {
    let timeout = crate::harness::seconds(20);
    let request = WaitRequest { job_id: job_id.to_owned(), timeout, ..WaitRequest::default() };
    let reply = client.wait(request).await.unwrap_or_else(|error| panic!("{error:?}"));
    reply.job.unwrap()
}

/// Deletes a job. Whether a call that was cut off has had its effect, the next one tells.
async fn delete(client: &Client, job_id: &str) {
    let request = DeleteRequest { job_id: job_id.to_owned(), ..DeleteRequest::default() };
    loop {
        match client.delete(request.clone()).await {
            Ok(_) => return,
            Err(Error::Interrupted { .. }) => {}
            Err(error) => {
                assert!(format!("{error:?}").contains("NotFound"), "{error:?}");
                return;
            }
        }
    }
}

async fn live(point: &'static str, kept: Kept, client: Client, runs: &Path) {
    let (send_all, all) = mpsc::channel(1);
    let watcher = tokio::spawn(watch(client.clone(), all));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut ids = Vec::new();
    for (name, spec) in specs(runs) {
        let spec = JobSpec { env: pairs([("MARK", point)]), ..spec };
        let request_id = name.to_owned();
        let request = ExecRequest { spec: Some(spec), request_id, ..ExecRequest::default() };
        let reply = client.exec(request).await.unwrap_or_else(|error| panic!("{error:?}"));
        ids.push(reply.job.unwrap().job_id);
    }
    let [plain, missing, victim, matched, cancelled, timed, deleted, leftover] =
        ids.clone().try_into().expect("as many as there are specs");
    // One supervisor dies in any case.
    loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let daemon = kept.lock().await;
        let daemon = daemon.as_ref().unwrap();
        if daemon.stdout_so_far(&victim) == "begin\n"
            && let Some(supervisor) = daemon.supervisor_if_any(&victim)
        {
            kill_process(supervisor);
            fs::write(daemon.beside().join("go"), "").unwrap();
            break;
        }
    }
    let request = CancelRequest { job_id: cancelled.clone(), ..CancelRequest::default() };
    client.cancel(request).await.unwrap();
    wait(&client, &deleted).await;
    delete(&client, &deleted).await;

    let how = async |id: &str| wait(&client, id).await.how();
    let job = wait(&client, &plain).await;
    assert_eq!((job.how(), job.exit_code()), ((JobState::Failed, EndCause::Exited), Some(3)));
    let job = wait(&client, &missing).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::LaunchFailed));
    assert_eq!(job.launch_error.unwrap().errno_name, "ENOENT");
    let victims = wait(&client, &victim).await;
    // Its supervisor and its launcher died at once, and it ended before there was another: what
    // was in its FIFOs is gone then, and that is told.
    let is_cut = KILLS_TWO.contains(&point) && victims.message.contains("may be missing");
    if victims.state() != JobState::Lost || !is_cut {
        assert_eq!(victims.exit_code(), Some(5), "{victims:?}");
    }
    assert_eq!(how(&matched).await, (JobState::Succeeded, EndCause::Exited));
    assert_eq!(how(&cancelled).await, (JobState::Cancelled, EndCause::Cancelled));
    assert_eq!(how(&timed).await, (JobState::TimedOut, EndCause::TimedOut));
    assert_eq!(how(&leftover).await, (JobState::Succeeded, EndCause::Exited));
    send_all.send(ids.clone()).await.unwrap();
    let mut told = within("every end is told", watcher).await.unwrap();

    let daemon = kept.lock().await;
    let daemon = daemon.as_ref().unwrap();
    let kinds = told.kinds.remove(&deleted).unwrap();
    let life = [EventType::Created, EventType::Started, EventType::Ended];
    assert!(kinds.starts_with(&life), "{kinds:?}");
    ids.retain(|id| *id != deleted);
    check(daemon, &ids, &told);
    let numbers = (1..=2000).map(|n| n.to_string());
    let lines: Vec<String> = std::iter::once("begin".to_owned()).chain(numbers).collect();
    let (stdout, whole) = (daemon.stdout_so_far(&victim), lines.join("\n") + "\n");
    assert!(stdout == whole || is_cut && whole.starts_with(&stdout), "{stdout}");
    let found = fs::read_to_string(daemon.folder(&matched).join("matches.jsonl")).unwrap();
    assert_eq!(found.lines().count(), 2, "{found}");
    for name in ["plain", "victim", "matched", "timed", "deleted", "leftover"] {
        assert_eq!(fs::read_to_string(runs.join(name)).unwrap(), "run\n", "{name} ran once");
    }
    assert_eq!(carriers(&format!("MARK={point}")), [0; 0]);
}

async fn suffer(point: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let (latch, runs) = (folder.path().join("latch"), folder.path().join("runs"));
    fs::create_dir(&runs).unwrap();
    let mut setup = Setup::default();
    if point == "journal.full" {
        setup.flags = ["--journal-max-events", "16"].map(str::to_owned).to_vec();
    }
    setup.env = vec![
        ("JOBWARDEN_FAULT_POINT".to_owned(), point.to_owned()),
        ("JOBWARDEN_FAULT_LATCH".to_owned(), latch.to_str().unwrap().to_owned()),
    ];
    let daemon = Daemon::start_with(setup).await;
    let client = Client::connect(Endpoint::Unix(daemon.socket())).await.unwrap();
    let kept: Kept = Arc::new(Mutex::new(Some(daemon)));
    let keeper = tokio::spawn(keep(Arc::clone(&kept)));
    Box::pin(within(point, live(point, Arc::clone(&kept), client, &runs))).await;
    keeper.abort();
    assert!(latch.exists(), "nothing came by {point}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_at_any_point_changes_nothing() {
    let only = std::env::var("JOBWARDEN_POINT").ok();
    let mut running = tokio::task::JoinSet::new();
    for point in POINTS {
        if only.as_deref().is_some_and(|only| only != point) {
            continue;
        }
        while running.len() >= AT_ONCE {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(async move {
            Box::pin(suffer(point)).await;
            eprintln!("{point}: passed");
        });
    }
    while let Some(suffered) = running.join_next().await {
        suffered.unwrap();
    }
}

#[test]
fn every_point_of_the_program_is_tried() {
    fn points(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                points(&path, found);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let names = text.split("faults::point(\"").skip(1);
                found.extend(names.map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
    }
    let mut found = BTreeSet::new();
    points(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert_eq!(found, POINTS.map(str::to_owned).into_iter().collect());
}
