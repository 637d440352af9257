//! `WatchEvents`: a snapshot, a bookmark, then what happens.

use std::collections::HashMap;

use jobwarden::api::{
    EventType, ExecRequest, JobEvent, JobFilter, JobSpec, JobState, OnExpired, UpdateLabelsRequest,
    WatchEventsRequest, WatchStart, watch_events_response::Kind,
};
use tonic::Code;

use crate::harness::{Daemon, JobFacts as _, Refused, Watching, argv, pairs, seconds, shell};

async fn open(daemon: &Daemon, request: WatchEventsRequest) -> Watching {
    Watching::open(daemon, request).await.expect("it may be watched")
}

fn id_of(event: &JobEvent) -> &str {
    &event.job.as_ref().expect("an event has the job").job_id
}

fn kinds(events: &[JobEvent]) -> Vec<EventType> {
    events.iter().map(JobEvent::r#type).collect()
}

#[tokio::test]
async fn an_empty_store_is_a_bookmark() {
    let daemon = Daemon::start().await;
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    assert_eq!(watch.snapshot().await.len(), 0);
}

#[tokio::test]
async fn the_snapshot_shows_every_job_as_it_is() {
    let daemon = Daemon::start().await;
    let ended = daemon.run(shell("exit 3")).await;
    let running = daemon.exec(argv(&["sleep", "600"])).await;
    let running = daemon.started(&running).await;
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    let snapshot = watch.snapshot().await;
    assert!(kinds(&snapshot).iter().all(|kind| *kind == EventType::Snapshot));
    let jobs: HashMap<_, _> = snapshot.iter().map(|event| (id_of(event), event)).collect();
    assert_eq!(jobs.len(), 2);
    assert_eq!(jobs[&*ended.job_id].job, Some(ended.clone()));
    let shown = jobs[&*running.job_id].job.as_ref().unwrap();
    assert!(shown.revision >= running.revision);
    daemon.delete(&running.job_id, true).await.unwrap();
}

#[tokio::test]
async fn every_transition_of_a_job_comes_in_order_and_whole() {
    let daemon = Daemon::start().await;
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    watch.snapshot().await;
    let id = daemon.exec(shell("echo on; exit 3")).await;
    let events = watch.up_to(EventType::Ended, &id).await;
    let expected = [EventType::Created, EventType::Started, EventType::Ended];
    assert_eq!(kinds(&events), expected);
    let befores: Vec<_> = events.iter().map(JobEvent::previous_state).collect();
    assert_eq!(befores, [JobState::Unspecified, JobState::Queued, JobState::Running]);
    assert!(events.is_sorted_by(|a, b| a.sequence < b.sequence));
    let revisions = events.iter().map(|event| event.job.as_ref().unwrap().revision);
    assert!(revisions.is_sorted());
    let last = events.last().unwrap().job.as_ref().unwrap();
    assert_eq!(last.exit_code(), Some(3));
    assert!(last.stdout.as_ref().unwrap().complete);
    assert_eq!(std::fs::read(&last.stdout.as_ref().unwrap().path).unwrap(), b"on\n");
    assert_eq!(last, &daemon.status(&id).await);
}

#[tokio::test]
async fn many_jobs_at_once_lose_no_event() {
    let daemon = Daemon::start().await;
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    watch.snapshot().await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(daemon.exec(argv(&["true"])).await);
    }
    let mut seen: HashMap<String, Vec<EventType>> = HashMap::new();
    let (mut ended, mut last_sequence) = (0, 0);
    while ended < ids.len() {
        let event = watch.event().await;
        assert!(event.sequence > last_sequence);
        last_sequence = event.sequence;
        ended += usize::from(event.r#type() == EventType::Ended);
        seen.entry(id_of(&event).to_owned()).or_default().push(event.r#type());
    }
    for id in &ids {
        assert_eq!(seen[id], [EventType::Created, EventType::Started, EventType::Ended]);
    }
}

#[tokio::test]
async fn changes_and_removals_are_told() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&id).await;
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    watch.snapshot().await;
    let set = pairs([("a", "1")]);
    let request = UpdateLabelsRequest { job_id: id.clone(), set: set.clone(), remove: vec![] };
    daemon.api().update_labels(request).await.unwrap();
    let updated = watch.up_to(EventType::Updated, &id).await.pop().unwrap();
    assert_eq!(updated.job.unwrap().labels, set);
    daemon.delete(&id, true).await.unwrap();
    let events = watch.up_to(EventType::Deleted, &id).await;
    assert!(kinds(&events).contains(&EventType::Ended));
    let deleted = events.last().unwrap().job.as_ref().unwrap();
    assert_eq!((deleted.spec.as_ref(), deleted.state()), (None, JobState::Unspecified));
    assert!(deleted.revision > 0);
}

#[tokio::test]
async fn a_marker_dropped_by_hand_and_a_folder_in_the_inbox_are_told() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&id).await;
    let now = WatchEventsRequest { start: WatchStart::Now.into(), ..Default::default() };
    let mut watch = open(&daemon, now).await;
    std::fs::write(daemon.folder(&id).join("cancel"), "").unwrap();
    let ended = watch.up_to(EventType::Ended, &id).await.pop().unwrap();
    assert_eq!(ended.job.unwrap().state(), JobState::Cancelled);
    let folder = daemon.beside().join("dropped");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("spec.json"), r#"{"argv": ["true"]}"#).unwrap();
    std::fs::rename(&folder, daemon.root().join("inbox/dropped")).unwrap();
    let created = watch.event().await;
    assert_eq!(created.r#type(), EventType::Created);
    let created_id = id_of(&created).to_owned();
    watch.up_to(EventType::Ended, &created_id).await;
}

#[tokio::test]
async fn a_token_continues_without_gap_or_repeat() {
    let daemon = Daemon::start().await;
    let mut whole = open(&daemon, WatchEventsRequest::default()).await;
    whole.snapshot().await;
    let beginning = whole.token.clone();
    let mut last = String::new();
    for _ in 0..4 {
        last = daemon.exec(argv(&["true"])).await;
        daemon.wait(&last).await;
    }
    let expected = whole.up_to(EventType::Ended, &last).await;
    // Cut after every event, continue with its token.
    let mut token = beginning;
    let mut events = Vec::new();
    while events.len() < expected.len() {
        let request = WatchEventsRequest { resume_token: token, ..Default::default() };
        let mut watch = open(&daemon, request).await;
        events.push(watch.event().await);
        token = watch.token;
    }
    assert_eq!(events, expected);
}

#[tokio::test]
async fn a_watch_from_now_has_no_snapshot() {
    let daemon = Daemon::start().await;
    daemon.run(argv(&["true"])).await;
    let now = WatchEventsRequest { start: WatchStart::Now.into(), ..Default::default() };
    let mut watch = open(&daemon, now).await;
    let id = daemon.exec(argv(&["true"])).await;
    let first = watch.event().await;
    assert_eq!((first.r#type(), id_of(&first)), (EventType::Created, id.as_str()));
}

#[tokio::test]
async fn a_filter_and_a_choice_of_types_hold_for_snapshot_and_events() {
    let daemon = Daemon::start().await;
    let labelled = |team| JobSpec { labels: pairs([("team", team)]), ..argv(&["true"]) };
    let red = daemon.run(labelled("red")).await.job_id;
    daemon.run(labelled("blue")).await;
    let filter = JobFilter { labels: pairs([("team", "red")]), ..JobFilter::default() };
    let request = WatchEventsRequest { filter: Some(filter), ..WatchEventsRequest::default() };
    let mut watch = open(&daemon, request.clone()).await;
    let snapshot = watch.snapshot().await;
    assert_eq!(snapshot.iter().map(id_of).collect::<Vec<_>>(), [&red]);
    let event_types = vec![EventType::Ended.into()];
    let mut ends = open(&daemon, WatchEventsRequest { event_types, ..request }).await;
    assert_eq!(ends.snapshot().await.len(), 0);
    daemon.run(labelled("blue")).await;
    let id = daemon.exec(labelled("red")).await;
    let events = watch.up_to(EventType::Ended, &id).await;
    assert!(events.iter().all(|event| id_of(event) == id), "{events:?}");
    let end = ends.event().await;
    assert_eq!((end.r#type(), id_of(&end)), (EventType::Ended, id.as_str()));
}

#[tokio::test]
async fn a_token_of_another_store_and_one_that_is_none_are_refused() {
    let (one, other) = (Daemon::start().await, Daemon::start().await);
    let mut watch = open(&one, WatchEventsRequest::default()).await;
    watch.snapshot().await;
    let resume_token = watch.token.clone();
    let foreign = WatchEventsRequest {
        resume_token,
        on_expired: OnExpired::Resnapshot.into(),
        ..WatchEventsRequest::default()
    };
    let error = Refused::from(Watching::open(&other, foreign).await.err().unwrap());
    assert_eq!(error.kind(), (Code::InvalidArgument, "TOKEN_FOREIGN"));
    for junk in ["x", "AAAA", "MSAy", "ä", &"A".repeat(10_000)] {
        let request =
            WatchEventsRequest { resume_token: junk.to_owned(), ..WatchEventsRequest::default() };
        let error = Refused::from(Watching::open(&one, request).await.err().unwrap());
        assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"), "{junk}");
        assert_eq!(error.fields, ["resume_token"]);
    }
}

#[tokio::test]
async fn silence_is_filled_with_heartbeats_that_bring_a_token() {
    let daemon = Daemon::start().await;
    let request = WatchEventsRequest {
        heartbeat_interval: seconds(1),
        start: WatchStart::Now.into(),
        ..WatchEventsRequest::default()
    };
    let mut watch = open(&daemon, request).await;
    assert!(matches!(watch.next().await, Ok(Some(Kind::Heartbeat(_)))));
    let resume_token = watch.token.clone();
    let id = daemon.exec(argv(&["true"])).await;
    let request = WatchEventsRequest { resume_token, ..WatchEventsRequest::default() };
    assert_eq!(id_of(&open(&daemon, request).await.event().await), id);
}

#[tokio::test]
async fn a_snapshot_under_load_leaves_no_gap_and_repeats_nothing() {
    let daemon = Daemon::start().await;
    let mut submitting = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut api = daemon.api();
        submitting.spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..30 {
                let spec = Some(argv(&["true"]));
                let reply = api.exec(ExecRequest { spec, ..ExecRequest::default() }).await.unwrap();
                ids.push(reply.into_inner().job.unwrap().job_id);
            }
            ids
        });
    }
    let mut watches = Vec::new();
    for _ in 0..6 {
        watches.push(open(&daemon, WatchEventsRequest::default()).await);
        tokio::time::sleep(std::time::Duration::from_millis(15)).await;
    }
    let ids: Vec<String> = submitting.join_all().await.into_iter().flatten().collect();
    for mut watch in watches {
        let mut known: HashMap<String, (u64, JobState)> = HashMap::new();
        let mut note = |event: &JobEvent| {
            let job = event.job.as_ref().unwrap();
            let before = known.insert(job.job_id.clone(), (job.revision, job.state()));
            assert!(before.is_none_or(|(revision, _)| revision < job.revision), "{event:?}");
            if event.r#type() != EventType::Snapshot {
                let state = before.map_or(JobState::Unspecified, |(_, state)| state);
                assert_eq!(event.previous_state(), state, "nothing in between is missing");
            }
            let is_over = |(_, state): &(u64, JobState)| *state == JobState::Succeeded;
            known.len() == ids.len() && known.values().all(is_over)
        };
        let mut is_over = false;
        for event in watch.snapshot().await {
            is_over = note(&event);
        }
        while !is_over {
            is_over = note(&watch.event().await);
        }
    }
}

#[tokio::test]
async fn a_watch_from_now_on_tells_nothing_that_its_caller_has_seen() {
    let daemon = Daemon::start().await;
    for round in 0..100 {
        let seen = daemon.run(argv(&["true"])).await.job_id;
        let request = WatchEventsRequest { start: WatchStart::Now.into(), ..Default::default() };
        let mut watch = Watching::open(&daemon, request).await.unwrap();
        let later = daemon.run(argv(&["true"])).await.job_id;
        for event in watch.up_to(EventType::Ended, &later).await {
            assert_ne!(event.job.unwrap().job_id, seen, "round {round}: {:?}", event.r#type);
        }
    }
}
