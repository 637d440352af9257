//! The command line over the death of the service: whoever follows sees one unbroken output.

use std::{fs, ops::RangeInclusive};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jobwarden::api::{EventType, JobEvent, WatchEventsRequest};
use serde_json::Value;

use crate::harness::{Daemon, Watching, argv, eventually, shell};

/// Output before and after a time at which the service may be away, cut in the middle of a line.
const IN_TWO_PARTS: &str = "echo one; printf 'half a '; until [ -e go ]; do sleep 0.02; done; \
    echo line; echo error >&2; seq 3000; printf '\\377end'; exit 7";

fn two_parts() -> Vec<u8> {
    let mut expected = b"one\nhalf a line\n".to_vec();
    expected.extend(seq(1..=3000));
    expected.extend(b"\xffend");
    expected
}

/// What `seq` prints.
fn seq(numbers: RangeInclusive<u32>) -> Vec<u8> {
    numbers.flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

/// Asserts that two long outputs are the same, without showing them.
#[track_caller]
fn assert_same(brought: &[u8], expected: &[u8]) {
    let sizes = (brought.len(), expected.len());
    let differs = brought.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!((sizes.0, differs), (sizes.1, None), "bytes, and the first that differs");
}

/// Lets a job that waits for it go on.
fn open_gate(daemon: &Daemon) {
    fs::write(daemon.beside().join("go"), "").expect("a file can be made");
}

/// Output that goes on for about a second and a half.
const FOR_A_WHILE: &str = "i=0; while [ $i -lt 30 ]; do seq $i $((i + 2000)); echo e$i >&2; \
    sleep 0.04; i=$((i + 1)); done; exit 5";

#[tokio::test]
async fn logs_that_are_followed_go_on_after_the_service_was_killed() {
    let mut daemon = Daemon::start().await;
    let id = daemon.exec(shell(IN_TWO_PARTS)).await;
    let mut client = daemon.client(&["logs", "-f", &id]);
    client.printed("half a ").await;
    daemon.kill();
    // The rest is written while there is nobody to ask for it.
    open_gate(&daemon);
    let _daemon = daemon.restart().await;
    let end = client.ended().await;
    assert_same(&end.stdout, &two_parts());
    assert_eq!(String::from_utf8_lossy(&end.stderr), "error\n");
    assert_eq!(end.code, Some(0));
}

#[tokio::test]
async fn logs_in_full_flow_are_whole_after_three_kills() {
    let mut daemon = Daemon::start().await;
    let id = daemon.exec(shell(FOR_A_WHILE)).await;
    let mut client = daemon.client(&["logs", "-f", &id]);
    // The last number of a round, alone on its line, is the mark that output has come so far.
    for mark in ["\n2003\n", "\n2010\n", "\n2017\n"] {
        client.printed(mark).await;
        daemon = daemon.kill_and_restart().await;
    }
    let end = client.ended().await;
    assert_same(&end.stdout, &fs::read(daemon.folder(&id).join("stdout.log")).unwrap());
    assert_same(&end.stderr, &fs::read(daemon.folder(&id).join("stderr.log")).unwrap());
    assert!(end.stdout.ends_with(b"\n2029\n") && end.stderr.ends_with(b"\ne29\n"));
    assert_eq!(end.code, Some(0));
}

#[tokio::test]
async fn exec_that_follows_ends_as_its_job_does_after_the_service_was_killed() {
    let mut daemon = Daemon::start().await;
    let mut client = daemon.client(&["exec", "--follow", "--", "sh", "-c", IN_TWO_PARTS]);
    client.printed("half a ").await;
    daemon.kill();
    open_gate(&daemon);
    let _daemon = daemon.restart().await;
    let end = client.ended().await;
    assert_same(&end.stdout, &two_parts());
    assert_eq!(String::from_utf8_lossy(&end.stderr), "error\n");
    assert_eq!(end.code, Some(7));
}

#[tokio::test]
async fn exec_that_follows_outlives_a_drain_and_a_kill() {
    let mut daemon = Daemon::start().await;
    let mut client = daemon.client(&["exec", "--follow", "--", "sh", "-c", FOR_A_WHILE]);
    client.printed("\n2003\n").await;
    daemon.terminate();
    daemon.ended().await;
    daemon = daemon.restart().await;
    client.printed("\n2012\n").await;
    let _daemon = daemon.kill_and_restart().await;
    let end = client.ended().await;
    let expected: Vec<u8> = (0..30).flat_map(|round| seq(round..=round + 2000)).collect();
    assert_same(&end.stdout, &expected);
    let errors: Vec<u8> = (0..30).flat_map(|round| format!("e{round}\n").into_bytes()).collect();
    assert_same(&end.stderr, &errors);
    assert_eq!(end.code, Some(5));
}

#[tokio::test]
async fn exec_that_follows_tells_the_signal_of_a_job_that_died_without_a_service() {
    let mut daemon = Daemon::start().await;
    let script = "echo on; until [ -e go ]; do sleep 0.02; done; kill -TERM $$";
    let mut client = daemon.client(&["exec", "--follow", "--", "sh", "-c", script]);
    client.printed("on\n").await;
    daemon.kill();
    open_gate(&daemon);
    let _daemon = daemon.restart().await;
    let end = client.ended().await;
    assert_eq!(end.stdout, b"on\n");
    assert_eq!(end.code, Some(128 + 15), "{}", String::from_utf8_lossy(&end.stderr));
}

/// The whole lines that a client has printed, as JSON.
fn lines(stdout: &[u8]) -> Vec<Value> {
    let end = stdout.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let lines = stdout[..end].split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| serde_json::from_slice(line).expect("each line is JSON")).collect()
}

/// Sequence, type and job of an event, as both forms tell them.
type Told = (u64, String, String);

fn told(line: &Value) -> Option<Told> {
    let event = line.get("event")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let sequence = text(&event["sequence"]).parse().expect("an event has a number");
    Some((sequence, text(&event["type"]), text(&event["job"]["jobId"])))
}

fn known(event: &JobEvent) -> Told {
    let id = event.job.as_ref().expect("an event has the job").job_id.clone();
    (event.sequence, event.r#type().as_str_name().to_owned(), id)
}

#[tokio::test]
async fn a_watch_tells_each_event_once_over_kills_and_a_drain() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client(&["watch", "--json"]);
    client.printed("\"snapshotEnd\":true").await;
    let first = lines(&client.stdout()).remove(0);
    let resume_token = first["resumeToken"].as_str().expect("each line has a token").to_owned();
    daemon.run(argv(&["true"])).await;
    let over_a_kill = daemon.exec(shell("until [ -e go ]; do sleep 0.02; done; exit 3")).await;
    daemon.started(&over_a_kill).await;
    let mut daemon = daemon;
    daemon.kill();
    open_gate(&daemon);
    let mut daemon = daemon.restart().await;
    daemon.wait(&over_a_kill).await;
    daemon.terminate();
    daemon.ended().await;
    let daemon = daemon.restart().await;
    daemon.run(argv(&["false"])).await;
    let daemon = daemon.kill_and_restart().await;
    let last = daemon.run(argv(&["true"])).await.job_id;

    let request = WatchEventsRequest { resume_token, ..WatchEventsRequest::default() };
    let mut watch = Watching::open(&daemon, request).await.unwrap();
    let truth: Vec<Told> = watch.up_to(EventType::Ended, &last).await.iter().map(known).collect();
    assert!(truth.len() >= 12, "four lives: {truth:?}");
    let (sequence, ..) = truth.last().unwrap();
    client.printed(&format!("\"sequence\":\"{sequence}\"")).await;
    let shown: Vec<Told> = lines(&client.stdout()).iter().filter_map(told).collect();
    assert_eq!(shown, truth);
}

/// The bytes of standard output that the lines of a watch bring, each at its offset.
fn stdout_in(lines: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let logs = lines.iter().filter_map(|line| line["event"]["log"]["chunks"].as_array());
    for chunk in logs.flatten().filter(|chunk| chunk["stream"] == "LOG_STREAM_STDOUT") {
        let offset = chunk["offset"].as_str().unwrap_or("0").parse::<usize>().unwrap();
        assert_eq!(offset, bytes.len(), "each byte once, in order");
        bytes.extend(BASE64_STANDARD.decode(chunk["data"].as_str().unwrap()).unwrap());
    }
    bytes
}

#[tokio::test]
async fn a_watch_with_output_brings_each_byte_once_over_kills() {
    let mut daemon = Daemon::start().await;
    let mut client = daemon.client(&["watch", "--json", "--logs"]);
    client.printed("\"snapshotEnd\":true").await;
    let id = daemon.exec(shell(FOR_A_WHILE)).await;
    for size in [30_000, 120_000] {
        eventually("output in a watch", || {
            (stdout_in(&lines(&client.stdout())).len() >= size).then_some(())
        })
        .await;
        daemon = daemon.kill_and_restart().await;
    }
    client.printed("EVENT_TYPE_ENDED").await;
    let brought = stdout_in(&lines(&client.stdout()));
    let kept = fs::read(daemon.folder(&id).join("stdout.log")).unwrap();
    assert_same(&brought, &kept);
}
