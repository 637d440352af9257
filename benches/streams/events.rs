//! `WatchEvents`: from a recorded change to its message, and resuming over stored events.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use jobwarden::api::{self, EventType, watch_events_response::Kind};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::Streaming;

use crate::{
    figures::{Calls, Table, Target},
    jobs,
    service::Service,
    writer,
};

const JOBS_PER_SECOND: usize = 100;
const EVERY: Duration = Duration::from_millis(10);
/// Accepted, started, ended.
const EVENTS_PER_JOB: usize = 3;
const RESUMPTIONS: usize = 3;
/// A stream that brings nothing for this long brings nothing more.
const PATIENCE: Duration = Duration::from_mins(1);

type Events = Streaming<api::WatchEventsResponse>;

async fn watch(service: &Service, request: api::WatchEventsRequest) -> Events {
    let mut client = service.connect().await;
    client.watch_events(request).await.expect("events can be watched").into_inner()
}

async fn next(events: &mut Events) -> api::WatchEventsResponse {
    let message = timeout(PATIENCE, events.message()).await.expect("an event comes in time");
    message.expect("the stream goes on").expect("the stream has no end")
}

/// The time from a recorded start or end to the watcher, with jobs at a steady rate.
///
/// The supervisor takes the recorded time just before it writes the state, so the time that the
/// write takes is in the figures.
pub(crate) async fn latency(folder: &Path, seconds: usize, table: &mut Table) {
    let service = Service::start_on_socket(folder, &["--durability", "process"]).await;
    let start = api::WatchStart::Now.into();
    let request = api::WatchEventsRequest { start, ..api::WatchEventsRequest::default() };
    let events = watch(&service, request).await;
    let count = seconds * JOBS_PER_SECOND;
    let begin = Instant::now();
    let watching = tokio::spawn(ages(events, count));
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut open = JoinSet::new();
    for _ in 0..count {
        ticks.tick().await;
        let mut client = service.client();
        open.spawn(async move {
            let request = jobs::exec(vec!["/bin/true".to_owned()]);
            client.exec(request).await.expect("a job is accepted");
        });
    }
    open.join_all().await;
    let ages = watching.await.expect("the watcher sees it through");
    let whole = begin.elapsed();
    assert_eq!(ages.started.len(), count, "each job tells its start");
    table.add("100 jobs/s: jobs/s that came about", count as f64 / whole.as_secs_f64());
    for (name, each) in [("ENDED", ages.ended), ("STARTED", ages.started)] {
        let calls = Calls::of(each, whole);
        let name = |what: &str| format!("100 jobs/s: recorded to {name} at the watcher, {what} ms");
        table.add_for(&name("p50"), calls.p50_ms, Target::Below(1.0));
        table.add_for(&name("p99"), calls.p99_ms, Target::Below(10.0));
    }
    service.stop().await;
}

/// How old changes were when they came.
#[derive(Default)]
struct Ages {
    started: Vec<Duration>,
    ended: Vec<Duration>,
}

async fn ages(mut events: Events, jobs: usize) -> Ages {
    let mut ages = Ages::default();
    while ages.ended.len() < jobs {
        let Some(Kind::Event(event)) = next(&mut events).await.kind else { continue };
        let job = event.job.as_ref();
        match event.r#type() {
            EventType::Started => {
                ages.started.push(writer::age(job.and_then(|job| job.start_time.as_ref())));
            }
            EventType::Ended => {
                ages.ended.push(writer::age(job.and_then(|job| job.end_time.as_ref())));
            }
            _ => {}
        }
    }
    ages
}

/// The rate at which a watcher that resumes gets some `count` events of the past.
pub(crate) async fn resume(folder: &Path, count: usize, table: &mut Table) {
    let service = Service::start_on_socket(folder, &["--durability", "process"]).await;
    // The bookmark of the empty store is the position before everything.
    let mut events = watch(&service, api::WatchEventsRequest::default()).await;
    let resume_token = next(&mut events).await.resume_token;
    drop(events);
    let jobs = count.div_ceil(EVENTS_PER_JOB);
    jobs::run_many(&service, jobs).await;
    for _ in 0..RESUMPTIONS {
        let resume_token = resume_token.clone();
        let request =
            api::WatchEventsRequest { resume_token, ..api::WatchEventsRequest::default() };
        let cpu = service.own_cpu_ms();
        let begin = Instant::now();
        let mut events = watch(&service, request).await;
        let (mut ended, mut got) = (0, 0_u32);
        while ended < jobs {
            let Some(Kind::Event(event)) = next(&mut events).await.kind else { continue };
            got += 1;
            ended += usize::from(event.r#type() == EventType::Ended);
        }
        assert!(got as usize >= count, "{got} of {count} events came");
        let per_second = f64::from(got) / begin.elapsed().as_secs_f64();
        let cpu = (service.own_cpu_ms() - cpu) * 1000.0 / f64::from(got);
        table.add(&format!("resuming over {count} events: events/s"), per_second);
        table.add("  processor µs of the service per event", cpu);
    }
    service.stop().await;
}
