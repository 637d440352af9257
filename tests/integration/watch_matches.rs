//! Events of matches in output: what matched is told once, in its place, whatever happens to the service.

use std::fs;

use jobwarden::api::{
    EventType, JobEvent, JobSpec, LogStream, OutputMatch, OutputMatched, WatchEventsRequest,
};

use crate::harness::{Daemon, JobFacts as _, Watching, eventually, is_alive, shell};

fn pattern(name: &str, pattern: &str) -> OutputMatch {
    OutputMatch { name: name.to_owned(), pattern: pattern.to_owned(), ..OutputMatch::default() }
}

fn found(name: &str, stream: LogStream, offset: u64, text: &str) -> OutputMatched {
    OutputMatched {
        name: name.to_owned(),
        stream: stream.into(),
        offset,
        end_offset: offset + text.len() as u64,
        text: text.to_owned(),
    }
}

async fn open(daemon: &Daemon, request: WatchEventsRequest) -> Watching {
    Watching::open(daemon, request).await.expect("it may be watched")
}

async fn from_here(daemon: &Daemon) -> Watching {
    let mut watch = open(daemon, WatchEventsRequest::default()).await;
    watch.snapshot().await;
    watch
}

async fn resume(daemon: &Daemon, token: &str) -> Watching {
    let resume_token = token.to_owned();
    open(daemon, WatchEventsRequest { resume_token, ..WatchEventsRequest::default() }).await
}

fn matches(events: &[JobEvent]) -> Vec<OutputMatched> {
    events.iter().filter_map(|event| event.r#match.clone()).collect()
}

fn kinds(events: &[JobEvent]) -> Vec<EventType> {
    events.iter().map(JobEvent::r#type).collect()
}

#[tokio::test]
async fn a_match_is_told_before_the_end_with_its_place_and_its_text() {
    let daemon = Daemon::start().await;
    let mut watch = from_here(&daemon).await;
    let literal = OutputMatch { literal: true, ..pattern("text", "a.c") };
    let only_err =
        OutputMatch { stream: LogStream::Stderr.into(), ..pattern("error", "^error .*$") };
    let spec = JobSpec {
        output_matches: vec![literal, only_err],
        ..shell("echo abc a.c; echo error 1; sleep 0.2; echo error 7 >&2; exit 3")
    };
    let id = daemon.exec(spec).await;
    let events = watch.up_to(EventType::Ended, &id).await;
    let expected = [
        EventType::Created,
        EventType::Started,
        EventType::OutputMatched,
        EventType::OutputMatched,
        EventType::Ended,
    ];
    assert_eq!(kinds(&events), expected);
    let expected = [
        found("text", LogStream::Stdout, 4, "a.c"),
        found("error", LogStream::Stderr, 0, "error 7"),
    ];
    assert_eq!(matches(&events), expected);
    assert!(events.is_sorted_by(|a, b| a.sequence < b.sequence));
    for event in &events {
        assert_eq!(event.job.as_ref().map(|job| job.job_id.as_str()), Some(id.as_str()));
        assert!(event.time.is_some());
    }
}

#[tokio::test]
async fn a_prompt_is_told_while_the_job_waits_for_its_answer() {
    let daemon = Daemon::start().await;
    let event_types = vec![EventType::OutputMatched.into()];
    let mut watch =
        open(&daemon, WatchEventsRequest { event_types, ..WatchEventsRequest::default() }).await;
    watch.snapshot().await;
    let spec = JobSpec {
        output_matches: vec![pattern("prompt", "word: $")],
        ..shell("printf 'password: '; exec sleep 600")
    };
    let id = daemon.exec(spec).await;
    let event = watch.event().await;
    assert_eq!(event.r#type(), EventType::OutputMatched);
    assert_eq!(event.r#match, Some(found("prompt", LogStream::Stdout, 4, "word: ")));
    assert!(daemon.status(&id).await.end_time.is_none());
    daemon.delete(&id, true).await.unwrap();
}

#[tokio::test]
async fn a_match_is_told_once_also_when_it_came_while_no_service_ran() {
    let mut daemon = Daemon::start().await;
    let begin = from_here(&daemon).await.token;
    let spec = JobSpec {
        output_matches: vec![pattern("number", "[0-9]+")],
        ..shell("echo 11; until [ -e go ]; do sleep 0.02; done; echo 22; exit 4")
    };
    let id = daemon.exec(spec).await;
    let pid = daemon.started(&id).await.pid;
    let mut watch = resume(&daemon, &begin).await;
    let before = watch.up_to(EventType::OutputMatched, &id).await;
    daemon.kill();
    fs::write(daemon.beside().join("go"), "").unwrap();
    eventually("the job has ended", || (!is_alive(pid)).then_some(())).await;
    let daemon = daemon.restart().await;
    let after = resume(&daemon, &watch.token).await.up_to(EventType::Ended, &id).await;
    assert_eq!(kinds(&after), [EventType::OutputMatched, EventType::Ended]);
    assert_eq!(matches(&after), [found("number", LogStream::Stdout, 3, "22")]);
    assert_eq!(after[1].job.as_ref().unwrap().exit_code(), Some(4));

    // Who has seen nothing yet is told the same, and the next service tells nothing anew.
    let daemon = daemon.kill_and_restart().await;
    let all = resume(&daemon, &begin).await.up_to(EventType::Ended, &id).await;
    let sequences =
        |events: &[JobEvent]| -> Vec<u64> { events.iter().map(|event| event.sequence).collect() };
    assert_eq!(sequences(&all), [sequences(&before), sequences(&after)].concat());
    assert_eq!(matches(&all), [matches(&before), matches(&after)].concat());
    let later = daemon.run(shell("true")).await.job_id;
    let mut watch = resume(&daemon, &begin).await;
    let events = watch.up_to(EventType::Ended, &later).await;
    assert_eq!(matches(&events), matches(&all));
}

#[tokio::test]
async fn matches_that_come_while_the_service_dies_again_and_again_come_once() {
    let mut daemon = Daemon::start().await;
    let begin = from_here(&daemon).await.token;
    let spec = JobSpec {
        output_matches: vec![pattern("line", "line [0-9]+$")],
        ..shell("i=100; while [ $i -lt 200 ]; do echo line $i; sleep 0.01; i=$((i + 1)); done")
    };
    let id = daemon.exec(spec).await;
    let mut watch = resume(&daemon, &begin).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(watch.up_to(EventType::OutputMatched, &id).await);
        daemon = daemon.kill_and_restart().await;
        watch = resume(&daemon, &watch.token).await;
    }
    seen.extend(watch.up_to(EventType::Ended, &id).await);
    let expected: Vec<_> = (0..100)
        .map(|line| found("line", LogStream::Stdout, line * 9, &format!("line {}", line + 100)))
        .collect();
    assert_eq!(matches(&seen), expected);
    assert!(seen.is_sorted_by(|a, b| a.sequence < b.sequence));
}

#[tokio::test]
async fn a_pattern_that_is_wanted_once_is_told_once_over_streams_and_services() {
    let daemon = Daemon::start().await;
    let mut watch = from_here(&daemon).await;
    let once = OutputMatch { once: true, ..pattern("once", "[0-9]+") };
    let spec = JobSpec {
        output_matches: vec![once, pattern("every", "[0-9]+")],
        ..shell("echo 1; until [ -e go ]; do sleep 0.02; done; echo 2; sleep 0.2; echo 3 >&2")
    };
    let id = daemon.exec(spec).await;
    let mut events = watch.up_to(EventType::OutputMatched, &id).await;
    let daemon = daemon.kill_and_restart().await;
    fs::write(daemon.beside().join("go"), "").unwrap();
    events.extend(resume(&daemon, &watch.token).await.up_to(EventType::Ended, &id).await);
    let of = |name: &str| {
        let mut found = matches(&events);
        found.retain(|found| found.name == name);
        found
    };
    assert_eq!(of("once"), [found("once", LogStream::Stdout, 0, "1")]);
    let expected = [
        found("every", LogStream::Stdout, 0, "1"),
        found("every", LogStream::Stdout, 2, "2"),
        found("every", LogStream::Stderr, 0, "3"),
    ];
    assert_eq!(of("every"), expected);
}
