//! Resuming a watch: nothing is missed and nothing comes twice, whatever happened in between.

use std::fs;

use jobwarden::api::{
    EventType, JobEvent, JobFilter, OnExpired, UpdateLabelsRequest, WatchEventsRequest, WatchStart,
    watch_events_response::Kind,
};
use tonic::Code;

use crate::harness::{
    Daemon, JobFacts as _, Refused, Setup, Watching, argv, eventually, is_alive, pairs, shell,
};

async fn open(daemon: &Daemon, request: WatchEventsRequest) -> Watching {
    Watching::open(daemon, request).await.expect("it may be watched")
}

async fn resume(daemon: &Daemon, token: &str) -> Watching {
    let resume_token = token.to_owned();
    open(daemon, WatchEventsRequest { resume_token, ..WatchEventsRequest::default() }).await
}

fn id_of(event: &JobEvent) -> &str {
    &event.job.as_ref().expect("an event has the job").job_id
}

fn kinds(events: &[JobEvent]) -> Vec<EventType> {
    events.iter().map(JobEvent::r#type).collect()
}

const LIFE: [EventType; 3] = [EventType::Created, EventType::Started, EventType::Ended];

#[tokio::test]
async fn a_token_is_good_after_a_crash_and_after_a_restart() {
    let daemon = Daemon::start().await;
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    watch.snapshot().await;
    let token = watch.token.clone();
    let first = daemon.run(shell("exit 3")).await;
    let daemon = daemon.kill_and_restart().await;
    let second = daemon.run(argv(&["true"])).await;
    let mut daemon = daemon;
    daemon.terminate();
    daemon.ended().await;
    let daemon = daemon.restart().await;
    let third = daemon.run(argv(&["true"])).await;

    let mut watch = resume(&daemon, &token).await;
    let events = watch.up_to(EventType::Ended, &third.job_id).await;
    assert_eq!(kinds(&events), [LIFE, LIFE, LIFE].concat());
    let ids: Vec<_> = events.iter().map(id_of).collect();
    let expected = [&first, &second, &third].map(|job| job.job_id.as_str());
    assert_eq!(ids, expected.map(|id| [id; 3]).concat());
    assert!(events.is_sorted_by(|a, b| a.sequence < b.sequence));
    let end = events[2].job.as_ref().unwrap();
    assert_eq!(*end, daemon.status(&first.job_id).await, "what is read back is whole");
}

#[tokio::test]
async fn what_jobs_did_while_no_service_ran_is_told_by_the_next() {
    let mut daemon = Daemon::start().await;
    let script = "until [ -e go ]; do sleep 0.02; done; exit 5";
    let running = daemon.exec(shell(script)).await;
    let pid = daemon.started(&running).await.pid;
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    watch.snapshot().await;
    daemon.kill();
    fs::write(daemon.beside().join("go"), "").unwrap();
    eventually("the job has ended", || (!is_alive(pid)).then_some(())).await;
    let daemon = daemon.restart().await;
    let mut watch = resume(&daemon, &watch.token).await;
    let end = watch.event().await;
    assert_eq!((end.r#type(), id_of(&end)), (EventType::Ended, running.as_str()));
    assert_eq!(end.job.unwrap().exit_code(), Some(5));
}

#[tokio::test]
async fn a_job_that_was_removed_by_hand_while_no_service_ran_is_told_as_deleted() {
    let mut daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let queued = daemon.exec(argv(&["true"])).await;
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    watch.snapshot().await;
    let folder = daemon.folder(&queued);
    daemon.kill();
    fs::remove_dir_all(folder).unwrap();
    let daemon = daemon.restart().await;
    let mut watch = resume(&daemon, &watch.token).await;
    let event = watch.event().await;
    assert_eq!((event.r#type(), id_of(&event)), (EventType::Deleted, queued.as_str()));
    daemon.delete(&gate, true).await.unwrap();
}

#[tokio::test]
async fn an_ended_job_that_was_removed_by_hand_while_no_service_ran_is_told_as_deleted() {
    let mut daemon = Daemon::start().await;
    let id = daemon.run(argv(&["true"])).await.job_id;
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    watch.snapshot().await;
    let folder = daemon.folder(&id);
    daemon.kill();
    fs::remove_dir_all(folder).unwrap();
    let daemon = daemon.restart().await.kill_and_restart().await;
    let last = daemon.run(argv(&["true"])).await.job_id;
    let mut watch = resume(&daemon, &watch.token).await;
    let events = watch.up_to(EventType::Ended, &last).await;
    assert_eq!(kinds(&events), [[EventType::Deleted].as_slice(), &LIFE].concat());
    assert_eq!(id_of(&events[0]), id);
}

#[tokio::test]
async fn deletions_and_labels_of_ended_jobs_come_once_across_crashes() {
    let daemon = Daemon::start().await;
    let job = daemon.run(argv(&["true"])).await;
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    watch.snapshot().await;
    let set = pairs([("a", "b")]);
    let request =
        UpdateLabelsRequest { job_id: job.job_id.clone(), set, ..UpdateLabelsRequest::default() };
    daemon.api().update_labels(request).await.unwrap();
    let daemon = daemon.kill_and_restart().await;
    daemon.delete(&job.job_id, false).await.unwrap();
    let daemon = daemon.kill_and_restart().await;
    let last = daemon.run(argv(&["true"])).await;
    let mut watch = resume(&daemon, &watch.token).await;
    let events = watch.up_to(EventType::Ended, &last.job_id).await;
    let expected = [[EventType::Updated, EventType::Deleted].as_slice(), &LIFE].concat();
    assert_eq!(kinds(&events), expected);
    assert_eq!(events[0].job.as_ref().unwrap().labels["a"], "b");
    let gone = events[1].job.as_ref().unwrap();
    assert!(gone.spec.is_none() && gone.revision > 0, "only id and revision: {gone:?}");
}

#[tokio::test]
async fn the_history_of_deleted_jobs_is_still_told() {
    let daemon = Daemon::start().await;
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    watch.snapshot().await;
    let long = format!("exit 4 #{}", "x".repeat(20_000));
    let job = daemon.run(shell(&long)).await;
    daemon.delete(&job.job_id, false).await.unwrap();
    let daemon = daemon.kill_and_restart().await;
    let mut watch = resume(&daemon, &watch.token).await;
    let events = watch.up_to(EventType::Deleted, &job.job_id).await;
    assert_eq!(kinds(&events), [LIFE.as_slice(), &[EventType::Deleted]].concat());
    assert_eq!(events[2].job.as_ref().unwrap().exit_code(), Some(4));
}

#[tokio::test]
async fn a_cut_snapshot_goes_on_where_it_was() {
    let daemon = Daemon::start().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(daemon.run(argv(&["true"])).await.job_id);
    }
    ids.reverse();
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(id_of(&watch.event().await).to_owned());
    }
    let daemon = daemon.kill_and_restart().await;
    let later = daemon.run(argv(&["true"])).await.job_id;
    let mut watch = resume(&daemon, &watch.token).await;
    seen.extend(watch.snapshot().await.iter().map(|event| id_of(event).to_owned()));
    assert_eq!(seen, ids);
    assert_eq!(kinds(&watch.up_to(EventType::Ended, &later).await), LIFE);
}

#[tokio::test]
async fn a_watch_that_begins_now_can_be_resumed_before_its_first_message() {
    let daemon = Daemon::start().await;
    let start = WatchStart::Now.into();
    let request = WatchEventsRequest { start, ..WatchEventsRequest::default() };
    let opened = daemon.api().watch_events(request).await.unwrap();
    let token = opened.metadata().get("jobwarden-resume-token").unwrap().to_str().unwrap();
    let job = daemon.run(argv(&["true"])).await;
    let daemon = daemon.kill_and_restart().await;
    let mut watch = resume(&daemon, token).await;
    assert_eq!(kinds(&watch.up_to(EventType::Ended, &job.job_id).await), LIFE);
}

#[tokio::test]
async fn a_token_whose_history_is_gone_fails_before_any_event_or_brings_a_new_snapshot() {
    let daemon = Daemon::start_with(Setup::flags(&["--journal-max-events", "16"])).await;
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    watch.snapshot().await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(daemon.run(argv(&["true"])).await.job_id);
    }
    let daemon = daemon.kill_and_restart().await;
    let resume_token = watch.token.clone();
    let request = WatchEventsRequest { resume_token, ..WatchEventsRequest::default() };
    let refused = Watching::open(&daemon, request.clone()).await;
    let error = Refused::from(refused.err().expect("no event comes first"));
    assert_eq!(error.kind(), (Code::OutOfRange, "TOKEN_EXPIRED"));
    let oldest = error.metadata["oldest_token"].clone();
    let events = resume(&daemon, &oldest).await.up_to(EventType::Ended, &ids[9]).await;
    assert!(events.len() >= 12, "some history is kept: {events:?}");

    let on_expired = OnExpired::Resnapshot.into();
    let request = WatchEventsRequest { on_expired, ..request };
    let answer = daemon.api().watch_events(request.clone()).await.unwrap();
    let begin = answer.metadata().get("jobwarden-resume-token").unwrap();
    assert_eq!(begin.to_str().unwrap(), request.resume_token, "a cut one gets the reset again");
    let mut watch = open(&daemon, request).await;
    assert!(matches!(watch.next().await, Ok(Some(Kind::Reset(reset))) if !reset.reason.is_empty()));
    ids.reverse();
    let snapshot = watch.snapshot().await;
    assert_eq!(snapshot.iter().map(id_of).collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn traffic_that_is_filtered_out_moves_the_token() {
    let daemon = Daemon::start_with(Setup::flags(&["--journal-max-events", "16"])).await;
    let labels = pairs([("mine", "yes")]);
    let filter = Some(JobFilter { labels, ..JobFilter::default() });
    let request = WatchEventsRequest { filter, ..WatchEventsRequest::default() };
    let mut watch = open(&daemon, request).await;
    watch.snapshot().await;
    let old = watch.token.clone();
    for _ in 0..10 {
        daemon.run(argv(&["true"])).await;
    }
    assert!(matches!(watch.next().await, Ok(Some(Kind::Bookmark(it))) if !it.snapshot_end));
    let request = WatchEventsRequest { resume_token: old, ..WatchEventsRequest::default() };
    assert!(Watching::open(&daemon, request).await.is_err(), "the old one has expired");
    let daemon = daemon.kill_and_restart().await;
    let job = daemon.run(argv(&["true"])).await;
    let mut watch = resume(&daemon, &watch.token).await;
    watch.up_to(EventType::Ended, &job.job_id).await;
}
