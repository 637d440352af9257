//! A client of `jobwarden.v1` for programs in Rust and for the command line.
//!
//! It connects over a unix socket, TCP or TLS, shows its [`Credentials`] with every call, turns every failure into an [`Error`] that says what
//! can be done about it, and gets over a service that goes away and comes back: calls that may
//! be repeated are repeated, a [`LogFollower`] goes on at the byte and a [`Watch`] at the event
//! where it was. It starts no service; the command line does.
//!
//! Follows the output of a job, then watches from where an earlier run of this program was; the
//! service may be killed and started again meanwhile:
//!
//! ```no_run
//! use jobwarden::{
//!     api::{
//!         LogStream, TailLogRequest, WatchEventsRequest, log_chunk::Content,
//!         tail_log_response::Kind, watch_events_response,
//!     },
//!     client::{Client, Error},
//! };
//!
//! async fn follow(job_id: String, resume_token: String) -> Result<(), Error> {
//!     let client = Client::connect("unix:/var/lib/jobwarden/jobwarden.sock".parse()?).await?;
//!
//!     let request = TailLogRequest { job_id, follow: true, ..TailLogRequest::default() };
//!     let mut log = client.follow_log(request);
//!     while let Some(message) = log.next().await? {
//!         match message {
//!             Kind::Chunk(chunk) if chunk.stream() == LogStream::Stdout => {
//!                 if let Some(Content::Data(bytes)) = chunk.content {
//!                     print!("{}", String::from_utf8_lossy(&bytes));
//!                 }
//!             }
//!             Kind::Gap(gap) => eprintln!("bytes {} to {} are missing", gap.from, gap.to),
//!             _ => {}
//!         }
//!     }
//!
//!     // Without a token a watch begins with a snapshot of all jobs.
//!     let request = WatchEventsRequest { resume_token, ..WatchEventsRequest::default() };
//!     let mut watch = client.watch(request);
//!     loop {
//!         let message = watch.next().await?;
//!         if let Some(watch_events_response::Kind::Event(event)) = message.kind {
//!             println!("{}: {}", event.sequence, event.r#type().as_str_name());
//!         }
//!         // Kept by a caller that wants to go on here after its own restart, too.
//!         let _token = watch.resume_token();
//!     }
//! }
//! ```

mod backoff;
mod credentials;
mod endpoint;
mod error;
mod log;
mod secret_file;
mod tls;
mod token;
mod wait;
mod watch;

use std::{future::Future, sync::Arc, time::Duration};

use tonic::{Request, Response, Status, transport::Channel};

use crate::api::{self, job_service_client::JobServiceClient};

pub use credentials::{CredentialError, Credentials};
pub use endpoint::Endpoint;
pub use error::{Error, FieldFault, Refusal};
pub use log::LogFollower;
pub use tls::TlsFault;
pub use token::Token;
pub use watch::Watch;

use backoff::Backoff;
use tls::Objection;
use token::Tokens;

/// The largest reply that is taken. A page of a thousand jobs with long specs is large.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// The largest request that is sent; the service has its own, lower bound and names it.
const REQUEST_BYTES_MAX: usize = 128 << 20;

/// How long a call that may be repeated is repeated after it first failed.
const REPEAT_TOTAL_MAX: Duration = Duration::from_secs(10);

/// A connection to a service. Clones share it.
///
/// It connects again by itself when the service comes back.
#[derive(Clone, Debug)]
pub struct Client {
    service: JobServiceClient<Channel>,
    endpoint: Endpoint,
    tokens: Arc<Tokens>,
    objection: Objection,
}

/// An answer, and the token that it was given to.
#[derive(Debug)]
struct Answer<R> {
    response: Response<R>,
    token: Option<Token>,
}

/// Defines one method for each call that may be sent again when nobody knows its fate.
macro_rules! repeated_calls {
    ($($(#[$comment:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        impl Client {
            $(
                $(#[$comment])*
                pub async fn $name(
                    &self,
                    request: api::$request,
                ) -> Result<api::$response, Error> {
                    self.repeat(request, async |mut service, request| service.$name(request).await)
                        .await
                }
            )*
        }
    };
}

repeated_calls! {
    /// One job as it is now. Takes a prefix of the id, as well as the whole.
    status(StatusRequest) -> StatusResponse;
    /// One page of jobs, newest first.
    list(ListRequest) -> ListResponse;
    /// Waits once, at most as long as the service lets it; see [`Client::wait_until_ended`].
    wait(WaitRequest) -> WaitResponse;
    /// Waits once for any or all of several jobs.
    wait_many(WaitManyRequest) -> WaitManyResponse;
    /// Asks a job to stop.
    cancel(CancelRequest) -> CancelResponse;
    /// Changes the labels of a job.
    update_labels(UpdateLabelsRequest) -> UpdateLabelsResponse;
    /// Changes the time limit of a job.
    update_timeout(UpdateTimeoutRequest) -> UpdateTimeoutResponse;
    /// What the service is, its limits and how many jobs it has.
    get_server_info(GetServerInfoRequest) -> GetServerInfoResponse;
}

impl Client {
    /// Connects to the service at `endpoint` without showing anything.
    pub async fn connect(endpoint: Endpoint) -> Result<Client, Error> {
        Client::connect_with(endpoint, &Credentials::new()).await
    }

    /// Connects to the service at `endpoint` and shows it `credentials`.
    pub async fn connect_with(
        endpoint: Endpoint,
        credentials: &Credentials,
    ) -> Result<Client, Error> {
        credentials.check(&endpoint)?;
        let tokens = Arc::new(Tokens::load(credentials.token.clone())?);
        let way = endpoint.way(credentials)?;
        let objection = way.objection();
        let channel = match way.connect().await {
            Ok(channel) => channel,
            Err(source) => {
                return Err(match objection.lasting() {
                    Some((fault, source)) => Error::Tls { endpoint, fault, source },
                    None => Error::Unreachable { endpoint, source },
                });
            }
        };
        let service = JobServiceClient::new(channel)
            .max_decoding_message_size(REPLY_BYTES_MAX)
            .max_encoding_message_size(REQUEST_BYTES_MAX);
        Ok(Client { service, endpoint, tokens, objection })
    }

    /// Where the service is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Accepts a job and returns once it is durable.
    ///
    /// With a `request_id` the call is repeated if the connection is lost; without one it is
    /// sent once, and after [`Error::Interrupted`] the job may or may not exist.
    pub async fn exec(&self, request: api::ExecRequest) -> Result<api::ExecResponse, Error> {
        if request.request_id.is_empty() {
            return self
                .once(&request, async |mut service, request| service.exec(request).await)
                .await;
        }
        self.repeat(request, async |mut service, request| service.exec(request).await).await
    }

    /// Accepts a new job with the spec of an old one; repeated as [`Client::exec`] is.
    pub async fn rerun(&self, request: api::RerunRequest) -> Result<api::RerunResponse, Error> {
        if request.request_id.is_empty() {
            return self
                .once(&request, async |mut service, request| service.rerun(request).await)
                .await;
        }
        self.repeat(request, async |mut service, request| service.rerun(request).await).await
    }

    /// Sends one signal. Never repeated: the signal might come twice.
    pub async fn kill(&self, request: api::KillRequest) -> Result<api::KillResponse, Error> {
        self.once(&request, async |mut service, request| service.kill(request).await).await
    }

    /// Removes a job. Never repeated: the second call would not find it.
    pub async fn delete(&self, request: api::DeleteRequest) -> Result<api::DeleteResponse, Error> {
        self.once(&request, async |mut service, request| service.delete(request).await).await
    }

    /// Follows the output of a job across lost connections; `request` says where to begin.
    pub fn follow_log(&self, request: api::TailLogRequest) -> LogFollower {
        LogFollower::new(self.clone(), request)
    }

    /// Watches what happens to jobs across lost connections; `request` says where to begin.
    pub fn watch(&self, request: api::WatchEventsRequest) -> Watch {
        Watch::new(self.clone(), request)
    }

    /// Sends `request` until there is an answer other than "the service is away".
    async fn repeat<Q, R, F>(
        &self,
        request: Q,
        call: impl Fn(JobServiceClient<Channel>, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut backoff = Backoff::new(REPEAT_TOTAL_MAX);
        loop {
            let answer = self.send(&request, &call).await;
            match answer.map(|answer| answer.response.into_inner()) {
                Err(error) if error.is_passing() => backoff.pause(error).await?,
                answered => return answered,
            }
        }
    }

    /// Sends `request` once, whatever comes of it: a call may also be cut off for its token when
    /// it has begun.
    async fn once<Q, R, F>(
        &self,
        request: &Q,
        call: impl Fn(JobServiceClient<Channel>, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let token = self.tokens.present();
        self.send_with(request, token.as_ref(), call).await.map(Response::into_inner)
    }

    /// Sends `request`, which may be repeated, with the token of the moment, and once more if that
    /// was refused and there is a new one by now.
    async fn send<Q, R, F>(
        &self,
        request: &Q,
        call: impl Fn(JobServiceClient<Channel>, Request<Q>) -> F,
    ) -> Result<Answer<R>, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let token = self.tokens.present();
        let refused = match self.send_with(request, token.as_ref(), &call).await {
            Ok(response) => return Ok(Answer { response, token }),
            Err(error) => error,
        };
        let Some(token) = self.renewed_token(&refused, token.as_ref()) else {
            return Err(refused);
        };
        let response = self.send_with(request, Some(&token), &call).await?;
        Ok(Answer { response, token: Some(token) })
    }

    /// Sends `request` with this token. Every call goes through here.
    async fn send_with<Q, R, F>(
        &self,
        request: &Q,
        token: Option<&Token>,
        call: impl Fn(JobServiceClient<Channel>, Request<Q>) -> F,
    ) -> Result<Response<R>, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let answer = call(self.service.clone(), token::signed(request.clone(), token)).await;
        answer.map_err(Error::from).map_err(|error| match (&error, self.objection.lasting()) {
            (Error::Interrupted { .. }, Some((fault, source))) => {
                Error::Tls { endpoint: self.endpoint.clone(), fault, source }
            }
            _ => error,
        })
    }

    /// The token to use after `error`, if it says that `sent` was refused and there is another.
    fn renewed_token(&self, error: &Error, sent: Option<&Token>) -> Option<Token> {
        if error.is_unauthenticated() { self.tokens.renewed(sent) } else { None }
    }
}

#[cfg(test)]
mod tests;
