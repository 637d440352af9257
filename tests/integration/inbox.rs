//! The drop box: a folder renamed into it is a submission.

use std::{fs, path::PathBuf};

use jobwarden::api::{ExecRequest, JobState, ListRequest};

use crate::harness::{Daemon, JobFacts as _, eventually, shell};

/// Fills a folder beside the inbox and renames it in; where it is then.
fn drop_in(daemon: &Daemon, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let (filling, dropped) = (daemon.beside().join(name), inbox(daemon).join(name));
    fs::create_dir(&filling).unwrap();
    for (file, text) in files {
        fs::write(filling.join(file), text).unwrap();
    }
    fs::rename(filling, &dropped).unwrap();
    dropped
}

fn inbox(daemon: &Daemon) -> PathBuf {
    daemon.root().join("inbox")
}

/// The answer in a dropped folder, once it is there.
async fn answer(dropped: &std::path::Path, file: &str) -> String {
    let path = dropped.join(file);
    let what = format!("{file} in {}", dropped.display());
    eventually(&what, || fs::read_to_string(&path).ok()).await.trim_end().to_owned()
}

#[tokio::test]
async fn a_folder_renamed_in_becomes_a_job() {
    let daemon = Daemon::start().await;
    let spec =
        r#"{"shell": "cat; echo $A; exit 3", "env": {"A": "b"}, "labels": {"from": "inbox"}}"#;
    let dropped = drop_in(&daemon, "by-hand", &[("spec.json", spec), ("stdin", "in\n")]);
    let id = answer(&dropped, "accepted").await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.exit_code(), Some(3));
    assert_eq!(daemon.stdout(&id).await, "in\nb\n");
    assert_eq!(job.labels["from"], "inbox");
    assert_eq!(job.owner, format!("uid:{}", nix::unistd::getuid()));
}

#[tokio::test]
async fn the_name_of_the_folder_is_the_request_id() {
    let daemon = Daemon::start().await;
    let dropped = drop_in(&daemon, "named", &[("spec.json", r#"{"argv": ["true"]}"#)]);
    let id = answer(&dropped, "accepted").await;
    let request = |spec| ExecRequest {
        spec: Some(spec),
        request_id: "named".to_owned(),
        ..ExecRequest::default()
    };
    // Of the same user, not of anybody.
    let mut api = daemon.api_over_socket().await;
    let reply = api.exec(request(crate::harness::argv(&["true"]))).await.unwrap().into_inner();
    assert!(reply.deduplicated);
    assert_eq!(reply.job.unwrap().job_id, id);
    let other = daemon.api().exec(request(shell("false"))).await.unwrap().into_inner();
    assert!(!other.deduplicated);
}

#[tokio::test]
async fn a_folder_dropped_while_the_service_is_down_becomes_a_job() {
    let mut daemon = Daemon::start().await;
    daemon.kill();
    let spec = [("spec.json", r#"{"argv": ["echo", "late"], "timeout": "60s"}"#)];
    let dropped = drop_in(&daemon, "while-down", &spec);
    let daemon = daemon.restart().await;
    let id = answer(&dropped, "accepted").await;
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(0));
    assert_eq!(daemon.stdout(&id).await, "late\n");
}

#[tokio::test]
async fn an_answered_folder_is_not_taken_twice() {
    let daemon = Daemon::start().await;
    let dropped = drop_in(&daemon, "once", &[("spec.json", r#"{"argv": ["true"]}"#)]);
    let id = answer(&dropped, "accepted").await;
    daemon.wait(&id).await;
    daemon.delete(&id, false).await.unwrap();
    let daemon = daemon.kill_and_restart().await;
    let next = drop_in(&daemon, "next", &[("spec.json", r#"{"argv": ["true"]}"#)]);
    answer(&next, "accepted").await;
    let jobs = daemon.api().list(ListRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(jobs.len(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_spec_is_answered_line_by_line() {
    let daemon = Daemon::start().await;
    let spec = r#"{"argv": ["true"], "stop_signal": 99, "working_dir": "relative"}"#;
    let dropped = drop_in(&daemon, "invalid", &[("spec.json", spec)]);
    let why = answer(&dropped, "rejected").await;
    assert!(why.contains("stop_signal") && why.contains("working_dir"), "{why}");
    assert_eq!(why.lines().count(), 2, "{why}");
    let unknown = r#"{"argv": ["true"], "run_as": "root"}"#;
    let dropped = drop_in(&daemon, "unknown", &[("spec.json", unknown)]);
    let why = answer(&dropped, "rejected").await;
    assert!(why.contains("run_as"), "{why}");
    let jobs = daemon.api().list(ListRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(jobs.len(), 0);
}

#[tokio::test]
async fn a_name_that_cannot_be_a_request_id_is_rejected() {
    let daemon = Daemon::start().await;
    let dropped = drop_in(&daemon, "two words", &[("spec.json", r#"{"argv": ["true"]}"#)]);
    let why = answer(&dropped, "rejected").await;
    assert!(why.contains("request_id"), "{why}");
}

#[tokio::test]
async fn a_folder_that_is_still_being_filled_is_waited_for() {
    let daemon = Daemon::start().await;
    let folder = inbox(&daemon).join("slow");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("spec.json");
    fs::write(&path, r#"{"argv": ["echo","#).unwrap();
    // Another one is taken meanwhile, so the first has been looked at.
    let other = drop_in(&daemon, "other", &[("spec.json", r#"{"argv": ["true"]}"#)]);
    answer(&other, "accepted").await;
    assert!(!folder.join("rejected").exists());
    fs::write(&path, r#"{"argv": ["echo", "whole"]}"#).unwrap();
    let id = answer(&folder, "accepted").await;
    daemon.wait(&id).await;
    assert_eq!(daemon.stdout(&id).await, "whole\n");
}

#[tokio::test]
async fn a_folder_that_stays_unreadable_is_rejected() {
    let daemon = Daemon::start().await;
    let dropped = drop_in(&daemon, "half", &[("spec.json", r#"{"argv": ["echo","#)]);
    let why = answer(&dropped, "rejected").await;
    assert!(!why.is_empty());
    let empty = drop_in(&daemon, "empty", &[]);
    let why = answer(&empty, "rejected").await;
    assert!(why.contains("spec.json"), "{why}");
}

#[tokio::test]
async fn hidden_folders_files_and_links_are_left_alone() {
    let daemon = Daemon::start().await;
    let spec = r#"{"argv": ["true"]}"#;
    let hidden = drop_in(&daemon, ".hidden", &[("spec.json", spec)]);
    fs::write(inbox(&daemon).join("file"), spec).unwrap();
    let target = daemon.beside().join("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("spec.json"), spec).unwrap();
    std::os::unix::fs::symlink(&target, inbox(&daemon).join("link")).unwrap();
    let last = drop_in(&daemon, "zz-last", &[("spec.json", spec)]);
    let id = answer(&last, "accepted").await;
    let jobs = daemon.api().list(ListRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(jobs.iter().map(|job| &job.job_id).collect::<Vec<_>>(), [&id]);
    assert!(!hidden.join("accepted").exists() && !target.join("accepted").exists());
}

#[tokio::test]
async fn a_folder_that_finds_the_queue_full_is_taken_later() {
    let flags = ["--max-running-jobs", "1", "--max-queued-jobs", "1"];
    let daemon = Daemon::start_with(crate::harness::Setup::flags(&flags)).await;
    let gate = daemon.exec(shell("sleep 600")).await;
    daemon.started(&gate).await;
    let queued = daemon.exec(shell("sleep 600")).await;
    let dropped = drop_in(&daemon, "patient", &[("spec.json", r#"{"argv": ["true"]}"#)]);
    daemon.delete(&queued, true).await.unwrap();
    let id = answer(&dropped, "accepted").await;
    assert_eq!(daemon.status(&id).await.state(), JobState::Queued);
    assert!(!dropped.join("rejected").exists());
    daemon.delete(&gate, true).await.unwrap();
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(0));
}

#[tokio::test]
async fn input_is_taken_up_to_the_most_that_the_service_takes() {
    let flags = ["--max-stdin-bytes", "4"];
    let daemon = Daemon::start_with(crate::harness::Setup::flags(&flags)).await;
    let spec = r#"{"argv": ["cat"]}"#;
    for (name, stdin) in [("one-more", "12345"), ("many-more", &"1".repeat(1 << 20))] {
        let dropped = drop_in(&daemon, name, &[("spec.json", spec), ("stdin", stdin)]);
        let why = answer(&dropped, "rejected").await;
        assert_eq!(why, "spec.stdin: has more than 4 bytes, the most that are taken");
    }
    let dropped = drop_in(&daemon, "as-many", &[("spec.json", spec), ("stdin", "1234")]);
    let id = answer(&dropped, "accepted").await;
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(0));
    assert_eq!(daemon.stdout(&id).await, "1234");
}
