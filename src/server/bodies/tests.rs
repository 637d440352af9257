//! Tests of bodies: their time, and what they count for.

use std::{collections::VecDeque, future::poll_fn, sync::Mutex};

use tokio::time::sleep;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;
use crate::access::{Admission, Place, Role};

const REQUEST_BYTES_MAX: u64 = 4 * 1024 * 1024;
const LARGEST: usize = 4 * 1024 * 1024;
const EXEC: &str = "/jobwarden.v1.JobService/Exec";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// What the sender of a body has sent and nobody has read; none stands for the end.
#[derive(Clone, Default)]
struct Wire {
    frames: Arc<Mutex<VecDeque<Option<Bytes>>>>,
    /// By the connection.
    received: Received,
}

impl Wire {
    fn send(&self, bytes: impl AsRef<[u8]>) {
        self.received.add(bytes.as_ref().len());
        self.frames.lock().unwrap().push_back(Some(Bytes::copy_from_slice(bytes.as_ref())));
    }

    fn end(&self) {
        self.frames.lock().unwrap().push_back(None);
    }
}

impl HttpBody for Wire {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.frames.lock().unwrap().pop_front() {
            Some(frame) => Poll::Ready(frame.map(|bytes| Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

/// A request behind the layer, and how to send it.
fn begin(
    layer: &BodiesLayer,
    principal: &str,
    path: &str,
) -> Result<(Wire, Request<Body>), Refusal> {
    let wire = Wire::default();
    let mut request = Request::new(Body::new(wire.clone()));
    *request.uri_mut() = path.parse().unwrap();
    let (principal, role) = (principal.to_owned(), Role::Admin);
    request.extensions_mut().insert(Identity { principal, role, token: None, expires: None });
    let place = Place::Unix { pid: None, uid: 0, gid: 0 };
    let peer = Peer::new(place, Admission::new(|_| true));
    request.extensions_mut().insert(Peer { received: wire.received.clone(), ..peer });
    Ok((wire, layer.bound(request)?.0))
}

/// What the service reads next, if there is anything: bytes, the end, or a refusal.
async fn read(request: &mut Request<Body>) -> Option<Option<Result<usize, Status>>> {
    let body = request.body_mut();
    let read = poll_fn(|context| Poll::Ready(Pin::new(&mut *body).poll_frame(context))).await;
    let length = |frame: Frame<Bytes>| frame.into_data().unwrap().len();
    match read {
        Poll::Ready(frame) => Some(frame.map(|frame| frame.map(length))),
        Poll::Pending => None,
    }
}

async fn refusal(request: &mut Request<Body>) -> Option<(Code, String)> {
    let status = read(request).await??.err()?;
    Some((status.code(), status.get_details_error_info().unwrap().reason))
}

fn prefix(bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes).unwrap().to_be_bytes();
    [&[0], &length[..]].concat()
}

fn message(bytes: usize) -> Vec<u8> {
    [prefix(bytes), vec![b'x'; bytes]].concat()
}

fn too_slow() -> (Code, String) {
    (Code::Unavailable, "UNAVAILABLE".to_owned())
}

fn too_much() -> (Code, String) {
    (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_request_of_which_nothing_comes_is_refused_after_the_grace() {
    let layer = BodiesLayer::new(REQUEST_BYTES_MAX);
    let (_wire, mut request) = begin(&layer, "ada", EXEC).unwrap();
    assert!(read(&mut request).await.is_none());
    let nearly = Duration::from_secs(29);
    sleep(nearly).await;
    assert!(read(&mut request).await.is_none());
    sleep(BODY_GRACE.saturating_sub(nearly)).await;
    assert_eq!(refusal(&mut request).await, Some(too_slow()));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_request_is_woken_when_it_is_too_late() {
    let layer = BodiesLayer::new(REQUEST_BYTES_MAX);
    let (wire, mut request) = begin(&layer, "ada", EXEC).unwrap();
    wire.send(prefix(LARGEST));
    assert!(matches!(read(&mut request).await, Some(Some(Ok(5)))));
    let body = request.body_mut();
    let woken = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
    assert_eq!(woken.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_slow_sender_has_time_for_all_of_it_and_a_trickle_has_not() {
    let layer = BodiesLayer::new(REQUEST_BYTES_MAX);
    let (slow, mut request) = begin(&layer, "ada", EXEC).unwrap();
    slow.send(prefix(LARGEST));
    let second = usize::try_from(BODY_RATE_MIN).unwrap();
    for _ in 0..LARGEST / second {
        while let Some(frame) = read(&mut request).await {
            frame.unwrap().unwrap();
        }
        sleep(Duration::from_secs(1)).await;
        slow.send(vec![b'x'; second]);
    }
    slow.end();
    while let Some(frame) = read(&mut request).await.unwrap() {
        frame.unwrap();
    }

    let (trickle, mut request) = begin(&layer, "ada", EXEC).unwrap();
    trickle.send(prefix(LARGEST));
    let mut seconds = 0;
    let refused = loop {
        match read(&mut request).await {
            Some(Some(Err(status))) => break status,
            Some(frame) => _ = frame.unwrap().unwrap(),
            None => {
                seconds += 1;
                sleep(Duration::from_secs(1)).await;
                trickle.send(vec![b'x'; second / 2]);
            }
        }
    };
    assert_eq!(refused.code(), Code::Unavailable);
    // Each second brought half a second.
    assert!((59..=61).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_request_behind_others_on_a_slow_connection_has_time_for_them_too() {
    let layer = BodiesLayer::new(REQUEST_BYTES_MAX);
    let (wire, mut request) = begin(&layer, "ada", EXEC).unwrap();
    assert!(read(&mut request).await.is_none());
    let second = usize::try_from(BODY_RATE_MIN).unwrap();
    for _ in 0..100 {
        sleep(Duration::from_secs(1)).await;
        wire.received.add(second);
        assert!(read(&mut request).await.is_none());
    }
    // Nothing comes any more, of this one or of another.
    sleep(BODY_GRACE).await;
    assert_eq!(refusal(&mut request).await, Some(too_slow()));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_whole_but_does_not_end_is_refused_as_well() {
    let layer = BodiesLayer::new(REQUEST_BYTES_MAX);
    let (wire, mut request) = begin(&layer, "ada", EXEC).unwrap();
    wire.send(message(10));
    assert!(matches!(read(&mut request).await, Some(Some(Ok(15)))));
    assert!(read(&mut request).await.is_none());
    sleep(BODY_GRACE).await;
    assert_eq!(refusal(&mut request).await, Some(too_slow()));
}

#[tokio::test]
async fn a_call_takes_one_message() {
    let layer = BodiesLayer::new(REQUEST_BYTES_MAX);
    let (wire, mut request) = begin(&layer, "ada", EXEC).unwrap();
    wire.send([message(10), message(0)].concat());
    let invalid = (Code::InvalidArgument, "INVALID_SPEC".to_owned());
    assert_eq!(refusal(&mut request).await, Some(invalid));
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_rest_between_messages_and_not_within_one() {
    let layer = BodiesLayer::new(REQUEST_BYTES_MAX);
    let (wire, mut request) = begin(&layer, "ada", REFLECTION).unwrap();
    for _ in 0..3 {
        assert!(read(&mut request).await.is_none());
        sleep(10 * BODY_GRACE).await;
        assert!(read(&mut request).await.is_none());
        wire.send([message(10), message(20)].concat());
        assert!(matches!(read(&mut request).await, Some(Some(Ok(40)))));
    }
    wire.send(&message(10)[..7]);
    assert!(matches!(read(&mut request).await, Some(Some(Ok(7)))));
    assert!(read(&mut request).await.is_none());
    sleep(BODY_GRACE).await;
    assert_eq!(refusal(&mut request).await, Some(too_slow()));
}

#[tokio::test]
async fn a_request_counts_with_the_length_it_says_until_the_service_lets_go_of_it() {
    let layer = BodiesLayer::new(REQUEST_BYTES_MAX);
    let half_sent = async || {
        let (wire, mut request) = begin(&layer, "ada", EXEC).unwrap();
        // The prefix in two parts, too.
        wire.send(&prefix(LARGEST)[..3]);
        wire.send(&prefix(LARGEST)[3..]);
        read(&mut request).await;
        (read(&mut request).await.unwrap().unwrap().is_ok(), request)
    };
    let mut requests = Vec::new();
    let refused = loop {
        match half_sent().await {
            (true, request) => requests.push(request),
            (false, request) => break request,
        }
    };
    assert_eq!(requests.len(), 16);
    drop(refused);
    let (wire, mut small) = begin(&layer, "ada", EXEC).unwrap();
    wire.send(message(64 * 1024));
    assert!(read(&mut small).await.unwrap().unwrap().is_ok());

    let (parts, body) = requests.pop().unwrap().into_parts();
    drop(body);
    assert!(!half_sent().await.0, "the message is still there");
    drop(parts);
    assert!(half_sent().await.0);
}

#[tokio::test]
async fn a_message_that_is_refused_for_its_length_is_left_to_the_decoder() {
    let layer = BodiesLayer::new(REQUEST_BYTES_MAX);
    for _ in 0..100 {
        let (wire, mut request) = begin(&layer, "ada", EXEC).unwrap();
        wire.send(prefix(1 << 30));
        assert!(matches!(read(&mut request).await, Some(Some(Ok(5)))));
    }
}

#[tokio::test]
async fn streams_count_before_their_first_message() {
    let layer = BodiesLayer::new(REQUEST_BYTES_MAX);
    let mut streams = Vec::new();
    let refusal = loop {
        match begin(&layer, "ada", REFLECTION) {
            Ok((_, stream)) => streams.push(stream),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(streams.len(), 1024);
    assert_eq!((refusal.code(), refusal.reason().to_owned()), too_much());
    begin(&layer, "bob", REFLECTION).unwrap();
    streams.pop();
    begin(&layer, "ada", REFLECTION).unwrap();
}

#[test]
fn messages_are_told_apart_wherever_their_bytes_are_cut() {
    let sent = [message(0), message(3), message(300), message(1)].concat();
    for cut in 1..sent.len() {
        let (mut lengths, mut current) = (Vec::new(), Message::default());
        for mut part in sent.chunks(cut) {
            while !part.is_empty() {
                part = current.take(part);
                if current.is_whole() {
                    lengths.push(current.length().unwrap());
                    current = Message::default();
                }
            }
        }
        assert_eq!(lengths, [0, 3, 300, 1], "cut into {cut}");
    }
}
