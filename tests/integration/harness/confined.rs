//! Services whose jobs are confined, and what only root can see of that.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use jobwarden::api::JobSpec;

use super::{Daemon, JobFacts as _, Setup, shell};

/// A user and a group that no account has: what they may is what everybody may.
pub(crate) const STRANGER: &str = "61234:61235";

/// Whether this test runs as root; says what is not looked at if it does not.
pub(crate) fn is_root(promise: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("not looked at, since this test does not run as root: {promise}");
    }
    is_root
}

/// A service whose jobs run as `user`, and the folder beside its root open to everybody.
pub(crate) async fn daemon_as(user: &str, flags: &[&str]) -> Daemon {
    let flags = [&["--run-as", user], flags].concat();
    let daemon = Daemon::start_with(Setup::flags(&flags)).await;
    set_mode(daemon.beside(), 0o755);
    daemon
}

/// Sets the permissions of a file or a folder.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What a script prints that must succeed.
pub(crate) async fn prints(daemon: &Daemon, spec: JobSpec) -> String {
    let id = daemon.exec(spec).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.exit_code(), Some(0), "{job:?} {:?}", daemon.output(&id).await);
    daemon.stdout(&id).await
}

/// A field of the status of a job's own process.
pub(crate) async fn status_of(daemon: &Daemon, field: &str) -> String {
    let script = format!("sed -n 's/^{field}:[[:space:]]*//p' /proc/self/status");
    prints(daemon, shell(&script)).await.trim().replace('\t', " ")
}

/// A script in `folder` that executes our program by way of `wrapper`, a command with its options.
pub(crate) fn started_by(folder: &Path, wrapper: &str) -> PathBuf {
    let script = folder.join("start");
    let binary = env!("CARGO_BIN_EXE_jobwarden");
    fs::write(&script, format!("#!/bin/sh\nexec {wrapper} {binary} \"$@\"\n")).unwrap();
    set_mode(&script, 0o755);
    script
}
