//! Requests that are not sent to their end and answers that are not read: whoever does that is
//! refused more of it, and nobody else.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use jobwarden::api::{
    DeleteRequest, ExecRequest, JobSpec, ListRequest, StatusRequest, UpdateLabelsRequest,
    WatchEventsRequest, job_service_client::JobServiceClient,
};
use prost::Message;
use tokio::task::JoinHandle;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Service as _, http},
    transport::{Channel, Endpoint},
};
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

fn request(call: &str, token: &str, body: Body) -> http::Request<Body> {
    http::Request::post(format!("http://localhost/jobwarden.v1.JobService/{call}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .unwrap()
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
        let request = request("Exec", token, Body::new(body));
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

/// A call whose answer nobody reads.
struct UnreadCall(JoinHandle<Option<Status>>);

impl UnreadCall {
    fn begin(mut channel: Channel, token: &str, call: &str, message: &impl Message) -> UnreadCall {
        let length = u32::try_from(message.encoded_len()).unwrap().to_be_bytes();
        let message = [&[0], &length[..], &message.encode_to_vec()].concat();
        let request = request(call, token, Body::new(Whole(Some(message.into()))));
        UnreadCall(tokio::spawn(async move {
            std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
            let (head, mut body) = channel.call(request).await.ok()?.into_parts();
            if let Some(status) = Status::from_header_map(&head.headers) {
                return Some(status);
            }
            // On a connection that takes no bytes only the trailers of a refusal ever come.
            let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
            let trailers = next.await?.ok()?.into_trailers().ok()?;
            Status::from_header_map(&trailers)
        }))
    }

    fn is_refused(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for UnreadCall {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A body that is there as a whole.
struct Whole(Option<Bytes>);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
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
            assert_too_much(&status, "large_request_bytes");
            false
        }
    }
}

fn assert_too_much(status: &Status, bound: &str) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((&*info.reason, &*info.metadata["bound"]), ("QUOTA_EXCEEDED", bound));
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
        assert_too_much(&(&mut call.answer).await.unwrap(), "large_request_bytes");
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

/// A connection that takes the headers and trailers of answers and none of their bytes.
async fn closed_window(daemon: &Daemon) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", daemon.tcp())).unwrap();
    endpoint.initial_stream_window_size(0).connect().await.unwrap()
}

/// An ended job with a spec of 0.8 MiB, as large as almost any.
async fn large_job(api: &mut Api) -> String {
    let text = "x".repeat(120 * 1024);
    let mut words = vec!["true"];
    words.extend([&*text; 7]);
    let wait = crate::harness::seconds(20);
    let request = ExecRequest { spec: Some(argv(&words)), wait, ..ExecRequest::default() };
    api.exec(request).await.unwrap().into_inner().job.unwrap().job_id
}

/// Waits until all calls but so many are refused, and takes the refusals off.
async fn refused_but(calls: &mut Vec<UnreadCall>, kept: usize, bound: &str) {
    eventually("those beyond the share are refused", || {
        let refused = calls.iter().filter(|call| call.is_refused()).count();
        (refused >= calls.len() - kept).then_some(())
    })
    .await;
    let (refused, unread): (Vec<_>, Vec<_>) = calls.drain(..).partition(UnreadCall::is_refused);
    for mut call in refused {
        let status = (&mut call.0).await.unwrap();
        assert_too_much(&status.expect("it is refused"), bound);
    }
    assert_eq!(unread.len(), kept);
    *calls = unread;
}

#[tokio::test]
async fn answers_that_are_not_read_cost_their_caller_its_share_and_no_more() {
    const CALLS: usize = 400;
    const SMALL_CALLS: usize = 20_000;
    const AT_ONCE: usize = 50;
    const BYTES_PER_PRINCIPAL: usize = 64 * MIB;
    let daemon = with_tokens().await;
    let (ada, bob) =
        (token(&daemon, "ada", "operator", &[]), token(&daemon, "bob", "operator", &[]));
    let mut same = over_tcp(&daemon, Some(&ada)).await;
    let mut other = over_tcp(&daemon, Some(&bob)).await;
    let job_id = large_job(&mut same).await;
    let others_job_id = large_job(&mut other).await;
    let status = StatusRequest { job_id: job_id.clone() };
    let answer = same.status(status.clone()).await.unwrap().into_inner();
    let kept = BYTES_PER_PRINCIPAL / (answer.encoded_len() + 5 + 1024);
    let channel = closed_window(&daemon).await;
    let before = resident_bytes(daemon.pid());

    let begin = || UnreadCall::begin(channel.clone(), &ada, "Status", &status);
    let mut calls: Vec<_> = (0..CALLS).map(|_| begin()).collect();
    refused_but(&mut calls, kept, "answer_bytes").await;
    assert_too_much(&same.status(status.clone()).await.unwrap_err(), "answer_bytes");
    let grown = resident_bytes(daemon.pid()).saturating_sub(before);
    assert!(grown < BYTES_PER_PRINCIPAL + BESIDES, "{grown}");

    // What changes something is answered for as long as there is any room, and then not begun.
    let missing = "0".repeat(26);
    let delete = DeleteRequest { job_id: missing, allow_missing: true, ..DeleteRequest::default() };
    let begin = || UnreadCall::begin(channel.clone(), &ada, "Delete", &delete);
    let mut deletes = Vec::new();
    eventually("no more is begun", || {
        if deletes.len() < SMALL_CALLS {
            deletes.extend((0..AT_ONCE).map(|_| begin()));
        }
        deletes.iter().any(UnreadCall::is_refused).then_some(())
    })
    .await;
    let set = [("a".to_owned(), "b".to_owned())].into();
    let change = UpdateLabelsRequest { job_id, set, remove: Vec::new() };
    let refusal = same.update_labels(change).await.unwrap_err();
    assert_too_much(&refusal, "answer_bytes");

    for _ in 0..10 {
        let request = StatusRequest { job_id: others_job_id.clone() };
        within("another's call", other.status(request)).await.unwrap();
    }
    drop((calls, deletes));
    let begin = std::time::Instant::now();
    let shown = loop {
        match same.status(status.clone()).await {
            Ok(shown) => break shown.into_inner().job.unwrap(),
            Err(status) => assert_too_much(&status, "answer_bytes"),
        }
        assert!(begin.elapsed() < crate::harness::DEADLINE, "the share is back");
    };
    assert!(shown.labels.is_empty(), "what was refused was not done");
}

#[tokio::test]
async fn streams_that_are_not_read_have_a_bound_on_what_is_large_in_them() {
    const STREAMS: usize = 200;
    const BYTES_PER_PRINCIPAL: usize = 256 * MIB;
    const MESSAGES_PER_STREAM: usize = 4;
    let daemon = with_tokens().await;
    let ada = token(&daemon, "ada", "operator", &[]);
    let mut same = over_tcp(&daemon, Some(&ada)).await;
    let job_id = large_job(&mut same).await;
    let answer = same.status(StatusRequest { job_id }).await.unwrap().into_inner();
    // What a message of a snapshot has beside its job is small.
    let message = answer.encoded_len() + 200;
    let kept = BYTES_PER_PRINCIPAL / (MESSAGES_PER_STREAM * message);
    let channel = closed_window(&daemon).await;
    let before = resident_bytes(daemon.pid());
    let watch = WatchEventsRequest::default();
    let begin = || UnreadCall::begin(channel.clone(), &ada, "WatchEvents", &watch);
    let mut streams: Vec<_> = (0..STREAMS).map(|_| begin()).collect();
    refused_but(&mut streams, kept, "stream_bytes").await;
    let grown = resident_bytes(daemon.pid()).saturating_sub(before);
    assert!(grown < BYTES_PER_PRINCIPAL + BESIDES, "{grown}");
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
            let endpoint = Endpoint::from_shared(endpoint.clone()).unwrap();
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
