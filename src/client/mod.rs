//! A client of `jobwarden.v1` for programs in Rust and for the command line.
//!
//! It connects over a unix socket or TCP, turns every failure into an [`Error`] that says what
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
mod endpoint;
mod error;
mod log;
mod wait;
mod watch;

use std::{future::Future, time::Duration};

use tonic::{Request, Response, Status, transport::Channel};

use crate::api::{self, job_service_client::JobServiceClient};

pub use endpoint::Endpoint;
pub use error::{Error, FieldFault, Refusal};
pub use log::LogFollower;
pub use watch::Watch;

use backoff::Backoff;

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
    /// Connects to the service at `endpoint`.
    pub async fn connect(endpoint: Endpoint) -> Result<Client, Error> {
        let channel = match endpoint.connect().await {
            Ok(channel) => channel,
            Err(source) => return Err(Error::Unreachable { endpoint, source }),
        };
        let service = JobServiceClient::new(channel)
            .max_decoding_message_size(REPLY_BYTES_MAX)
            .max_encoding_message_size(REQUEST_BYTES_MAX);
        Ok(Client { service, endpoint })
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
            return into_reply(self.service.clone().exec(request).await);
        }
        self.repeat(request, async |mut service, request| service.exec(request).await).await
    }

    /// Accepts a new job with the spec of an old one; repeated as [`Client::exec`] is.
    pub async fn rerun(&self, request: api::RerunRequest) -> Result<api::RerunResponse, Error> {
        if request.request_id.is_empty() {
            return into_reply(self.service.clone().rerun(request).await);
        }
        self.repeat(request, async |mut service, request| service.rerun(request).await).await
    }

    /// Sends one signal. Never repeated: the signal might come twice.
    pub async fn kill(&self, request: api::KillRequest) -> Result<api::KillResponse, Error> {
        into_reply(self.service.clone().kill(request).await)
    }

    /// Removes a job. Never repeated: the second call would not find it.
    pub async fn delete(&self, request: api::DeleteRequest) -> Result<api::DeleteResponse, Error> {
        into_reply(self.service.clone().delete(request).await)
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
        send: impl Fn(JobServiceClient<Channel>, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut backoff = Backoff::new(REPEAT_TOTAL_MAX);
        loop {
            let answer = send(self.service.clone(), Request::new(request.clone())).await;
            match into_reply(answer) {
                Err(error) if error.is_passing() => backoff.pause(error).await?,
                answered => return answered,
            }
        }
    }
}

fn into_reply<R>(sent: Result<Response<R>, Status>) -> Result<R, Error> {
    sent.map(Response::into_inner).map_err(Error::from)
}
