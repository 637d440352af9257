//! What the command line prints of jobs: it is shown, and nothing in it steers the terminal.

use jobwarden::api::JobSpec;

use crate::harness::{ClientEnd, Daemon, Setup, argv};

/// Clears a screen in two ways, forges a line, goes back over it and turns the reading around.
const BAD: &str = "bad\u{1b}[2J\u{9b}2J\n0 succeeded forged\r\u{8}\u{7f}\u{202e}\u{2066}end";

/// Fails if `bytes` hold anything but shown characters and ends of lines.
#[track_caller]
fn assert_harmless(what: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("it is text");
    let steers = |character: char| {
        (character.is_control() && character != '\n')
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(steers), "{what}: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("0 succeeded")), "{what}: {text:?}");
}

async fn shown(daemon: &Daemon, words: &[&str]) -> ClientEnd {
    let end = daemon.client(words).ended().await;
    assert_harmless(&format!("{words:?} on stdout"), &end.stdout);
    assert_harmless(&format!("{words:?} on stderr"), &end.stderr);
    end
}

/// Whether the words of the job were shown at all.
fn tells_of_it(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).contains("forged")
}

#[tokio::test]
async fn nothing_in_a_job_steers_the_terminal_of_whoever_looks_at_it() {
    let daemon = Daemon::start().await;
    let ended = daemon.run(argv(&["sh", "-c", "exit 3", BAD])).await.job_id;
    let broken = daemon.run(argv(&[BAD])).await.job_id;
    let named = JobSpec { display_name: "a\u{202e}b".to_owned(), ..argv(&["sleep", "600"]) };
    let named = daemon.exec(named).await;
    daemon.started(&named).await;
    shown(&daemon, &["cancel", "--reason", BAD, "--grace", "0", &named]).await;
    daemon.wait(&named).await;

    for words in [
        &["status", &ended] as &[&str],
        &["status", &broken],
        &["status", &named],
        &["list"],
        &["status", "--json", &ended],
        &["list", "--json"],
    ] {
        assert!(tells_of_it(&shown(&daemon, words).await.stdout), "{words:?}");
    }
    shown(&daemon, &["wait", &broken]).await;
    shown(&daemon, &["wait", &named]).await;
}

#[tokio::test]
async fn nothing_in_an_event_steers_the_terminal_of_whoever_watches() {
    let daemon = Daemon::start().await;
    daemon.run(argv(&["sh", "-c", "exit 3", BAD])).await;
    for words in [&["watch"] as &[&str], &["watch", "--json"]] {
        let mut watch = daemon.client(words);
        watch.printed("forged").await;
        assert_harmless("watch", &watch.stdout());
    }
}

#[tokio::test]
async fn nothing_in_an_error_steers_the_terminal_of_whoever_made_it() {
    let daemon = Daemon::start().await;
    let end = shown(&daemon, &["status", BAD]).await;
    assert!(tells_of_it(&end.stderr), "{:?}", String::from_utf8_lossy(&end.stderr));
    assert!(end.stdout.is_empty() && end.code == Some(2), "{:?}", end.code);
    shown(&daemon, &["exec", "--name", BAD, "--", "true"]).await;
    shown(&daemon, &["exec", "--label", &format!("a={BAD}"), "--", "true"]).await;
}

#[tokio::test]
async fn nothing_in_a_mistaken_command_line_steers_the_terminal() {
    let daemon = Daemon::start().await;
    let flag = format!("--{BAD}");
    for words in [
        &["exec", "--timeout", BAD, "--", "true"] as &[&str],
        &[BAD],
        &["list", &flag],
        &["token", "create", "--name", "a", "--role", BAD],
    ] {
        let end = shown(&daemon, words).await;
        assert!(tells_of_it(&end.stderr), "{:?}", String::from_utf8_lossy(&end.stderr));
        assert!(end.stdout.is_empty() && end.code == Some(2), "{words:?}: {:?}", end.code);
    }
    let end = shown(&daemon, &["exec", "--name", BAD, "--help"]).await;
    assert!(end.stderr.is_empty() && !end.stdout.is_empty() && end.code == Some(0));
}

#[tokio::test]
async fn nothing_in_the_path_of_the_root_steers_the_terminal_of_who_starts_the_service() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root\u{1b}[2J\u{202e}");
    let daemon = Daemon::start_on(Setup::default(), root, home).await;
    let lines = daemon.lines().join("\n");
    assert!(lines.contains("listening on unix:") && lines.contains("root\\u{1b}[2J"), "{lines}");
    assert_harmless("the service", lines.as_bytes());
}
