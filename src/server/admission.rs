//! The gate before every call but those of health: who calls is found out before anything of the
//! call is looked at, and a stream or a wait ends when the token that it came with does.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::watch;
use tonic::{
    Status,
    body::Body,
    codegen::{
        Bytes,
        http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION},
    },
};
use tower::{Layer, Service};

use crate::{
    access::{Audit, Call, Denied, Entry, Gate, Identity, OPEN_CALLS_MAX, Peer, Place, Reach},
    job::Time,
    service::status::Refusal,
    sys::clock,
};

/// The call that anybody may make: a load balancer has no token. It is answered at once, unlike
/// the stream of the same service, which takes a place.
const OPEN: &str = "/grpc.health.v1.Health/Check";
/// How soon a call ends whose token was revoked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Says when tokens may have changed, as long as it is run.
pub(super) async fn watch_tokens(gate: Arc<Gate>, changes: watch::Sender<()>) {
    let mut version = gate.version();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = gate.version();
        if now != version {
            version = now;
            changes.send_replace(());
        }
    }
}

/// Puts the gate before a service.
#[derive(Clone, Debug)]
pub(super) struct AdmissionLayer {
    gate: Arc<Gate>,
    audit: Arc<Audit>,
    changes: watch::Receiver<()>,
}

impl AdmissionLayer {
    /// The layer of a gate; `changes` says when its tokens may have changed.
    pub(super) fn new(gate: Arc<Gate>, audit: Arc<Audit>, changes: watch::Receiver<()>) -> Self {
        Self { gate, audit, changes }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admitted<S>;

    fn layer(&self, inner: S) -> Admitted<S> {
        Admitted { inner, layer: self.clone() }
    }
}

/// A service behind the gate.
#[derive(Clone, Debug)]
pub(super) struct Admitted<S> {
    inner: S,
    layer: AdmissionLayer,
}

impl<S, B> Service<Request<B>> for Admitted<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if request.uri().path() == OPEN {
            return self.open(request);
        }
        match self.layer.admit(&mut request) {
            Err(denied) => {
                if let Some(peer) = request.extensions().get::<Peer>() {
                    peer.admission.refuse();
                }
                self.layer.record(&request);
                let status = Status::from(Refusal::Unauthenticated(denied));
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
            // The connection goes, as there is no room for it, and the call with it.
            Ok(None) => Box::pin(std::future::pending()),
            // Before the body is read: it may be large, or never come.
            Ok(Some(identity)) if !may_call(&identity, request.uri().path()) => {
                let call = call_of(request.uri().path()).unwrap_or(Call::Reflection);
                let place = request.extensions().get::<Peer>().map(|peer| peer.place.clone());
                Box::pin(self.layer.clone().refuse(identity, place, call))
            }
            // Only what came with a token or a certificate can be over before it has ended. What
            // may have done something is answered all the same, or its caller would not know what.
            Ok(Some(identity)) if !identity.may_end() || !waits(request.uri().path()) => {
                Box::pin(self.inner.call(request))
            }
            Ok(Some(identity)) => {
                let over = self.layer.clone().over(identity);
                Box::pin(guard(self.inner.call(request), Box::pin(over)))
            }
        }
    }
}

impl<S> Admitted<S> {
    /// Answers a call that anybody may make, unless a stranger has left too many of them half sent.
    fn open<B>(&mut self, request: Request<B>) -> BoxFuture<Result<Response<Body>, S::Error>>
    where
        S: Service<Request<B>, Response = Response<Body>>,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
    {
        let peer = request.extensions().get::<Peer>();
        let Some(place) = peer.and_then(|peer| peer.admission.open_call()) else {
            let (what, limit) = ("calls of health", OPEN_CALLS_MAX);
            let refusal = Refusal::TooManyStreams { what, limit, of_principal: true };
            return Box::pin(std::future::ready(Ok(Status::from(refusal).into_http())));
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(place);
            answer
        })
    }
}

/// The call that a path names; none for reflection and what is not served.
pub(super) fn call_of(path: &str) -> Option<Call> {
    let name = path.strip_prefix("/jobwarden.v1.JobService/")?;
    Call::ALL.into_iter().find(|call| call.name() == name)
}

fn may_call(identity: &Identity, path: &str) -> bool {
    call_of(path).is_none_or(|call| identity.role.reach(call) != Reach::Nothing)
}

/// Whether a call only waits or reads, for as long as it likes.
fn waits(path: &str) -> bool {
    let name = path.strip_prefix("/jobwarden.v1.JobService/");
    // Everything else that is served here is reflection.
    name.is_none_or(|name| matches!(name, "Wait" | "WaitMany" | "WatchEvents" | "TailLog"))
}

impl AdmissionLayer {
    /// Records a call that was not let in.
    fn record<B>(&self, request: &Request<B>) {
        let Some(peer) = request.extensions().get::<Peer>() else { return };
        let path = request.uri().path();
        if let Some(entry) = self.audit.unknown(&peer.place, path, "UNAUTHENTICATED") {
            let audit = Arc::clone(&self.audit);
            tokio::task::spawn_blocking(move || audit.record(entry));
        }
    }

    /// Refuses a call to which the role of its caller does not reach, and records that.
    async fn refuse<E>(
        self,
        identity: Identity,
        place: Option<Place>,
        call: Call,
    ) -> Result<Response<Body>, E> {
        let Identity { principal, role, .. } = identity.clone();
        let refusal = Refusal::RoleRequired { principal, role, call };
        if let Some(place) = place {
            let record = move || {
                let entry = Entry::known(&identity, &place, call.name(), "", "ROLE_REQUIRED", "");
                self.audit.record(entry);
            };
            // Only a panic ends it without having recorded, and that is in the log.
            let _ = tokio::task::spawn_blocking(record).await;
        }
        Ok(Status::from(refusal).into_http())
    }

    /// Lets a call in, and notes on it who makes it; none if its connection has no room.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<Option<Identity>, Denied> {
        // Without a peer nothing is known but what the call brings along.
        let peer = request.extensions().get::<Peer>().cloned().ok_or(Denied::NoToken)?;
        let headers = request.headers().get_all(AUTHORIZATION);
        let headers = headers.iter().map(HeaderValue::as_bytes);
        let identity = self.gate.admit(&peer.place, headers, Time::from(clock::now()))?;
        if !peer.admission.admit(&identity.principal) {
            return Ok(None);
        }
        // Nothing behind the gate has a use for the token.
        request.headers_mut().remove(AUTHORIZATION);
        request.extensions_mut().insert(identity.clone());
        Ok(Some(identity))
    }

    /// Returns why a caller that was let in would not be any more, once that is so.
    async fn over(mut self, identity: Identity) -> Denied {
        loop {
            let now = Time::from(clock::now());
            if let Some(denied) = self.gate.over(&identity, now) {
                return denied;
            }
            let left = identity.expires.map(|expires| expires.since(now));
            let expired = async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() {
                    // The service is going away, and all calls with it.
                    std::future::pending::<()>().await;
                },
                () = expired => {}
            }
        }
    }
}

/// Answers a call until its caller would not be let in any more.
async fn guard<E>(
    call: impl Future<Output = Result<Response<Body>, E>>,
    mut over: BoxFuture<Denied>,
) -> Result<Response<Body>, E> {
    tokio::select! {
        biased;
        answer = call => {
            Ok(answer?.map(|inner| Body::new(Guarded { inner, over: Some(over) })))
        }
        denied = &mut over => Ok(Status::from(Refusal::Unauthenticated(denied)).into_http()),
    }
}

/// The body of an answer, which ends when its caller would not be let in any more.
struct Guarded {
    inner: Body,
    /// None once it has said so.
    over: Option<BoxFuture<Denied>>,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(over) = &mut self.over else { return Poll::Ready(None) };
        if let Poll::Ready(denied) = over.as_mut().poll(context) {
            self.over = None;
            let mut trailers = HeaderMap::new();
            Status::from(Refusal::Unauthenticated(denied)).add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.over.is_none() || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
