//! What happens to jobs as one stream, whatever happens to the connections that bring it.

use tonic::Streaming;

use crate::api::{
    WatchEventsRequest, WatchEventsResponse, job_service_client::JobServiceClient,
    watch_events_response::Kind,
};

use super::{Backoff, Client, Error, Token, wait::AWAY_MAX};

/// Watches jobs: each event comes once, in order.
///
/// After a lost connection it goes on after the last message, for as long as the service is not
/// away for more than a minute; and so it does with a new token when the old one is revoked.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    request: WatchEventsRequest,
    stream: Option<Streaming<WatchEventsResponse>>,
    /// The one that the stream was opened with.
    token: Option<Token>,
    backoff: Backoff,
}

impl Watch {
    pub(super) fn new(client: Client, request: WatchEventsRequest) -> Watch {
        Watch { client, request, stream: None, token: None, backoff: Backoff::new(AWAY_MAX) }
    }

    /// The next event, bookmark or reset. Heartbeats are not told.
    ///
    /// The future may be dropped at any time: nothing is lost. An expired token is an error
    /// unless the request says `ON_EXPIRED_RESNAPSHOT`.
    pub async fn next(&mut self) -> Result<WatchEventsResponse, Error> {
        loop {
            match self.receive().await {
                Ok(message) => {
                    self.backoff.reset();
                    if !message.resume_token.is_empty() {
                        self.request.resume_token.clone_from(&message.resume_token);
                    }
                    if !matches!(message.kind, None | Some(Kind::Heartbeat(_))) {
                        return Ok(message);
                    }
                }
                Err(error) if error.is_passing() || self.is_renewed_after(&error) => {
                    self.stream = None;
                    self.backoff.pause(error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Where a new watch goes on after what this one has told; empty before the first message.
    pub fn resume_token(&self) -> &str {
        &self.request.resume_token
    }

    /// Whether an open stream was ended for its token, and there is a new one.
    fn is_renewed_after(&self, error: &Error) -> bool {
        self.stream.is_some() && self.client.renewed_token(error, self.token.as_ref()).is_some()
    }

    async fn receive(&mut self) -> Result<WatchEventsResponse, Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            closed => {
                let call = async |mut service: JobServiceClient<_>, request| {
                    service.watch_events(request).await
                };
                let answer = self.client.send(&self.request, call).await?;
                self.token = answer.token;
                let opened = answer.response;
                // Where it begins, for the case that it is cut off before it brings anything.
                let begin = opened.metadata().get("jobwarden-resume-token");
                if let Some(Ok(token)) = begin.map(|token| token.to_str()) {
                    token.clone_into(&mut self.request.resume_token);
                }
                closed.insert(opened.into_inner())
            }
        };
        match stream.message().await? {
            Some(message) => Ok(message),
            None => Err(Error::from(tonic::Status::unavailable("the stream was closed"))),
        }
    }
}
