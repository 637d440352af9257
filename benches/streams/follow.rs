//! `TailLog` with `follow`: how late a line is, and what a thousand followers cost.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jobwarden::api::{
    self, job_service_client::JobServiceClient, log_chunk::Content, tail_log_request::Start,
    tail_log_response::Kind,
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    figures::{Calls, Table, Target},
    jobs,
    service::Service,
    writer,
};

const LINE_EVERY_MS: u32 = 20;
const FOLLOWERS: usize = 1000;
/// Until streams are open and their first messages are through.
const SETTLE: Duration = Duration::from_secs(2);
/// A bound on how long the thousand jobs run, whatever becomes of this program.
const JOB_SECONDS_MAX: u32 = 90;

/// How old lines were when they came: since they were written, since they were captured.
#[derive(Default)]
struct Ages {
    written: Vec<Duration>,
    captured: Vec<Duration>,
}

type Shared = Arc<Mutex<Ages>>;

fn lock(ages: &Shared) -> std::sync::MutexGuard<'_, Ages> {
    ages.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows a job from here on to its end.
async fn follow(mut client: JobServiceClient<Channel>, job_id: String, ages: Shared) {
    let start = Some(Start::LastBytes(0));
    let request =
        api::TailLogRequest { job_id, start, follow: true, ..api::TailLogRequest::default() };
    let stream = client.tail_log(request).await.expect("a job can be followed");
    let mut stream = stream.into_inner();
    while let Some(message) = stream.message().await.expect("the stream ends well") {
        let Some(Kind::Chunk(chunk)) = message.kind else { continue };
        let captured = writer::age(chunk.time.as_ref());
        let Some(Content::Data(data)) = chunk.content else { continue };
        let mut ages = lock(&ages);
        ages.captured.push(captured);
        ages.written.extend(writer::ages(&data));
    }
}

/// The time from a line that says when it was written to its arrival at the one follower.
pub(crate) async fn first_byte(folder: &Path, lines: u32, table: &mut Table) {
    let service = Service::start_on_socket(folder, &["--durability", "process"]).await;
    let job_id = jobs::submit(&service, jobs::exec(writer::argv(lines, LINE_EVERY_MS))).await;
    let ages = Shared::default();
    let begin = Instant::now();
    follow(service.connect().await, job_id, Arc::clone(&ages)).await;
    let whole = begin.elapsed();
    let ages = std::mem::take(&mut *lock(&ages));
    let lines = Calls::of(ages.written, whole);
    let captured = Calls::of(ages.captured, whole);
    table.add_for("line written to follower, p50 ms", lines.p50_ms, Target::Below(2.0));
    table.add("line written to follower, p99 ms", lines.p99_ms);
    table.add("  of it from captured to follower, p50 ms", captured.p50_ms);
    service.stop().await;
}

/// What the service's process takes for a thousand followers of a thousand jobs, a line a second
/// each: all on one connection, then each on its own.
pub(crate) async fn followers(folder: &Path, span: Duration, table: &mut Table) {
    let most = (FOLLOWERS + 16).to_string();
    let flags = ["--durability", "process", "--max-running-jobs", &most];
    let service = Service::start_on_socket(folder, &flags).await;
    let mut ids = Vec::with_capacity(FOLLOWERS);
    for _ in 0..FOLLOWERS {
        let request = jobs::exec(writer::argv(JOB_SECONDS_MAX, 1000));
        ids.push(jobs::submit(&service, request).await);
    }
    for is_shared in [true, false] {
        let ages = Shared::default();
        let mut open = JoinSet::new();
        for job_id in &ids {
            let client = if is_shared { service.client() } else { service.connect().await };
            open.spawn(follow(client, job_id.clone(), Arc::clone(&ages)));
        }
        tokio::time::sleep(SETTLE).await;
        *lock(&ages) = Ages::default();
        let (begin, cpu) = (Instant::now(), service.own_cpu_ms());
        tokio::time::sleep(span).await;
        let cpu = service.own_cpu_ms() - cpu;
        let whole = begin.elapsed();
        let ages = std::mem::take(&mut *lock(&ages));
        let failed = open.try_join_next();
        assert!(failed.is_none(), "a follower ended before its job");
        open.shutdown().await;
        let name = if is_shared { "one connection" } else { "own connections" };
        let name = |what: &str| format!("1,000 followers, {name}: {what}");
        let cores = cpu / (whole.as_secs_f64() * 1000.0);
        table.add_for(&name("cores taken by the service"), cores, Target::Below(0.5));
        let lines = Calls::of(ages.written, whole);
        table.add(&name("lines/s that came"), lines.per_second);
        table.add(&name("line written to follower, p50 ms"), lines.p50_ms);
        table.add(&name("line written to follower, p99 ms"), lines.p99_ms);
    }
    jobs::delete_all(&service, ids).await;
    service.stop().await;
}
