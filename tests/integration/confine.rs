//! How jobs are confined: whom they run as, what they may not gain or use.
//!
//! Running as another user needs a test that runs as root; elsewhere those tests say that they
//! looked at nothing.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use jobwarden::api::{EnvInheritance, JobSpec, LaunchError};

use crate::harness::{
    Daemon, JobFacts as _, STRANGER, Setup, argv, carriers, daemon_as, eventually, is_root,
    kill_process, pairs, prints, serve_to_end, set_mode, shell, started_by, status_of,
};

/// A group of the service that its jobs are not in.
const OF_SERVICE: u32 = 61_299;

async fn launch_error(daemon: &Daemon, spec: JobSpec) -> LaunchError {
    let job = daemon.run(spec).await;
    job.launch_error.clone().unwrap_or_else(|| panic!("it was started: {job:?}"))
}

#[tokio::test]
async fn a_job_is_the_user_in_all_its_groups_and_keeps_no_right_of_root() {
    if !is_root("run_as") {
        return;
    }
    let daemon = daemon_as(STRANGER, &[]).await;
    assert_eq!(status_of(&daemon, "Uid").await, "61234 61234 61234 61234");
    assert_eq!(status_of(&daemon, "Gid").await, "61235 61235 61235 61235");
    assert_eq!(status_of(&daemon, "Groups").await, "61235");
    for field in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_of(&daemon, field).await, "0".repeat(16), "{field}");
    }
    let job = daemon.run(shell("cat /etc/shadow")).await;
    assert_ne!(job.exit_code(), Some(0));
}

#[tokio::test]
async fn a_user_of_the_database_brings_its_groups_its_name_and_its_home() {
    if !is_root("run_as of a known user") {
        return;
    }
    let daemon = daemon_as("daemon", &[]).await;
    let user = nix::unistd::User::from_name("daemon").unwrap().expect("every system has it");
    let home = user.dir.to_str().unwrap();
    for inheritance in [EnvInheritance::Minimal, EnvInheritance::All] {
        let spec = JobSpec {
            env_inheritance: inheritance.into(),
            ..shell("echo $HOME $USER $LOGNAME $(pwd)")
        };
        assert_eq!(prints(&daemon, spec).await, format!("{home} daemon daemon {home}\n"));
    }
    let groups = std::process::Command::new("id").args(["-G", "daemon"]).output().unwrap();
    assert_eq!(prints(&daemon, argv(&["id", "-G"])).await.as_bytes(), groups.stdout);
}

#[tokio::test]
async fn output_and_input_can_be_opened_again_by_their_names() {
    if !is_root("run_as with /dev/stdout") {
        return;
    }
    let daemon = daemon_as(STRANGER, &[]).await;
    let script = "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin; cat < /dev/stdin";
    let spec = JobSpec { stdin: b"in\n".to_vec(), ..shell(script) };
    let id = daemon.exec(spec).await;
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(0));
    assert_eq!(daemon.stdout(&id).await, "out\nin\nin\n");
    // What is stored stays the service's, and no job writes it.
    for file in ["stdout.log", "spec.json", "state.jsonl", "stdin"] {
        let found = fs::metadata(daemon.folder(&id).join(file)).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o137), (0, 0), "{file}");
    }
    let spec = JobSpec { stdin: b"in\n".to_vec(), ..shell("echo more >> /dev/stdin") };
    assert_ne!(daemon.run(spec).await.exit_code(), Some(0));
}

#[tokio::test]
async fn a_directory_or_a_program_that_the_user_may_not_enter_or_run_is_refused() {
    if !is_root("run_as with closed folders") {
        return;
    }
    let daemon = daemon_as(STRANGER, &[]).await;
    let closed = daemon.beside().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::copy("/bin/true", closed.join("true")).unwrap();
    set_mode(&closed, 0o700);
    let path = closed.to_str().unwrap().to_owned();
    let error = launch_error(&daemon, JobSpec { working_dir: path.clone(), ..shell("true") }).await;
    assert_eq!((error.stage.as_str(), error.errno_name.as_str()), ("working_dir", "EACCES"));
    let error = launch_error(&daemon, argv(&[&format!("{path}/true")])).await;
    assert_eq!((error.stage.as_str(), error.errno_name.as_str()), ("exec", "EACCES"));
}

#[tokio::test]
async fn a_file_of_variables_is_read_with_the_rights_of_the_user() {
    if !is_root("run_as with env_files") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    set_mode(home.path(), 0o755);
    // A service with a group of its own, which is not the job's.
    let binary = Some(started_by(home.path(), &format!("setpriv --groups=0,{OF_SERVICE}")));
    let setup = Setup { binary, ..Setup::flags(&["--run-as", STRANGER]) };
    let root = home.path().join("root");
    let daemon = Daemon::start_on(setup, root, home).await;
    let file = daemon.beside().join("variables");
    fs::write(&file, "A=1\n").unwrap();
    let spec =
        || JobSpec { env_files: vec![file.to_str().unwrap().to_owned()], ..shell("echo $A") };
    // Neither the owner, nor its group, nor the rights of root beyond permissions.
    for (mode, gid) in [(0o600, 0), (0o640, 0), (0o640, OF_SERVICE)] {
        std::os::unix::fs::chown(&file, None, Some(gid)).unwrap();
        set_mode(&file, mode);
        let error = launch_error(&daemon, spec()).await;
        assert_eq!((error.stage.as_str(), error.errno_name.as_str()), ("env_file", "EACCES"));
    }
    set_mode(&file, 0o644);
    assert_eq!(prints(&daemon, spec()).await, "1\n");
    std::os::unix::fs::chown(&file, None, Some(61235)).unwrap();
    set_mode(&file, 0o640);
    assert_eq!(prints(&daemon, spec()).await, "1\n");
    assert_eq!(status_of(&daemon, "Groups").await, "61235");
}

#[tokio::test]
async fn a_job_of_another_user_is_cancelled_with_its_whole_tree_also_by_an_heir() {
    if !is_root("run_as and killing") {
        return;
    }
    let daemon = daemon_as(STRANGER, &[]).await;
    let script = "trap '' TERM; (trap '' TERM; sleep 600) & (setsid sleep 600 &) ; sleep 600";
    for is_adopted in [false, true] {
        let id = daemon.exec(shell(script)).await;
        daemon.started(&id).await;
        let own = format!("JOBWARDEN_JOB_ID={id}");
        eventually("the whole tree", || (carriers(&own).len() >= 4).then_some(())).await;
        if is_adopted {
            let old = daemon.supervisor(&id);
            kill_process(old);
            let other = || daemon.supervisor_if_any(&id).filter(|supervisor| *supervisor != old);
            eventually("another supervisor", other).await;
        }
        daemon.delete(&id, true).await.unwrap();
        eventually("nothing is left", || carriers(&own).is_empty().then_some(())).await;
    }
}

#[tokio::test]
async fn whom_a_job_runs_as_is_settled_when_it_is_accepted() {
    if !is_root("run_as and restarts") {
        return;
    }
    let daemon = daemon_as(STRANGER, &["--max-running-jobs", "1"]).await;
    let gate = daemon.exec(shell("sleep 600")).await;
    daemon.started(&gate).await;
    let id = daemon.exec(argv(&["id", "-u"])).await;
    let mut daemon = daemon.kill_and_restart().await;
    // A service that confines less does not loosen what was accepted before.
    daemon.setup.flags = Vec::new();
    let daemon = daemon.kill_and_restart().await;
    daemon.cancel(&gate).await;
    daemon.wait(&id).await;
    assert_eq!(daemon.stdout(&id).await, "61234\n");
    assert_eq!(prints(&daemon, argv(&["id", "-u"])).await, "0\n");
}

#[tokio::test]
async fn a_user_that_jobs_cannot_run_as_keeps_the_service_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let root = root.to_str().unwrap();
    for user in ["no-such-user", "4294967295:0", "61234", "0:no-such-group"] {
        let (code, text) = serve_to_end(&["--root", root, "--run-as", user]).await;
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("run_as") && text.contains(user), "{text}");
        assert!(!Path::new(root).exists(), "a wrong setting leaves nothing behind");
    }
}

#[tokio::test]
async fn jobs_gain_no_rights_unless_that_is_allowed() {
    let daemon = Daemon::start().await;
    assert_eq!(status_of(&daemon, "NoNewPrivs").await, "1");
    let daemon = Daemon::start_with(Setup::flags(&["--no-new-privs", "false"])).await;
    assert_eq!(status_of(&daemon, "NoNewPrivs").await, "0");
}

#[tokio::test]
async fn a_program_with_the_set_user_id_bit_runs_as_the_user_of_the_job() {
    if !is_root("set-user-ID programs") {
        return;
    }
    for (allowed, uid) in [("true", "61234\n"), ("false", "0\n")] {
        let daemon = daemon_as(STRANGER, &["--no-new-privs", allowed]).await;
        let program = daemon.beside().join("id");
        fs::copy("/usr/bin/id", &program).unwrap();
        set_mode(&program, 0o4755);
        let shown = prints(&daemon, argv(&[program.to_str().unwrap(), "-u"])).await;
        if shown != uid && allowed == "false" {
            eprintln!("not looked at: the file system of {} has no such bit", program.display());
            return;
        }
        assert_eq!(shown, uid, "no_new_privs = {allowed}");
    }
}

#[tokio::test]
async fn files_of_jobs_have_the_permissions_that_the_umask_leaves() {
    let umask = |daemon: Daemon| async move { prints(&daemon, shell("umask")).await };
    assert_eq!(umask(Daemon::start().await).await.trim(), "0022");
    let daemon = Daemon::start_with(Setup::flags(&["--umask", "077"])).await;
    assert_eq!(umask(daemon).await.trim(), "0077");
}

#[tokio::test]
async fn limits_hold_softly_and_firmly_and_what_is_not_limited_stays() {
    let before = Daemon::start().await;
    let core = prints(&before, shell("ulimit -H -c; ulimit -S -c")).await;
    let own = |which: &str| {
        let script = format!("ulimit {which} -c");
        let shown = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8(shown.stdout).unwrap()
    };
    assert_eq!(core, own("-H") + &own("-S"), "the limit on core dumps is not ours to change");
    let flags = ["--rlimits", "nofile=64", "--rlimits", "fsize=1KiB", "--rlimits", "core=0"];
    let daemon = Daemon::start_with(Setup::flags(&flags)).await;
    let script = "ulimit -S -n; ulimit -H -n; ulimit -S -c; ulimit -H -c";
    assert_eq!(prints(&daemon, shell(script)).await, "64\n64\n0\n0\n");
    let file = daemon.beside().join("large");
    let script = format!("head -c 4096 /dev/zero > {}", file.display());
    assert_ne!(daemon.run(shell(&script)).await.exit_code(), Some(0));
    assert_eq!(fs::metadata(file).unwrap().len(), 1024);
}

#[tokio::test]
async fn no_caller_chooses_how_a_job_is_confined() {
    let daemon = Daemon::start_with(Setup::flags(&["--umask", "077"])).await;
    // A whole record that claims rules of its own: only its spec counts.
    let record = r#"{"version": 1, "confinement": {"umask": "000"}, "spec": {"shell": "umask"}}"#;
    let filling = daemon.beside().join("filling");
    fs::create_dir(&filling).unwrap();
    fs::write(filling.join("spec.json"), record).unwrap();
    let dropped = daemon.root().join("inbox/claims");
    fs::rename(filling, &dropped).unwrap();
    let id = eventually("an answer", || fs::read_to_string(dropped.join("accepted")).ok()).await;
    let id = id.trim();
    daemon.wait(id).await;
    assert_eq!(daemon.stdout(id).await.trim(), "0077");
    let spec = JobSpec { env: pairs([("JOBWARDEN_RUN_AS", "root")]), ..shell("true") };
    assert!(daemon.try_exec(spec).await.is_err());
}
