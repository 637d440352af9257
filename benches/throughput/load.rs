//! Calls in numbers, each bounded.

use std::time::{Duration, Instant};

use jobwarden::api::{self, WaitUntil};
use tokio::task::JoinSet;

use crate::{figures::Calls, service::Service};

const WAIT: prost_types::Duration = prost_types::Duration { seconds: 120, nanos: 0 };

#[expect(clippy::unnecessary_wraps, reason = "requests hold it so")]
fn spec(argv: &[&str]) -> Option<api::JobSpec> {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    Some(api::JobSpec { argv, ..api::JobSpec::default() })
}

/// Runs `/bin/true` so many times from so many callers, each waiting for the end in one call.
pub(crate) async fn exec_and_wait(service: &Service, count: usize, callers: usize) -> Calls {
    let begin = Instant::now();
    let mut open = JoinSet::new();
    for _ in 0..callers {
        let mut client = service.client();
        open.spawn(async move {
            let mut each = Vec::with_capacity(count / callers);
            for _ in 0..count / callers {
                let begin = Instant::now();
                let request = api::ExecRequest {
                    spec: spec(&["/bin/true"]),
                    wait: Some(WAIT),
                    ..api::ExecRequest::default()
                };
                let reply = client.exec(request).await.expect("a job is accepted").into_inner();
                assert_eq!(reply.job.map(|job| job.state()), Some(api::JobState::Succeeded));
                each.push(begin.elapsed());
            }
            each
        });
    }
    let each = open.join_all().await.concat();
    Calls::of(each, begin.elapsed())
}

/// Submits `/bin/true` so many times, one after the other, and waits for all at the end.
pub(crate) async fn exec_only(service: &Service, count: usize) -> Calls {
    let mut client = service.client();
    let mut each = Vec::with_capacity(count);
    let mut ids = Vec::with_capacity(count);
    let begin = Instant::now();
    for _ in 0..count {
        let begin = Instant::now();
        let request =
            api::ExecRequest { spec: spec(&["/bin/true"]), ..api::ExecRequest::default() };
        let reply = client.exec(request).await.expect("a job is accepted").into_inner();
        each.push(begin.elapsed());
        ids.extend(reply.job.map(|job| job.job_id));
        // One job at a time: what is measured is the acknowledgement, not a queue behind it.
        wait(service, ids.last().cloned().unwrap_or_default()).await;
    }
    Calls::of(each, begin.elapsed())
}

async fn wait(service: &Service, job_id: String) {
    let request = api::WaitRequest { job_id, timeout: Some(WAIT), ..api::WaitRequest::default() };
    let reply = service.client().wait(request).await.expect("the job is known").into_inner();
    assert!(reply.ended);
}

/// Asks for the status of one ended job so many times from so many callers.
pub(crate) async fn status(service: &Service, count: usize, callers: usize) -> Calls {
    let request = api::ExecRequest {
        spec: spec(&["/bin/true"]),
        wait: Some(WAIT),
        ..api::ExecRequest::default()
    };
    let reply = service.client().exec(request).await.expect("a job is accepted").into_inner();
    let job_id = reply.job.map(|job| job.job_id).unwrap_or_default();
    let begin = Instant::now();
    let mut open = JoinSet::new();
    for _ in 0..callers {
        let (mut client, job_id) = (service.client(), job_id.clone());
        open.spawn(async move {
            let mut each = Vec::with_capacity(count / callers);
            for _ in 0..count / callers {
                let begin = Instant::now();
                let request = api::StatusRequest { job_id: job_id.clone() };
                client.status(request).await.expect("the job is known");
                each.push(begin.elapsed());
            }
            each
        });
    }
    let each = open.join_all().await.concat();
    Calls::of(each, begin.elapsed())
}

/// Waits that are open on one running job.
pub(crate) struct OpenWaits<'a> {
    service: &'a Service,
    job_id: String,
    open: JoinSet<bool>,
}

/// Opens so many waits on a job that runs until they are ended.
pub(crate) async fn open_waits(service: &Service, count: usize) -> OpenWaits<'_> {
    let request = api::ExecRequest { spec: spec(&["sleep", "600"]), ..api::ExecRequest::default() };
    let reply = service.client().exec(request).await.expect("a job is accepted").into_inner();
    let job_id = reply.job.map(|job| job.job_id).unwrap_or_default();
    let mut open = JoinSet::new();
    for _ in 0..count {
        let (mut client, job_id) = (service.client(), job_id.clone());
        open.spawn(async move {
            let until = WaitUntil::Terminal.into();
            let request = api::WaitRequest { job_id, timeout: Some(WAIT), until };
            client.wait(request).await.expect("the job is known").into_inner().ended
        });
    }
    // All are under way once the calls have had the time of a few round trips.
    tokio::time::sleep(Duration::from_millis(500)).await;
    OpenWaits { service, job_id, open }
}

impl OpenWaits<'_> {
    /// Ends the job; every wait must tell so.
    pub(crate) async fn end(self) {
        let signal = 9;
        let request = api::KillRequest { job_id: self.job_id, signal, scope: 0 };
        self.service.client().kill(request).await.expect("the job can be killed");
        let told = self.open.join_all().await;
        assert!(told.iter().all(|ended| *ended));
    }
}
