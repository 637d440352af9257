//! The command line's credentials: where they come from, and where they never go.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use crate::harness::{Daemon, Setup, eventually, kill_process};

const SECRET: &str = "jw_name_thesecretofthetest";

fn token_file(folder: &Path, mode: u32) -> String {
    let path = folder.join("token");
    fs::write(&path, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Puts a token into a file at once, as a careful person does.
fn hand_over(token: &str, path: &Path) {
    let new = path.with_extension("new");
    fs::write(&new, token).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}

/// What a command that must go well prints on standard output.
async fn said(daemon: &Daemon, words: &[&str]) -> String {
    let end = daemon.client(words).ended().await;
    assert_eq!(end.code, Some(0), "{words:?}: {}", String::from_utf8_lossy(&end.stderr));
    String::from_utf8(end.stdout).unwrap().trim_end().to_owned()
}

async fn new_token(daemon: &Daemon) -> String {
    let root = daemon.root().to_str().unwrap();
    let words = ["token", "create", "--root", root, "--name", "seer", "--role", "operator"];
    said(daemon, &words).await
}

async fn revoke(daemon: &Daemon, token: &str) {
    let id = token.split('_').nth(1).unwrap();
    said(daemon, &["token", "revoke", "--root", daemon.root().to_str().unwrap(), id]).await;
}

/// Processes that have `word` among their arguments.
fn processes_with(word: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has_word = |pid: &i32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    };
    pids.filter(has_word).collect()
}

#[tokio::test]
async fn a_service_that_a_command_starts_inherits_no_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let root = root.to_str().unwrap();
    // Files that need not exist: a socket of our own asks for no certificate.
    let variables = [
        ("JOBWARDEN_CA_FILE", "/nowhere/ca"),
        ("JOBWARDEN_CLIENT_CERT", "/nowhere/certificate"),
        ("JOBWARDEN_CLIENT_KEY", "/nowhere/key"),
        ("JOBWARDEN_TLS_SERVER_NAME", "nobody"),
        ("JOBWARDEN_TOKEN", SECRET),
        ("JOBWARDEN_TOKEN_FILE", "/nowhere/token"),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobwarden"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).envs(variables);
    command.env("HOME", folder.path()).env("JOBWARDEN_MAX_STREAMS", "7");
    command.args(["--root", root, "info"]).stdin(Stdio::null());
    let done = command.stdout(Stdio::null()).output().unwrap();
    let started = processes_with(root);
    let environments: Vec<String> = started
        .iter()
        .filter_map(|pid| fs::read(format!("/proc/{pid}/environ")).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect();
    for pid in started {
        kill_process(pid);
    }
    eventually("the end of the service", || processes_with(root).is_empty().then_some(())).await;
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(!told.contains("secret"), "{told}");
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped in part: what our processes inherited is hidden from all but root");
        return;
    }
    assert!(environments.len() >= 2, "service and launcher; the command said: {told}");
    for environment in &environments {
        assert!(environment.contains("JOBWARDEN_MAX_STREAMS=7"), "settings are passed on");
        for (name, value) in variables {
            let is_there = environment.contains(name) || environment.contains(value);
            assert!(!is_there, "{name} in {environment:?}");
        }
    }
}

#[tokio::test]
async fn a_token_that_others_can_read_is_refused_with_the_command_that_helps() {
    let daemon = Daemon::start().await;
    for mode in [0o644, 0o640, 0o606] {
        let file = token_file(daemon.beside(), mode);
        for (env, words) in [
            (vec![("JOBWARDEN_TOKEN_FILE", file.as_str())], vec!["list"]),
            (vec![], vec!["list", "--token-file", &file]),
        ] {
            let end = daemon.client_with(&env, &words).ended().await;
            let told = String::from_utf8_lossy(&end.stderr).into_owned();
            assert_eq!(end.code, Some(2), "{told}");
            assert!(told.contains(&format!("chmod 600 {file}")), "{told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }
}

#[tokio::test]
async fn a_token_is_not_sent_in_clear_over_a_network() {
    let daemon = Daemon::start().await;
    let file = token_file(daemon.beside(), 0o600);
    let words = ["list", "--token-file", &file];
    // Reserved for documentation: nobody answers there, and nothing may be sent to find out.
    let end = daemon.client_at("192.0.2.1:7420", &[], &words).ended().await;
    let told = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.code, Some(2), "{told}");
    assert!(told.contains("in clear") && told.contains("https://"), "{told}");
}

#[tokio::test]
async fn an_access_token_among_the_arguments_is_refused() {
    let daemon = Daemon::start().await;
    let end = daemon.client(&["watch", "--token", SECRET]).ended().await;
    let told = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.code, Some(2), "{told}");
    assert!(told.contains("--token-file") && !told.contains("secret"), "{told}");
}

#[tokio::test]
async fn a_watch_goes_on_over_a_rotated_token_and_ends_with_77_once_it_has_none() {
    let setup = Setup { needs_token: true, ..Setup::default() };
    let daemon = Daemon::start_with(setup).await;
    let path = daemon.beside().join("token");
    let file = path.to_str().unwrap();
    let mut token = new_token(&daemon).await;
    hand_over(&token, &path);
    let endpoint = daemon.tcp().to_string();
    let words = ["watch", "--json", "--token-file", file];
    let mut watch = daemon.client_at(&endpoint, &[], &words);
    watch.printed("\"snapshotEnd\":true").await;
    let job = said(&daemon, &["exec", "--", "sleep", "600"]).await;
    let mut follow =
        daemon.client_at(&endpoint, &[], &["logs", "-f", "--json", &job, "--token-file", file]);
    follow.printed("header").await;
    for _ in 0..3 {
        let new = new_token(&daemon).await;
        hand_over(&new, &path);
        revoke(&daemon, &token).await;
        token = new;
        let job = said(&daemon, &["exec", "--wait", "--", "true"]).await;
        watch.printed(&job).await;
    }
    revoke(&daemon, &token).await;
    for client in [watch, follow] {
        let end = client.ended().await;
        let told = String::from_utf8_lossy(&end.stderr);
        assert_eq!(end.code, Some(77), "{told}");
        assert!(told.contains("--token-file"), "{told}");
        assert!(!told.contains(token.rsplit('_').next().unwrap()), "{told}");
    }
    said(&daemon, &["delete", "--force", &job]).await;
}
