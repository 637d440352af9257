//! List: which jobs, newest first, a page at a time.

use jobwarden::api::{Job, JobFilter, JobSpec, JobState, ListRequest, UpdateLabelsRequest};
use prost_types::Timestamp;
use tonic::Code;

use crate::harness::{Daemon, Setup, argv, pairs, refused, shell};

async fn list(daemon: &Daemon, filter: JobFilter) -> Vec<String> {
    let request = ListRequest { filter: Some(filter), page_size: 1000, ..ListRequest::default() };
    let reply = daemon.api().list(request).await.unwrap().into_inner();
    assert_eq!(reply.next_page_token, "");
    ids(&reply.jobs)
}

fn ids(jobs: &[Job]) -> Vec<String> {
    jobs.iter().map(|job| job.job_id.clone()).collect()
}

/// Every id of all pages, from `token` on.
async fn rest(daemon: &Daemon, page_size: i32, mut token: String) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let request = ListRequest { page_size, page_token: token, filter: None };
        let reply = daemon.api().list(request).await.unwrap().into_inner();
        assert!(reply.jobs.len() <= usize::try_from(page_size).unwrap());
        all.extend(ids(&reply.jobs));
        if reply.next_page_token.is_empty() {
            return all;
        }
        token = reply.next_page_token;
    }
}

#[tokio::test]
async fn jobs_are_listed_newest_first_and_whole() {
    let daemon = Daemon::start().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(daemon.run(argv(&["true"])).await);
    }
    made.reverse();
    let reply = daemon.api().list(ListRequest::default()).await.unwrap().into_inner();
    assert_eq!((reply.jobs, reply.unreadable_count), (made, 0));
    assert_eq!(reply.next_page_token, "");
}

#[tokio::test]
async fn an_empty_store_has_an_empty_list() {
    let daemon = Daemon::start().await;
    let reply = daemon.api().list(ListRequest::default()).await.unwrap().into_inner();
    assert_eq!((reply.jobs.len(), reply.next_page_token.as_str()), (0, ""));
}

#[tokio::test]
async fn a_page_has_fifty_jobs_unless_the_caller_says_otherwise() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let mut made = vec![gate.clone()];
    for _ in 0..54 {
        made.push(daemon.exec(argv(&["true"])).await);
    }
    made.reverse();
    let first = daemon.api().list(ListRequest::default()).await.unwrap().into_inner();
    assert_eq!(ids(&first.jobs), made[..50]);
    assert_eq!(rest(&daemon, 50, first.next_page_token).await, made[50..]);
    assert_eq!(rest(&daemon, 7, String::new()).await, made);
    assert_eq!(rest(&daemon, 1, String::new()).await, made);
    assert_eq!(rest(&daemon, 55, String::new()).await, made);
}

#[tokio::test]
async fn pages_stay_stable_while_jobs_come_and_go() {
    let daemon = Daemon::start().await;
    let mut made = Vec::new();
    for _ in 0..9 {
        made.push(daemon.run(argv(&["true"])).await.job_id);
    }
    made.reverse();
    let request = ListRequest { page_size: 3, ..ListRequest::default() };
    let first = daemon.api().list(request).await.unwrap().into_inner();
    assert_eq!(ids(&first.jobs), made[..3]);
    // One comes, the last that was shown goes, and so does one that was not.
    daemon.run(argv(&["true"])).await;
    daemon.delete(&made[2], false).await.unwrap();
    daemon.delete(&made[4], false).await.unwrap();
    let daemon = daemon.kill_and_restart().await;
    let expected = [&made[3..4], &made[5..]].concat();
    assert_eq!(rest(&daemon, 3, first.next_page_token).await, expected);
}

#[tokio::test]
async fn every_condition_of_a_filter_must_hold() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let labelled = |labels| JobSpec { labels, ..argv(&["true"]) };
    let red = daemon.run(labelled(pairs([("team", "red"), ("size", "s")]))).await.job_id;
    let blue = daemon.run(labelled(pairs([("team", "blue"), ("size", "s")]))).await.job_id;
    let failed = daemon.run(shell("exit 1")).await.job_id;
    let running = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&running).await;
    let queued = daemon.exec(labelled(pairs([("team", "red")]))).await;
    let states = |states: &[JobState]| JobFilter {
        states: states.iter().map(|state| (*state).into()).collect(),
        ..JobFilter::default()
    };
    let labels = |labels| JobFilter { labels, ..JobFilter::default() };
    for (filter, expected) in [
        (states(&[JobState::Succeeded]), vec![&blue, &red]),
        (states(&[JobState::Failed, JobState::Queued]), vec![&queued, &failed]),
        (states(&[JobState::Running]), vec![&running]),
        (states(&[JobState::Lost, JobState::TimedOut]), vec![]),
        (labels(pairs([("team", "red")])), vec![&queued, &red]),
        (labels(pairs([("team", "red"), ("size", "s")])), vec![&red]),
        (labels(pairs([("team", "")])), vec![]),
        (
            JobFilter { labels: pairs([("team", "red")]), ..states(&[JobState::Queued]) },
            vec![&queued],
        ),
        (
            JobFilter { job_ids: vec![red.clone(), failed.clone()], ..JobFilter::default() },
            vec![&failed, &red],
        ),
        (
            JobFilter { owner: "anonymous".to_owned(), ..states(&[JobState::Running]) },
            vec![&running],
        ),
        (JobFilter { owner: "uid:4294967294".to_owned(), ..JobFilter::default() }, vec![]),
        (JobFilter::default(), vec![&queued, &running, &failed, &blue, &red]),
    ] {
        let found = list(&daemon, filter.clone()).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
    }
    daemon.delete(&queued, true).await.unwrap();
    daemon.delete(&running, true).await.unwrap();
}

#[tokio::test]
async fn a_filter_sees_labels_as_they_are_now() {
    let daemon = Daemon::start().await;
    let id = daemon.run(JobSpec { labels: pairs([("a", "1")]), ..argv(&["true"]) }).await.job_id;
    let request =
        UpdateLabelsRequest { job_id: id.clone(), set: pairs([("a", "2")]), remove: Vec::new() };
    daemon.api().update_labels(request).await.unwrap();
    let daemon = daemon.kill_and_restart().await;
    let labels = |value| JobFilter { labels: pairs([("a", value)]), ..JobFilter::default() };
    assert_eq!(list(&daemon, labels("1")).await, [""; 0]);
    assert_eq!(list(&daemon, labels("2")).await, [id]);
}

#[tokio::test]
async fn jobs_can_be_chosen_by_when_they_were_accepted() {
    let daemon = Daemon::start().await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(daemon.run(argv(&["true"])).await);
    }
    let time = jobs[1].create_time;
    let after = JobFilter { created_after: time, ..JobFilter::default() };
    assert_eq!(list(&daemon, after).await, [jobs[2].job_id.clone(), jobs[1].job_id.clone()]);
    let before = JobFilter { created_before: time, ..JobFilter::default() };
    assert_eq!(list(&daemon, before).await, [jobs[0].job_id.clone()]);
    let never = Some(Timestamp { seconds: 1, nanos: 0 });
    let before = JobFilter { created_before: never, ..JobFilter::default() };
    assert_eq!(list(&daemon, before).await, [""; 0]);
}

#[tokio::test]
async fn bad_pages_are_refused() {
    let daemon = Daemon::start().await;
    daemon.run(argv(&["true"])).await;
    daemon.run(argv(&["true"])).await;
    for page_size in [-1, 1001, i32::MIN] {
        let request = ListRequest { page_size, ..ListRequest::default() };
        let error = refused(daemon.api().list(request).await);
        assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"));
        assert_eq!(error.fields, ["page_size"]);
    }
    let request = ListRequest { page_size: 1, ..ListRequest::default() };
    let token = daemon.api().list(request).await.unwrap().into_inner().next_page_token;
    let filter = Some(JobFilter { owner: "other".to_owned(), ..JobFilter::default() });
    let other = ListRequest { page_size: 1, page_token: token.clone(), filter };
    let cut = ListRequest { page_token: token[..token.len() - 1].to_owned(), ..Default::default() };
    let junk = ListRequest { page_token: "../../etc/passwd".to_owned(), ..Default::default() };
    for request in [other, cut, junk] {
        let error = refused(daemon.api().list(request.clone()).await);
        assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"), "{request:?}");
        assert_eq!(error.fields, ["page_token"]);
    }
}
