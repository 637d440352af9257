//! The variables that a job sees, and those that nobody else may see.

use std::{collections::BTreeMap, fs, path::Path};

use jobwarden::api::{EndCause, EnvInheritance, JobSpec, JobState};

use crate::harness::{Daemon, JobFacts as _, Setup, pairs, shell};

const SECRET: &str = "s3cr3t-of-the-test";

/// A service with variables of its own, some of them nobody's business.
async fn daemon() -> Daemon {
    let env = [
        ("USER", "tester"),
        ("LANG", "C.UTF-8"),
        ("TZ", "Europe/Paris"),
        ("TMPDIR", "/tmp"),
        ("EXTRA", "of the service"),
        ("JOBWARDEN_MAX_WAIT", "30m"),
        ("JOBWARDEN_TOKEN", "a-credential"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Daemon::start_with(Setup { env, ..Setup::default() }).await
}

/// What `env` prints in a job, without what the shell itself sets.
async fn variables(daemon: &Daemon, spec: JobSpec) -> BTreeMap<String, String> {
    let id = daemon.exec(JobSpec { argv: vec!["env".to_owned()], ..spec }).await;
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(0));
    let text = daemon.stdout(&id).await;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let mut found: BTreeMap<String, String> =
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(found.remove("JOBWARDEN_JOB_ID"), Some(id));
    assert_eq!(found.remove("JOBWARDEN_ATTEMPT").as_deref(), Some("1"));
    found
}

fn write(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_minimal_environment_holds_the_named_variables_only() {
    let daemon = daemon().await;
    for inheritance in [EnvInheritance::Unspecified, EnvInheritance::Minimal] {
        let spec = JobSpec { env_inheritance: inheritance.into(), ..JobSpec::default() };
        let found = variables(&daemon, spec).await;
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["HOME", "LANG", "PATH", "TMPDIR", "TZ", "USER"]);
        assert_eq!(found["TZ"], "Europe/Paris");
    }
}

#[tokio::test]
async fn the_whole_environment_is_without_the_services_own_variables() {
    let daemon = daemon().await;
    let spec = JobSpec { env_inheritance: EnvInheritance::All.into(), ..JobSpec::default() };
    let found = variables(&daemon, spec).await;
    assert_eq!(found["EXTRA"], "of the service");
    assert!(!found.keys().any(|name| name.starts_with("JOBWARDEN_")), "{found:?}");
}

#[tokio::test]
async fn files_of_variables_are_read_in_order_and_the_spec_wins() {
    let daemon = daemon().await;
    let first = write(&daemon.beside().join("first"), "# note\nA=1\nB=1\nC=1\nTZ=UTC\n");
    let second = write(&daemon.beside().join("second"), "B=2\nC=2\n\nD=a b = c");
    let spec = JobSpec {
        env_files: vec![first, second],
        env: pairs([("C", "3"), ("E", "")]),
        ..JobSpec::default()
    };
    let found = variables(&daemon, spec).await;
    let of = |name: &str| found.get(name).map(String::as_str);
    assert_eq!([of("A"), of("B"), of("C")], [Some("1"), Some("2"), Some("3")]);
    assert_eq!([of("D"), of("E"), of("TZ")], [Some("a b = c"), Some(""), Some("UTC")]);
}

#[tokio::test]
async fn a_file_of_variables_is_read_when_the_job_starts() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(shell("sleep 600")).await;
    daemon.started(&gate).await;
    let file = write(&daemon.beside().join("file"), "A=before\n");
    let spec = JobSpec { env_files: vec![file], ..shell("echo $A") };
    let id = daemon.exec(spec).await;
    write(&daemon.beside().join("file"), "A=after\n");
    daemon.cancel(&gate).await;
    daemon.wait(&id).await;
    assert_eq!(daemon.stdout(&id).await, "after\n");
}

#[tokio::test]
async fn a_missing_file_of_variables_fails_the_launch_and_is_named() {
    let daemon = Daemon::start().await;
    let spec = JobSpec { env_files: vec!["/nonexistent/env".to_owned()], ..shell("true") };
    let job = daemon.run(spec).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::LaunchFailed));
    let error = job.launch_error.unwrap();
    assert_eq!((error.stage.as_str(), error.errno), ("env_file", 2));
    assert_eq!(error.errno_name, "ENOENT");
    assert!(job.message.contains("/nonexistent/env"), "{}", job.message);
}

#[tokio::test]
async fn a_bad_line_of_a_file_of_variables_is_named() {
    let daemon = Daemon::start().await;
    let file = write(&daemon.beside().join("file"), "A=1\nno pair\n");
    let job = daemon.run(JobSpec { env_files: vec![file], ..shell("true") }).await;
    assert_eq!(job.launch_error.unwrap().stage, "env_file");
    assert!(job.message.contains("line 2"), "{}", job.message);
}

#[tokio::test]
async fn a_secret_reaches_the_process_and_no_reply() {
    let daemon = daemon().await;
    let spec = JobSpec {
        secret_env: pairs([("KEY", SECRET)]),
        ..shell(&format!("test \"$KEY\" = {SECRET}x || test ${{#KEY}} = {}", SECRET.len()))
    };
    // The script itself must not hold the value either.
    let spec = JobSpec { shell: spec.shell.replace(SECRET, "other"), ..spec };
    let id = daemon.exec(spec).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.exit_code(), Some(0));
    assert!(job.spec.as_ref().unwrap().secret_env.values().all(String::is_empty));
    assert!(!format!("{job:?}").contains(SECRET));
    assert!(!daemon.lines().join("\n").contains(SECRET));
}

#[tokio::test]
async fn no_file_of_the_store_holds_a_secret_once_the_job_has_started() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(shell("sleep 600")).await;
    daemon.started(&gate).await;
    let spec = JobSpec { secret_env: pairs([("KEY", SECRET)]), ..shell("exec sleep 600") };
    let id = daemon.exec(spec).await;
    // Until then one file has it, and only the user may read that.
    let kept = daemon.folder(&id).join("secret.json");
    assert_eq!(holders(daemon.root()), [kept.to_str().unwrap()]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&kept).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    daemon.cancel(&gate).await;
    daemon.started(&id).await;
    assert_eq!(holders(daemon.root()), [""; 0]);
    daemon.delete(&id, true).await.unwrap();
}

#[tokio::test]
async fn the_secret_of_a_job_that_never_starts_goes_with_its_end() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(shell("sleep 600")).await;
    daemon.started(&gate).await;
    let id = daemon.exec(JobSpec { secret_env: pairs([("KEY", SECRET)]), ..shell("true") }).await;
    daemon.cancel(&id).await;
    assert_eq!(daemon.status(&id).await.state(), JobState::Cancelled);
    assert_eq!(holders(daemon.root()), [""; 0]);
    daemon.delete(&gate, true).await.unwrap();
}

/// The files below `folder` that hold the secret.
fn holders(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                if bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
                    found.push(entry.path().to_str().unwrap().to_owned());
                }
            }
        }
    }
    found
}
