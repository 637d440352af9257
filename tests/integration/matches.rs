//! Patterns in the output of a job: what is found stands in the job's folder.

use jobwarden::api::{JobSpec, LogStream, OutputMatch};
use serde_json::Value;
use tonic::Code;

use crate::harness::{Daemon, JobFacts as _, argv, eventually, refused, shell};

fn pattern(name: &str, pattern: &str) -> OutputMatch {
    OutputMatch { name: name.to_owned(), pattern: pattern.to_owned(), ..OutputMatch::default() }
}

/// The lines of the file of matches; none while there is no file.
fn recorded(daemon: &Daemon, id: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(daemon.folder(id).join("matches.jsonl"));
    text.unwrap_or_default().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn told(line: &Value) -> (&str, &str, u64, u64, &str) {
    let text = |name: &str| line[name].as_str().unwrap();
    let count = |name: &str| line[name].as_u64().unwrap();
    (text("name"), text("stream"), count("offset"), count("end_offset"), text("text"))
}

#[tokio::test]
async fn what_a_job_prints_is_matched_and_recorded_with_its_place() {
    let daemon = Daemon::start().await;
    let literal = OutputMatch { literal: true, ..pattern("text", "a.c") };
    let only_err =
        OutputMatch { stream: LogStream::Stderr.into(), ..pattern("error", "^error .*$") };
    let once = OutputMatch { once: true, ..pattern("once", "[0-9]+") };
    let spec = JobSpec {
        output_matches: vec![literal, only_err, once],
        ..shell("echo abc a.c 12 34; echo error in stdout; sleep 0.2; echo error 7 >&2")
    };
    let id = daemon.exec(spec).await;
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(0));
    let lines = recorded(&daemon, &id);
    let expected = [
        ("text", "stdout", 4, 7, "a.c"),
        ("once", "stdout", 8, 10, "12"),
        ("error", "stderr", 0, 7, "error 7"),
    ];
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
    let numbers: Vec<_> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn a_prompt_without_a_newline_is_noticed_while_the_job_waits() {
    let daemon = Daemon::start().await;
    let spec = JobSpec {
        output_matches: vec![pattern("prompt", "word: $")],
        ..shell("printf 'password: '; sleep 600")
    };
    let id = daemon.exec(spec).await;
    let lines = eventually("the match of the prompt", || {
        Some(recorded(&daemon, &id)).filter(|lines| !lines.is_empty())
    })
    .await;
    assert_eq!(told(&lines[0]), ("prompt", "stdout", 4, 10, "word: "));
    daemon.delete(&id, true).await.unwrap();
}

#[tokio::test]
async fn a_job_whose_patterns_match_nothing_has_no_file_of_matches() {
    let daemon = Daemon::start().await;
    let spec = JobSpec { output_matches: vec![pattern("never", "xyz")], ..argv(&["echo", "abc"]) };
    let id = daemon.exec(spec).await;
    daemon.wait(&id).await;
    assert!(!daemon.folder(&id).join("matches.jsonl").exists());
    assert_eq!(daemon.status(&id).await.spec.unwrap().output_matches[0].name, "never");
}

#[tokio::test]
async fn a_pattern_that_cannot_be_used_is_refused_at_its_field() {
    let daemon = Daemon::start().await;
    let output_matches = vec![pattern("ok", "a"), pattern("a b", "a"), pattern("big", "(a")];
    let error = refused(daemon.try_exec(JobSpec { output_matches, ..argv(&["true"]) }).await);
    assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"));
    let fields = ["spec.output_matches[1].name", "spec.output_matches[2].pattern"];
    assert_eq!(error.fields, fields);
}
