//! Requests that are not sent to their end: their sender alone is refused, and only what is large.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use jobwarden::api::{
    ExecRequest, JobSpec, ListRequest, StatusRequest, job_service_client::JobServiceClient,
};
use tokio::task::JoinHandle;
use tonic::{Code, Status, body::Body, codegen::Service as _, codegen::http, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::harness::{
    Api, Daemon, Setup, argv, bearer, ended_job, eventually, over_tcp, token, with_tokens, within,
};

const MIB: usize = 1024 * 1024;
/// The largest request of a service with the settings of these tests.
const LARGEST: usize = 4 * MIB;
/// What of large requests one principal may have under way.
const LARGE_BYTES_PER_PRINCIPAL: usize = 64 * MIB;
/// What the service may take beyond the requests: its buffers, and what its allocator keeps.
const BESIDES: usize = 48 * MIB;
/// What a body brings at a time.
const PART: usize = 16 * 1024;

/// A body that brings all bytes of a message but its last one, and then neither more nor its end.
struct HalfSent {
    prefix: Option<Bytes>,
    left: usize,
    sent: Arc<AtomicUsize>,
}

impl http_body::Body for HalfSent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(prefix) = self.prefix.take() {
            return Poll::Ready(Some(Ok(Frame::data(prefix))));
        }
        let part = self.left.min(PART);
        if part == 0 {
            return Poll::Pending;
        }
        self.left -= part;
        self.sent.fetch_add(part, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; PART]).slice(..part)))))
    }
}

/// A call that is under way for as long as its request is not whole.
struct HalfCall {
    answer: JoinHandle<Status>,
    sent: Arc<AtomicUsize>,
}

impl HalfCall {
    fn begin(mut channel: Channel, token: &str, bytes: usize) -> HalfCall {
        let length = u32::try_from(bytes).unwrap().to_be_bytes();
        let prefix = Some(Bytes::from([&[0], &length[..]].concat()));
        let sent = Arc::<AtomicUsize>::default();
        let body = HalfSent { prefix, left: bytes - 1, sent: Arc::clone(&sent) };
        let request = http::Request::post("http://localhost/jobwarden.v1.JobService/Exec")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::new(body))
            .unwrap();
        let answer = tokio::spawn(async move {
            std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
            let answer = channel.call(request).await.expect("the connection stands");
            Status::from_header_map(answer.headers()).expect("it is an error")
        });
        HalfCall { answer, sent }
    }

    fn is_answered(&self) -> bool {
        self.answer.is_finished()
    }
}

impl Drop for HalfCall {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

/// The resident memory of a process in bytes.
fn resident_bytes(pid: i32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

fn large() -> ExecRequest {
    let spec = JobSpec { stdin: vec![b'x'; MIB], ..argv(&["true"]) };
    ExecRequest { spec: Some(spec), ..ExecRequest::default() }
}

/// Whether a large request is taken in; if not, it is for want of room.
async fn is_large_taken(api: &Api) -> bool {
    match within("an answer", api.clone().exec(large())).await {
        Ok(_) => true,
        Err(status) => {
            assert_too_much(&status);
            false
        }
    }
}

fn assert_too_much(status: &Status) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(
        (&*info.reason, &*info.metadata["bound"]),
        ("QUOTA_EXCEEDED", "large_request_bytes")
    );
    assert!(status.get_details_retry_info().is_some());
}

#[tokio::test]
async fn large_requests_that_are_half_sent_cost_their_sender_its_share_and_no_more() {
    const CALLS: usize = 64;
    const TAKEN: usize = LARGE_BYTES_PER_PRINCIPAL / LARGEST;
    let daemon = with_tokens().await;
    let (ada, bob) =
        (token(&daemon, "ada", "operator", &[]), token(&daemon, "bob", "operator", &[]));
    let channel = daemon.channel().await;
    let same = JobServiceClient::with_interceptor(channel.clone(), bearer(Some(&ada)));
    let mut other = over_tcp(&daemon, Some(&bob)).await;
    let job_id = ended_job(&mut same.clone()).await;
    let before = resident_bytes(daemon.pid());

    let mut calls: Vec<_> =
        (0..CALLS).map(|_| HalfCall::begin(channel.clone(), &ada, LARGEST)).collect();
    eventually("those beyond the share are refused", || {
        (calls.iter().filter(|call| call.is_answered()).count() == CALLS - TAKEN).then_some(())
    })
    .await;
    let (refused, taken): (Vec<_>, Vec<_>) = calls.drain(..).partition(HalfCall::is_answered);
    for mut call in refused {
        assert_too_much(&(&mut call.answer).await.unwrap());
    }
    eventually("the others are sent but for a byte", || {
        let is_sent = |call: &HalfCall| call.sent.load(Ordering::Relaxed) == LARGEST - 1;
        taken.iter().all(is_sent).then_some(())
    })
    .await;

    // Small calls of the same caller and on the same connection, and large ones of another.
    for _ in 0..100 {
        let request = StatusRequest { job_id: job_id.clone() };
        within("a small call", same.clone().status(request)).await.unwrap();
    }
    assert!(!is_large_taken(&same).await);
    within("another's large request", other.exec(large())).await.unwrap();
    let grown = resident_bytes(daemon.pid()).saturating_sub(before);
    assert!(grown < LARGE_BYTES_PER_PRINCIPAL + BESIDES, "{grown}");
    assert!(taken.iter().all(|call| !call.is_answered()));

    drop(taken);
    let begin = std::time::Instant::now();
    while !is_large_taken(&same).await {
        assert!(begin.elapsed() < crate::harness::DEADLINE, "the share is back");
    }
}

#[tokio::test]
async fn an_idle_service_ends_while_strangers_go_on_calling() {
    const STRANGERS: usize = 4;
    let flags = ["--idle-shutdown".to_owned(), "2s".to_owned()].to_vec();
    let setup = Setup { flags, needs_token: true, ..Setup::default() };
    let mut daemon = Daemon::start_with(setup).await;
    let endpoint = format!("http://{}", daemon.tcp());
    let strangers: Vec<_> = (0..STRANGERS)
        .map(|_| {
            let endpoint = tonic::transport::Endpoint::from_shared(endpoint.clone()).unwrap();
            tokio::spawn(async move {
                let mut refused = 0;
                // Each connection is cut after some refusals, and once the service has ended no
                // other can be made.
                while let Ok(channel) = endpoint.connect().await {
                    let mut health = HealthClient::new(channel.clone());
                    let _ = health.check(HealthCheckRequest::default()).await;
                    let mut api = JobServiceClient::new(channel);
                    while let Err(status) = api.list(ListRequest::default()).await
                        && status.code() == Code::Unauthenticated
                    {
                        refused += 1;
                    }
                }
                refused
            })
        })
        .collect();
    assert_eq!(daemon.ended().await.code(), Some(0));
    for stranger in strangers {
        assert!(within("no service is left", stranger).await.unwrap() > 0);
    }
}
