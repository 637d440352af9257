//! What rights a service of root has itself, and that its jobs are none the poorer for it.
//!
//! Each of these needs a test that runs as root; elsewhere they say that they looked at nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jobwarden::api::{EndCause, JobState};

use crate::harness::{
    Daemon, JobFacts as _, STRANGER, Setup, argv, eventually, is_root, kill_process, set_mode,
    shell, started_by, status_of,
};

/// The numbers of capabilities that a service of root keeps (capabilities(7)).
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_NET_BIND_SERVICE: u32 = 10;

/// A field of `/proc/PID/status` of each thread of a process that holds a set of capabilities.
fn capability_sets(pid: i32, field: &str) -> Vec<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let set = |thread: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).ok()?;
        let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":"));
        Some(u64::from_str_radix(value.unwrap().trim(), 16).unwrap())
    };
    threads.filter_map(set).collect()
}

/// Whether what this test starts may gain rights by executing programs: where not, a service keeps
/// them for its launcher.
fn may_gain_rights() -> bool {
    let values = capability_sets(std::process::id().cast_signed(), "NoNewPrivs");
    values.iter().all(|value| *value == 0)
}

#[tokio::test]
async fn a_service_of_root_gives_up_what_its_jobs_keep() {
    if !is_root("the capabilities of a service") {
        return;
    }
    let daemon = Daemon::start().await;
    let own = capability_sets(std::process::id().cast_signed(), "CapEff")[0];
    let kept = own & (1 << CAP_DAC_OVERRIDE);
    if own == kept {
        eprintln!("not looked at, since this test has no rights to see given up");
        return;
    }
    let given = || async { u64::from_str_radix(&status_of(&daemon, "CapEff").await, 16).unwrap() };
    assert_eq!(given().await, own);
    let fields = if may_gain_rights() { vec!["CapEff", "CapPrm"] } else { vec!["CapEff"] };
    for field in fields {
        let sets = capability_sets(daemon.pid(), field);
        assert!(sets.len() > 4 && sets.iter().all(|set| *set == kept), "{field} {sets:x?}");
    }
    // Another launcher is started by a service that has them no more.
    let old = daemon.launcher();
    kill_process(old);
    eventually("another launcher", || daemon.launcher_if_any().filter(|new| *new != old)).await;
    assert_eq!(given().await, own);
}

#[tokio::test]
async fn a_service_that_may_gain_no_rights_still_starts_jobs_as_another_user() {
    if !is_root("the capabilities of a service that may gain none") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    set_mode(home.path(), 0o755);
    let binary = Some(started_by(home.path(), "setpriv --no-new-privs"));
    let setup = Setup { binary, ..Setup::flags(&["--run-as", STRANGER]) };
    let root = home.path().join("root");
    let daemon = Daemon::start_on(setup, root, home).await;
    let sets = capability_sets(daemon.pid(), "CapEff");
    assert!(sets.iter().all(|set| set & !(1 << CAP_DAC_OVERRIDE) == 0), "{sets:x?}");
    for _ in 0..2 {
        assert_eq!(status_of(&daemon, "Uid").await, "61234 61234 61234 61234");
        assert_eq!(status_of(&daemon, "CapPrm").await, "0".repeat(16));
        let old = daemon.launcher();
        kill_process(old);
        eventually("another launcher", || daemon.launcher_if_any().filter(|new| *new != old)).await;
    }
}

/// Ends by SIGKILL alone.
const STUBBORN: &str = "trap '' TERM; echo on; while :; do sleep 0.05; done";

/// Mounts a `/proc` that hides processes, for what is executed next alone.
const HIDING: &str = "unshare --mount sh -c \
    'mount -t proc -o hidepid=invisible,gid=61236 proc /proc && exec \"$0\" \"$@\"'";

/// Whether this machine lets a test execute something that way; says so if it does not.
fn can_be_done(wrapper: &str) -> bool {
    let tried = std::process::Command::new("sh").args(["-c", &format!("{wrapper} true")]).output();
    let can = tried.unwrap().status.success();
    if !can {
        eprintln!("not looked at, since it cannot be done here: {wrapper}");
    }
    can
}

#[tokio::test]
async fn jobs_are_stopped_where_proc_hides_processes_too() {
    if !is_root("a /proc that hides processes") {
        return;
    }
    // With the right to see them all the same, and without.
    for wrapper in [HIDING.to_owned(), format!("setpriv --bounding-set -sys_ptrace {HIDING}")] {
        if !can_be_done(&wrapper) {
            continue;
        }
        let home = tempfile::tempdir().unwrap();
        let binary = Some(started_by(home.path(), &wrapper));
        let root = home.path().join("root");
        let daemon = Daemon::start_on(Setup { binary, ..Setup::default() }, root, home).await;
        let ids = [daemon.exec(argv(&["sleep", "600"])).await, daemon.exec(shell(STUBBORN)).await];
        daemon.started(&ids[0]).await;
        daemon.printed(&ids[1], "on\n").await;
        daemon.cancel(&ids[0]).await;
        assert!(daemon.kill_job(&ids[1], 9).await.delivered, "{wrapper}");
        assert_eq!(daemon.wait(&ids[0]).await.how(), (JobState::Cancelled, EndCause::Cancelled));
        assert_eq!(daemon.wait(&ids[1]).await.signal(), Some(9));
    }
}

#[test]
fn a_service_of_root_that_lacks_a_right_for_run_as_does_not_start() {
    if !is_root("run_as without all rights of root") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for (options, named) in [
        (["--bounding-set", "-kill"], "CAP_KILL"),
        (["--bounding-set", "-chown"], "CAP_CHOWN"),
        (["--securebits", "+noroot"], "SECBIT_NOROOT"),
    ] {
        if !can_be_done(&format!("setpriv {}", options.join(" "))) {
            continue;
        }
        let mut command = std::process::Command::new("timeout");
        command.args(["20", "setpriv"]).args(options).arg(env!("CARGO_BIN_EXE_jobwarden"));
        let done = command.args(["serve", "--run-as", STRANGER, "--root"]).arg(&root).output();
        let done = done.unwrap();
        let text = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{text}");
        assert!(text.contains(named) && text.contains("run_as"), "{text}");
        assert!(!root.exists(), "a wrong setting leaves nothing behind");
    }
}

#[tokio::test]
async fn a_service_of_root_listens_on_a_port_below_1024_and_keeps_the_right_to() {
    if !is_root("ports below 1024") {
        return;
    }
    let own = capability_sets(std::process::id().cast_signed(), "CapEff")[0];
    if own & (1 << CAP_NET_BIND_SERVICE) == 0 {
        eprintln!("not looked at, since this test may not listen on such a port");
        return;
    }
    // An address of this machine that nobody else is likely to use.
    let address = format!("127.77.{}.1:1023", std::process::id() % 250);
    let daemon = Daemon::start_with(Setup::flags(&["--listen", &address])).await;
    let listens = || daemon.lines().iter().any(|line| *line == format!("listening on {address}"));
    eventually("it listens", || listens().then_some(())).await;
    let kept = own & ((1 << CAP_DAC_OVERRIDE) | (1 << CAP_NET_BIND_SERVICE));
    let sets = capability_sets(daemon.pid(), "CapEff");
    assert!(sets.iter().all(|set| *set == kept), "{sets:x?}");
}

/// Drops a folder of this mode into the inbox that belongs to another user with all in it.
fn drop_as_another(daemon: &Daemon, name: &str, mode: u32, spec: &str) -> PathBuf {
    let filling = daemon.beside().join(name);
    fs::create_dir(&filling).unwrap();
    let path = filling.join("spec.json");
    fs::write(&path, spec).unwrap();
    set_mode(&path, 0o600);
    set_mode(&filling, mode);
    for path in [&path, &filling] {
        std::os::unix::fs::chown(path, Some(61234), Some(61235)).unwrap();
    }
    let dropped = daemon.root().join("inbox").join(name);
    fs::rename(filling, &dropped).unwrap();
    dropped
}

#[tokio::test]
async fn a_service_of_root_takes_and_answers_what_another_user_dropped() {
    if !is_root("a folder of another user in the inbox of root") {
        return;
    }
    let daemon = Daemon::start().await;
    let spec = r#"{"version": 1, "spec": {"argv": ["true"]}}"#;
    let dropped = drop_as_another(&daemon, "of-another", 0o700, spec);
    let id = eventually("an answer", || fs::read_to_string(dropped.join("accepted")).ok()).await;
    let job = daemon.wait(id.trim()).await;
    assert_eq!((job.exit_code(), job.owner.as_str()), (Some(0), "uid:61234"));
}

#[tokio::test]
async fn secrets_leave_a_folder_in_which_a_service_of_root_may_remove_nothing() {
    if !is_root("secrets in a sticky folder of another user in the inbox of root") {
        return;
    }
    let mut daemon = Daemon::start().await;
    let spec = r#"{"argv": ["true"], "secret_env": {"KEY": "hush-hush"}}"#;
    let dropped = drop_as_another(&daemon, "sticky", 0o1755, spec);
    let has_secret = |folder: &Path| {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let texts: Vec<_> = files.map(|file| fs::read_to_string(file).unwrap()).collect();
        texts.iter().any(|text| text.contains("hush-hush"))
    };
    eventually("an answer", || fs::read_to_string(dropped.join("accepted")).ok()).await;
    eventually("the secret is gone", || (!has_secret(&dropped)).then_some(())).await;
    assert_eq!(fs::read_to_string(dropped.join("spec.json")).unwrap(), "");

    // As a crash between the answer and that leaves it, in two folders.
    daemon.kill();
    let left = ["left-1", "left-2"].map(|name| {
        let dropped = drop_as_another(&daemon, name, 0o1755, spec);
        fs::write(dropped.join("accepted"), "").unwrap();
        dropped
    });
    let _daemon = daemon.restart().await;
    assert!(!left.iter().any(|dropped| has_secret(dropped)));
}
