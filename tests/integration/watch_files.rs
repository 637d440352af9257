//! Changes that others make in the task directory, with notices and without.

use std::{fs, time::Duration};

use jobwarden::api::{
    EventType, GetServerInfoRequest, JobEvent, JobFilter, JobSpec, JobState, TailLogRequest,
    WatchEventsRequest, WatchStart, watch_events_response::Kind,
};

use crate::harness::{
    Daemon, JobFacts as _, Setup, Watching, argv, collect, eventually, pairs, shell, within,
};

async fn watching(daemon: &Daemon) -> Watching {
    let request = WatchEventsRequest::default();
    let mut watch = Watching::open(daemon, request).await.expect("it may be watched");
    watch.snapshot().await;
    watch
}

fn kinds(events: &[JobEvent]) -> Vec<EventType> {
    events.iter().map(JobEvent::r#type).collect()
}

/// With notices of the kernel, and without any.
async fn both_ways() -> [Daemon; 2] {
    [Daemon::start().await, Daemon::start_with(Setup::flags(&["--file-notices", "poll"])).await]
}

#[tokio::test]
async fn the_life_of_a_job_is_told_without_notices_too() {
    for daemon in both_ways().await {
        let mut watch = watching(&daemon).await;
        let id = daemon.exec(shell("echo on; sleep 0.7; echo off; exit 3")).await;
        let request = TailLogRequest { job_id: id.clone(), follow: true, ..Default::default() };
        let tail = daemon.api().tail_log(request).await.unwrap().into_inner();
        assert_eq!(collect(tail).await.stdout(), b"on\noff\n");
        let events = watch.up_to(EventType::Ended, &id).await;
        let expected = [EventType::Created, EventType::Started, EventType::Ended];
        assert_eq!(kinds(&events), expected);
    }
}

#[tokio::test]
async fn a_marker_dropped_by_hand_cancels() {
    for daemon in both_ways().await {
        let mut watch = watching(&daemon).await;
        let id = daemon.exec(argv(&["sleep", "600"])).await;
        daemon.started(&id).await;
        fs::write(daemon.folder(&id).join("cancel"), "").unwrap();
        let events = watch.up_to(EventType::Ended, &id).await;
        let end = events.last().unwrap().job.as_ref().unwrap();
        assert_eq!(end.state(), JobState::Cancelled);
    }
}

#[tokio::test]
async fn a_folder_removed_by_hand_is_told_as_deleted_and_one_moved_back_as_new() {
    for daemon in both_ways().await {
        let mut watch = watching(&daemon).await;
        let id = daemon.run(shell("exit 3")).await.job_id;
        watch.up_to(EventType::Ended, &id).await;
        let (folder, aside) = (daemon.folder(&id), daemon.beside().join("aside"));
        fs::rename(&folder, &aside).unwrap();
        let events = watch.up_to(EventType::Deleted, &id).await;
        assert_eq!(kinds(&events), [EventType::Deleted]);
        fs::rename(&aside, &folder).unwrap();
        let events = watch.up_to(EventType::Ended, &id).await;
        assert_eq!(kinds(&events)[..2], [EventType::Created, EventType::Started]);
        assert_eq!(daemon.status(&id).await.exit_code(), Some(3));
        fs::remove_dir_all(&folder).unwrap();
        watch.up_to(EventType::Deleted, &id).await;
    }
}

async fn all_loaded(daemon: &Daemon) {
    let info = || async { daemon.api().get_server_info(GetServerInfoRequest {}).await.unwrap() };
    while !info().await.into_inner().counts_complete {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_removal_by_hand_of_a_job_that_nobody_has_read_since_is_told_to_whom_it_concerns() {
    for daemon in both_ways().await {
        let spec = |team| JobSpec { labels: pairs([("team", team)]), ..argv(&["true"]) };
        let other = daemon.run(spec("db")).await.job_id;
        let id = daemon.run(spec("web")).await.job_id;
        let owner = daemon.status(&id).await.owner;
        let daemon = daemon.kill_and_restart().await;
        within("all jobs are known", all_loaded(&daemon)).await;
        let labels = pairs([("team", "web")]);
        let filter = Some(JobFilter { labels, owner, ..JobFilter::default() });
        let start = WatchStart::Now.into();
        let request = WatchEventsRequest { filter, start, ..WatchEventsRequest::default() };
        let mut watch = Watching::open(&daemon, request.clone()).await.unwrap();
        let another = daemon.api().watch_events(request.clone()).await.unwrap();
        let begin = another.metadata().get("jobwarden-resume-token").unwrap();
        let begin = begin.to_str().unwrap().to_owned();
        fs::remove_dir_all(daemon.folder(&other)).unwrap();
        fs::remove_dir_all(daemon.folder(&id)).unwrap();
        let events = watch.up_to(EventType::Deleted, &id).await;
        assert_eq!(kinds(&events), [EventType::Deleted]);
        assert_eq!(events[0].previous_state(), JobState::Succeeded);
        // The journal has it as well.
        let daemon = daemon.kill_and_restart().await;
        let request = WatchEventsRequest { resume_token: begin, start: 0, ..request };
        let mut watch = Watching::open(&daemon, request).await.unwrap();
        assert_eq!(watch.up_to(EventType::Deleted, &id).await, events);
    }
}

#[tokio::test]
async fn a_removal_while_no_service_ran_is_told_to_whom_it_concerns() {
    let mut daemon = Daemon::start().await;
    let spec = |team| JobSpec { labels: pairs([("team", team)]), ..argv(&["true"]) };
    let other = daemon.run(spec("db")).await.job_id;
    let id = daemon.run(spec("web")).await.job_id;
    let owner = daemon.status(&id).await.owner;
    let filter = Some(JobFilter { labels: pairs([("team", "web")]), owner, ..Default::default() });
    let request = WatchEventsRequest { filter, ..WatchEventsRequest::default() };
    let mut watch = Watching::open(&daemon, request.clone()).await.unwrap();
    watch.snapshot().await;
    daemon.kill();
    fs::remove_dir_all(daemon.folder(&other)).unwrap();
    fs::remove_dir_all(daemon.folder(&id)).unwrap();
    let daemon = daemon.restart().await;
    let request = WatchEventsRequest { resume_token: watch.token, ..request };
    let mut watch = Watching::open(&daemon, request).await.unwrap();
    assert_eq!(kinds(&watch.up_to(EventType::Deleted, &id).await), [EventType::Deleted]);
}

/// The folder of a queued job that another service accepted.
async fn foreign_folder() -> (Daemon, String) {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let id = daemon.exec(shell("echo moved; exit 4")).await;
    (daemon, id)
}

#[tokio::test]
async fn a_job_folder_moved_in_runs() {
    let (other, id) = foreign_folder().await;
    let daemon = Daemon::start().await;
    let mut watch = watching(&daemon).await;
    daemon.run(argv(&["true"])).await;
    let from = other.folder(&id);
    let to = daemon.root().join("jobs").join(from.parent().unwrap().file_name().unwrap());
    fs::create_dir_all(&to).unwrap();
    fs::rename(from, to.join(&id)).unwrap();
    watch.up_to(EventType::Ended, &id).await;
    assert_eq!(daemon.status(&id).await.exit_code(), Some(4));
    assert_eq!(daemon.stdout(&id).await, "moved\n");
}

#[tokio::test]
async fn a_job_folder_moved_in_while_no_service_ran_runs() {
    let (other, id) = foreign_folder().await;
    let mut daemon = Daemon::start().await;
    let first = daemon.run(argv(&["true"])).await.job_id;
    let to = daemon.folder(&first).with_file_name(&id);
    daemon.kill();
    fs::rename(other.folder(&id), to).unwrap();
    let daemon = daemon.restart().await;
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(4));
}

#[tokio::test]
async fn a_half_written_folder_is_no_event_until_it_is_whole() {
    let (other, id) = foreign_folder().await;
    let daemon = Daemon::start().await;
    let first = daemon.run(argv(&["true"])).await.job_id;
    let mut watch = watching(&daemon).await;
    let from = other.folder(&id);
    let spec = fs::read(from.join("spec.json")).unwrap();
    fs::write(from.join("spec.json"), &spec[..spec.len() / 2]).unwrap();
    let to = daemon.folder(&first).with_file_name(&id);
    fs::rename(from, &to).unwrap();
    eventually("the folder is reported", || {
        daemon.lines().iter().any(|line| line.contains("cannot be read")).then_some(())
    })
    .await;
    fs::write(to.join("spec.json"), &spec).unwrap();
    let events = watch.up_to(EventType::Ended, &id).await;
    assert_eq!(kinds(&events)[..2], [EventType::Created, EventType::Started]);
}

#[tokio::test]
async fn a_half_written_spec_of_a_known_job_is_never_a_deletion() {
    let daemon = Daemon::start().await;
    let id = daemon.run(argv(&["true"])).await.job_id;
    let mut watch = watching(&daemon).await;
    let path = daemon.folder(&id).join("spec.json");
    let spec = fs::read(&path).unwrap();
    fs::write(&path, b"{").unwrap();
    let other = daemon.run(argv(&["true"])).await.job_id;
    fs::write(&path, spec).unwrap();
    let events = watch.up_to(EventType::Ended, &other).await;
    assert!(!kinds(&events).contains(&EventType::Deleted));
    assert_eq!(daemon.status(&id).await.exit_code(), Some(0));
}

#[tokio::test]
async fn a_folder_dropped_into_the_inbox_is_told() {
    for daemon in both_ways().await {
        let mut watch = watching(&daemon).await;
        let (filling, dropped) = (daemon.beside().join("box"), daemon.root().join("inbox/box"));
        fs::create_dir(&filling).unwrap();
        fs::write(filling.join("spec.json"), r#"{"argv": ["true"]}"#).unwrap();
        fs::rename(filling, dropped).unwrap();
        let event = within("an event", watch.next()).await.unwrap();
        let Some(Kind::Event(event)) = event else { panic!("not an event") };
        assert_eq!(event.r#type(), EventType::Created);
    }
}
