//! What every call passes: a count of calls, an answer after a panic, and details for errors
//! that the library makes before our code runs.

use std::{
    any::Any,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{Request, Response},
};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::{Layer, Service};
use tower_http::catch_panic::ResponseForPanic;

use crate::{access::Identity, service::status::DOMAIN};

/// How often an idle service looks whether it still is.
const IDLE_CHECK: Duration = Duration::from_millis(500);

/// How many calls are under way, and when the last one ended.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    calls: Arc<AtomicUsize>,
    last: Arc<Mutex<Instant>>,
}

impl Default for Activity {
    fn default() -> Self {
        Self { calls: Arc::default(), last: Arc::new(Mutex::new(Instant::now())) }
    }
}

impl Activity {
    fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns once there has been no call, and nothing else that needs the service, for `limit`.
    pub(super) async fn idle_for(&self, limit: Duration, is_needed: impl Fn() -> bool) {
        loop {
            tokio::time::sleep(IDLE_CHECK.min(limit)).await;
            if self.calls.load(Ordering::Relaxed) > 0 || is_needed() {
                self.note();
            }
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= limit {
                return;
            }
        }
    }
}

/// Counts the calls that were let in, so it stands behind the gate.
#[derive(Clone, Debug)]
pub(super) struct ActivityLayer(Activity);

impl ActivityLayer {
    pub(super) fn new(activity: Activity) -> Self {
        Self(activity)
    }
}

impl<S> Layer<S> for ActivityLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, activity: self.0.clone() }
    }
}

/// A service whose calls are counted.
#[derive(Clone, Debug)]
pub(super) struct Counted<S> {
    inner: S,
    activity: Activity,
}

/// One call, for as long as it lives.
struct Call(Activity);

impl Call {
    fn begin(activity: &Activity) -> Call {
        activity.calls.fetch_add(1, Ordering::Relaxed);
        Call(activity.clone())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
        self.0.note();
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Health is for strangers too, and nothing of theirs keeps the service up.
        let is_known = request.extensions().get::<Identity>().is_some();
        let call = is_known.then(|| Call::begin(&self.activity));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(call);
            answer
        })
    }
}

/// Adds details to errors that have none: those that the library makes itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct DetailsLayer;

impl<S> Layer<S> for DetailsLayer {
    type Service = Detailed<S>;

    fn layer(&self, inner: S) -> Detailed<S> {
        Detailed(inner)
    }
}

/// A service whose errors have details.
#[derive(Clone, Debug)]
pub(super) struct Detailed<S>(S);

impl<S, B> Service<Request<B>> for Detailed<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            // A stream that has begun tells its error later, and those are ours.
            Ok(match Status::from_header_map(answer.headers()) {
                Some(status) if status.code() != Code::Ok && status.details().is_empty() => {
                    detailed(&status).into_http()
                }
                Some(_) | None => answer,
            })
        })
    }
}

fn detailed(status: &Status) -> Status {
    let is_too_large = status.message().contains("message length too large");
    let (code, reason, message) = match status.code() {
        Code::OutOfRange | Code::ResourceExhausted if is_too_large => (
            Code::InvalidArgument,
            "INVALID_SPEC",
            "the request is larger than max_request_bytes of GetServerInfo; send less, \
             for example pass input by a file on the server"
                .to_owned(),
        ),
        Code::Unimplemented => (
            Code::Unimplemented,
            "UNSUPPORTED",
            "this server has no such method; list them by reflection".to_owned(),
        ),
        code => (code, "INTERNAL", status.message().to_owned()),
    };
    let details = ErrorDetails::with_error_info(reason, DOMAIN, []);
    Status::with_error_details(code, message, details)
}

/// The answer to a call whose handler panicked.
#[derive(Clone, Copy, Debug)]
pub(super) struct PanicAnswer;

impl ResponseForPanic for PanicAnswer {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, _: Box<dyn Any + Send + 'static>) -> Response<Body> {
        // The hook has logged where; what it said stays here.
        let details = ErrorDetails::with_error_info("INTERNAL", DOMAIN, []);
        let message = "the service met a fault of its own; its log on the server says more";
        Status::with_error_details(Code::Internal, message, details).into_http()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oversized_request_is_the_callers_fault_and_says_what_to_do() {
        let library = Status::out_of_range("Error, decoded message length too large: found 9");
        let status = detailed(&library);
        assert_eq!(status.code(), Code::InvalidArgument);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_SPEC", DOMAIN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_is_idle_only_while_nothing_needs_it() {
        let activity = Activity::default();
        let needed = Arc::new(AtomicUsize::new(10));
        let begin = Instant::now();
        let is_needed = || {
            needed
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
        };
        activity.idle_for(Duration::from_secs(5), is_needed).await;
        assert!(begin.elapsed() >= Duration::from_secs(10));
    }
}
