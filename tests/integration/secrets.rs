//! Secrets reach the process and nothing else, and nobody looks into the processes of ours.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

use jobwarden::api::{
    EndCause, EnvInheritance, EventType, JobSpec, ListRequest, RerunRequest, WatchEventsRequest,
};

use crate::harness::{
    Daemon, JobFacts as _, Setup, Watching, argv, carriers, eventually, millis, pairs, shell,
};

const NONE: [PathBuf; 0] = [];

/// A text that is nowhere else on this machine.
fn secret() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("hush-{}-{}", std::process::id(), now.as_nanos())
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The plain files below `folder` that hold the text, in their content or their name.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let content = if kind.is_file() { fs::read(entry.path()) } else { Ok(Vec::new()) };
            if holds(&content.unwrap_or_default(), text)
                || holds(entry.path().as_os_str().as_encoded_bytes(), text)
            {
                found.push(entry.path());
            }
            if kind.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found
}

/// The processes with the text in their arguments or, as far as it may be read, environment.
fn processes_with(text: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let shows = |pid: &i32| {
        ["cmdline", "environ"].iter().any(|name| {
            let path = format!("/proc/{pid}/{name}");
            holds(&fs::read(path).unwrap_or_default(), text)
        })
    };
    pids.filter(shows).collect()
}

/// What the calls say about jobs now, and what the watch said until the end of `id`.
async fn replies(daemon: &Daemon, id: &str, watching: Option<&mut Watching>) -> String {
    let mut text = format!("{:?}", daemon.try_status(id).await);
    text += &format!("{:?}", daemon.api().list(ListRequest::default()).await);
    let request = RerunRequest { job_id: id.to_owned(), ..RerunRequest::default() };
    text += &format!("{:?}", daemon.api().rerun(request).await);
    if let Some(watching) = watching {
        loop {
            let event = watching.event().await;
            text += &format!("{event:?}");
            let is_of_it = event.job.as_ref().is_some_and(|job| job.job_id == id);
            if is_of_it && event.r#type() == EventType::Ended {
                break;
            }
        }
    }
    text
}

#[tokio::test]
async fn a_secret_is_in_the_process_of_the_job_and_nowhere_else() {
    let secret = secret();
    let daemon = Daemon::start_with(Setup::flags(&["--log-filter", "trace"])).await;
    let mut watching = Watching::open(&daemon, WatchEventsRequest::default()).await.unwrap();
    watching.snapshot().await;
    let spec = JobSpec { secret_env: pairs([("KEY", &secret)]), ..shell("read gate; echo $KEY") };
    // The gate: it ends once somebody writes into it.
    let gate = daemon.beside().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!("read line < {}; test ${{#KEY}} = {}", gate.display(), secret.len());
    let spec = JobSpec { shell: script, ..spec };
    let accepted = daemon.try_exec(spec.clone()).await.unwrap().into_inner();
    let id = accepted.job_id.clone();
    daemon.started(&id).await;

    let own = carriers(&format!("JOBWARDEN_JOB_ID={id}"));
    assert!(!own.is_empty());
    assert_eq!(processes_with(&secret), own, "only the job's own processes have it");
    // Its file goes before the start is told.
    assert_eq!(files_with(daemon.beside(), &secret), NONE);
    assert!(!replies(&daemon, &id, None).await.contains(&secret));

    fs::write(&gate, "go\n").unwrap();
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(0));
    let said = replies(&daemon, &id, Some(&mut watching)).await;
    assert!(said.contains(&id) && !said.contains(&secret));
    assert!(!format!("{accepted:?}").contains(&secret));
    let secret_env = pairs([("KEY", &secret)]);
    let request = RerunRequest { job_id: id.clone(), secret_env, ..RerunRequest::default() };
    let again = daemon.api().rerun(request).await.unwrap().into_inner();
    assert!(!format!("{again:?}").contains(&secret));
    let again = again.job.unwrap().job_id;
    daemon.started(&again).await;
    daemon.delete(&again, true).await.unwrap();

    assert_eq!(processes_with(&secret), [0; 0]);
    assert_eq!(files_with(daemon.beside(), &secret), NONE);
    assert!(!daemon.lines().join("\n").contains(&secret), "not even the finest log has it");
}

#[tokio::test]
async fn the_file_of_secrets_goes_with_every_way_of_not_starting() {
    let secret = secret();
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let secret_env = pairs([("KEY", &secret)]);
    let broken = JobSpec { secret_env: secret_env.clone(), ..argv(&["/nonexistent/program"]) };
    assert_eq!(daemon.run(broken).await.cause(), EndCause::LaunchFailed);
    assert_eq!(files_with(daemon.root(), &secret), NONE);
    let gate = daemon.exec(shell("sleep 600")).await;
    daemon.started(&gate).await;
    let late = JobSpec { secret_env, queue_timeout: millis(300), ..shell("true") };
    let id = daemon.exec(late).await;
    assert_eq!(files_with(daemon.root(), &secret), [daemon.folder(&id).join("secret.json")]);
    assert_eq!(daemon.wait(&id).await.cause(), EndCause::QueueTimedOut);
    assert_eq!(files_with(daemon.root(), &secret), NONE);
    daemon.delete(&gate, true).await.unwrap();
}

#[tokio::test]
async fn a_file_of_secrets_that_a_crash_left_goes_at_the_next_start() {
    let secret = secret();
    let mut daemon = Daemon::start().await;
    let secret_env = pairs([("KEY", &secret)]);
    let id = daemon.run(JobSpec { secret_env, ..shell("true") }).await.job_id;
    daemon.kill();
    // The removal of the file was not synced: after a power cut it can be there again.
    fs::write(daemon.folder(&id).join("secret.json"), format!("{{\"KEY\":\"{secret}\"}}")).unwrap();
    fs::write(daemon.root().join("last_boot"), "another boot").unwrap();
    // So can what was removed from the inbox.
    let dropped = daemon.root().join("inbox/dropped");
    fs::create_dir(&dropped).unwrap();
    let spec = format!(r#"{{"shell": "true", "secret_env": {{"KEY": "{secret}"}}}}"#);
    fs::write(dropped.join("spec.json"), spec).unwrap();
    fs::write(dropped.join("accepted"), &id).unwrap();
    let daemon = daemon.restart().await;
    assert_eq!(files_with(daemon.root(), &secret), NONE);
}

#[tokio::test]
async fn secrets_dropped_into_the_inbox_leave_it_once_they_are_taken() {
    let secret = secret();
    let daemon = Daemon::start().await;
    let drop_in = |name: &str, spec: &str| {
        let (filling, dropped) =
            (daemon.beside().join(name), daemon.root().join("inbox").join(name));
        fs::create_dir(&filling).unwrap();
        fs::write(filling.join("spec.json"), spec).unwrap();
        fs::rename(filling, &dropped).unwrap();
        dropped
    };
    let script = format!(r#""shell": "test ${{#KEY}} = {}""#, secret.len());
    let spec = format!(r#"{{{script}, "secret_env": {{"KEY": "{secret}"}}}}"#);
    let dropped = drop_in("whole", &spec);
    let read = |dropped: &Path, file: &str| fs::read_to_string(dropped.join(file)).ok();
    let id = eventually("an answer", || read(&dropped, "accepted")).await;
    assert_eq!(daemon.wait(id.trim()).await.exit_code(), Some(0));
    let gone = || files_with(daemon.root(), &secret).is_empty().then_some(());
    eventually("no file has it", gone).await;
    // A record of a job tells the names of its secrets only: it would run without them.
    let record = fs::read_to_string(daemon.folder(id.trim()).join("spec.json")).unwrap();
    let dropped = drop_in("record", &record);
    let why = eventually("an answer", || read(&dropped, "rejected")).await;
    assert!(why.contains("secret_keys") && why.contains("KEY"), "{why}");
    // What is said of a mistake does not quote it.
    let dropped = drop_in("wrong", &format!(r#"{{"shell": "true", "secret_env": "{secret}"}}"#));
    let why = eventually("an answer", || read(&dropped, "rejected")).await;
    assert!(why.contains("secret_env") && !why.contains(&secret), "{why}");
    assert!(!daemon.lines().join("\n").contains(&secret));
}

#[tokio::test]
async fn no_job_gets_what_is_meant_for_the_service() {
    let kept = [("EXTRA", "for all"), ("XDG_DATA_HOME", "/data")];
    let own = [
        ("JOBWARDEN_TOKEN", "hush"),
        ("JOBWARDEN_TOKEN_FILE", "/run/token"),
        ("JOBWARDEN_ENDPOINT", "unix:/run/j.sock"),
        ("NOTIFY_SOCKET", "/nonexistent/notify"),
        ("LISTEN_FDS", "1"),
        ("LISTEN_PID", "1"),
        ("LISTEN_FDNAMES", "api"),
        ("CREDENTIALS_DIRECTORY", "/run/credentials/x"),
        ("INVOCATION_ID", "0123"),
        ("JOURNAL_STREAM", "1:2"),
        ("WATCHDOG_USEC", "1000000"),
        ("WATCHDOG_PID", "1"),
        ("SYSTEMD_EXEC_PID", "1"),
    ];
    let env = kept.iter().chain(&own);
    let env = env.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let daemon = Daemon::start_with(Setup { env, ..Setup::default() }).await;
    for inheritance in [EnvInheritance::Minimal, EnvInheritance::All] {
        let spec = JobSpec { env_inheritance: inheritance.into(), ..argv(&["env"]) };
        let id = daemon.exec(spec).await;
        daemon.wait(&id).await;
        let text = daemon.stdout(&id).await;
        let names: Vec<&str> =
            text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        let found: Vec<_> = own.iter().filter(|(name, _)| names.contains(name)).collect();
        assert!(found.is_empty(), "{found:?}");
        let is_all = inheritance == EnvInheritance::All;
        assert!(kept.iter().all(|(name, _)| names.contains(name) == is_all), "{names:?}");
    }
}

/// A user that is not root, whoever runs the test.
const NOBODY: &str = "65534";

/// A command that runs as a user who is not root.
fn as_nobody(program: &str, arguments: &[&str]) -> Command {
    if !nix::unistd::geteuid().is_root() {
        let mut command = Command::new(program);
        command.args(arguments);
        return command;
    }
    let mut command = Command::new("setpriv");
    let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    command.args(user).arg("--clear-groups").arg(program).args(arguments);
    command
}

#[tokio::test]
async fn nobody_of_the_same_user_looks_into_the_processes_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let (program, script) = (folder.path().join("jobwarden"), folder.path().join("start"));
    let binary = env!("CARGO_BIN_EXE_jobwarden");
    let mut setup = Setup::default();
    let home = tempfile::tempdir().unwrap();
    if nix::unistd::geteuid().is_root() {
        // A service that is root is safe from others anyhow; so it becomes somebody else.
        fs::copy(binary, &program).unwrap();
        let line = format!(
            "#!/bin/sh\nexec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {} \"$@\"\n",
            program.display()
        );
        fs::write(&script, line).unwrap();
        for path in [folder.path(), &program, &script] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        chown(home.path(), Some(65534), Some(65534)).unwrap();
        setup.binary = Some(script);
    }
    setup.env = vec![("JOBWARDEN_TOKEN".to_owned(), "hush".to_owned())];
    let root = home.path().join("root");
    let daemon = Daemon::start_on(setup, root, home).await;
    let id = daemon.exec(shell("sleep 600 & wait")).await;
    daemon.started(&id).await;
    let reads = |pid: i32| {
        let path = format!("/proc/{pid}/environ");
        as_nobody("cat", &[&path]).output().unwrap().status.success()
    };
    let own = [daemon.pid(), daemon.launcher(), daemon.supervisor(&id)];
    assert_eq!(own.map(reads), [false; 3], "service, launcher, supervisor");
    // Jobs are programs like any other: they can be debugged and leave core dumps.
    let main = carriers(&format!("JOBWARDEN_JOB_ID={id}"));
    assert!(!main.is_empty() && main.into_iter().all(reads));
    daemon.delete(&id, true).await.unwrap();
}
