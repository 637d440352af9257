//! What comes of a request after its headers: counted, and whole in time. And the answers, counted.
//!
//! It stands behind the gate, so it knows whose requests they are. Strangers, whose one call is
//! bounded elsewhere, have the same time. A message counts with the length that it begins with,
//! before any more of it is taken in: the library makes room for all of it at that moment.

mod answers;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{
    Status,
    body::Body,
    codegen::{
        Bytes,
        http::{Request, Response},
    },
};
use tower::{Layer, Service};

use crate::{
    access::{Identity, Peer, Received},
    job::Violation,
    service::{Held, Intake, Unread, status::Refusal},
};

use self::answers::Counting;

/// How long any request may take to come.
const BODY_GRACE: Duration = Duration::from_secs(30);
/// What must come by the connection of a request in each second beyond that: many that are sent at
/// once by a slow link come one after the other.
const BODY_RATE_MIN: u64 = 16 * 1024;
/// What stands before each message: a flag, and the length in four bytes.
const PREFIX_BYTES: usize = 5;
/// The calls whose body is a stream of messages.
const STREAMING: &str = "/grpc.reflection.";
/// The largest request of reflection; each such stream counts as one, for as long as it is open.
pub(super) const REFLECTION_REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Bounds the bodies of requests and of answers.
#[derive(Clone, Debug)]
pub(super) struct BodiesLayer {
    intake: Arc<Intake>,
    unread: Arc<Unread>,
    request_bytes_max: u64,
}

impl BodiesLayer {
    /// A larger message than `request_bytes_max` is refused by whoever decodes it.
    pub(super) fn new(request_bytes_max: u64) -> Self {
        Self {
            intake: Intake::new(request_bytes_max),
            unread: Unread::of_answers(),
            request_bytes_max,
        }
    }
}

impl<S> Layer<S> for BodiesLayer {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, layer: self.clone() }
    }
}

/// A service whose requests and answers have bounds.
#[derive(Clone, Debug)]
pub(super) struct Bounded<S> {
    inner: S,
    layer: BodiesLayer,
}

/// What a call comes to.
pub(super) enum Answer<F> {
    /// With how its answer counts until there is one. That of a stranger does not.
    Served(F, Option<Counting>),
    /// None once it has been told.
    Refused(Option<Box<Response<Body>>>),
}

impl<F, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<Body>, E>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        match &mut *self {
            Self::Served(call, counting) => {
                Pin::new(call).poll(context).map_ok(|answer| match counting.take() {
                    Some(counting) => counting.count(answer),
                    None => answer,
                })
            }
            Self::Refused(refusal) => {
                refusal.take().map_or(Poll::Pending, |refusal| Poll::Ready(Ok(*refusal)))
            }
        }
    }
}

impl<S> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.layer.bound(request) {
            Ok((request, counting)) => Answer::Served(self.inner.call(request), counting),
            Err(refusal) => Answer::Refused(Some(Box::new(Status::from(refusal).into_http()))),
        }
    }
}

impl BodiesLayer {
    fn bound(
        &self,
        mut request: Request<Body>,
    ) -> Result<(Request<Body>, Option<Counting>), Refusal> {
        let caller = request.extensions().get::<Identity>();
        let reader = caller.map(|caller| self.unread.reader(&caller.principal));
        let counting = reader.map(|reader| Counting::begin(&mut request, reader)).transpose()?;
        Ok((self.bound_body(request)?, counting.flatten()))
    }

    fn bound_body(&self, mut request: Request<Body>) -> Result<Request<Body>, Refusal> {
        if request.body().is_end_stream() {
            return Ok(request);
        }
        let caller = request.extensions().get::<Identity>();
        let held = caller.map(|caller| self.intake.begin(&caller.principal)).transpose()?;
        let is_stream = request.uri().path().starts_with(STREAMING);
        if let Some(held) = &held {
            if is_stream {
                held.weigh(REFLECTION_REQUEST_BYTES_MAX as u64)?;
            }
            request.extensions_mut().insert(held.clone());
        }
        let received = request.extensions().get::<Peer>().map(|peer| peer.received.clone());
        let (received, request_bytes_max) = (received.unwrap_or_default(), self.request_bytes_max);
        Ok(request.map(|inner| {
            let (message, clock) = (Message::default(), None);
            Body::new(BoundedBody {
                inner,
                held,
                received,
                request_bytes_max,
                is_stream,
                message,
                clock,
            })
        }))
    }
}

/// The body of a request, which fails once it is too slow or there is too much of it.
struct BoundedBody {
    inner: Body,
    /// None for a stranger.
    held: Option<Held>,
    /// What comes by its connection.
    received: Received,
    request_bytes_max: u64,
    /// Whether any number of messages may come, with any time between them.
    is_stream: bool,
    message: Message,
    /// None while nothing has been waited for.
    clock: Option<Clock>,
}

/// The time of one message.
struct Clock {
    begin: Instant,
    /// What had come by the connection then.
    received_before: u64,
    sleep: Pin<Box<Sleep>>,
}

impl Clock {
    fn start(received: &Received) -> Clock {
        let (begin, received_before) = (Instant::now(), received.bytes());
        Clock { begin, received_before, sleep: Box::pin(sleep_until(begin + BODY_GRACE)) }
    }

    /// Ready once it is too late for the rest of a message.
    fn poll_late(&mut self, received: &Received, context: &mut Context<'_>) -> Poll<()> {
        let since = received.bytes() - self.received_before;
        let deadline = self.begin + BODY_GRACE + Duration::from_secs(since / BODY_RATE_MIN);
        while self.sleep.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl BoundedBody {
    /// Looks at bytes that have come.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            if self.message.is_whole() {
                if !self.is_stream {
                    let rule = "is followed by another; a call takes one message";
                    return Err(Violation::new("request", rule).into());
                }
                // The next message has its own time.
                (self.message, self.clock) = (Message::default(), None);
            }
            let length_before = self.message.length();
            bytes = self.message.take(bytes);
            if let (None, Some(length)) = (length_before, self.message.length())
                && let Some(held) = &self.held
                && length <= self.request_bytes_max
            {
                held.weigh(length)?;
            }
        }
        Ok(())
    }

    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_stream && self.message.is_between() {
            self.clock = None;
            return Poll::Pending;
        }
        let clock = self.clock.get_or_insert_with(|| Clock::start(&self.received));
        clock.poll_late(&self.received, context)
    }
}

impl HttpBody for BoundedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let taken = frame.data_ref().map_or(Ok(()), |bytes| self.take(bytes));
                Poll::Ready(Some(taken.map(|()| frame).map_err(Status::from)))
            }
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => self.poll_late(context).map(|()| {
                let (grace, bytes_per_second) = (BODY_GRACE, BODY_RATE_MIN);
                Some(Err(Refusal::TooSlow { grace, bytes_per_second }.into()))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// How much of a message has come.
#[derive(Debug, Default)]
struct Message {
    prefix: [u8; PREFIX_BYTES],
    /// With the prefix.
    received: u64,
}

impl Message {
    /// The length that it says it has, once that is known.
    fn length(&self) -> Option<u64> {
        let [_, length @ ..] = self.prefix;
        (self.received >= PREFIX_BYTES as u64).then_some(u32::from_be_bytes(length).into())
    }

    fn is_whole(&self) -> bool {
        self.length().is_some_and(|length| self.received == PREFIX_BYTES as u64 + length)
    }

    /// Whether it has not begun, or has come and the next one has not begun.
    fn is_between(&self) -> bool {
        self.received == 0 || self.is_whole()
    }

    /// Takes its next bytes; what it does not take belongs to the next message.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (taken, rest) = match self.length() {
            None => {
                // Less than a prefix.
                let begin = usize::try_from(self.received).unwrap_or(PREFIX_BYTES);
                let prefix = &mut self.prefix[begin..];
                let (taken, rest) = bytes.split_at(prefix.len().min(bytes.len()));
                prefix[..taken.len()].copy_from_slice(taken);
                (taken, rest)
            }
            Some(length) => {
                let left = PREFIX_BYTES as u64 + length - self.received;
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                bytes.split_at(left.min(bytes.len()))
            }
        };
        self.received += taken.len() as u64;
        rest
    }
}

#[cfg(test)]
mod tests;
