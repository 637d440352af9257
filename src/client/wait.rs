//! Waiting for jobs for longer than one call and one connection last.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::api::{WaitRequest, WaitResponse, WaitUntil, job_service_client::JobServiceClient};

use super::{Client, Error};

/// The longest time that one call waits; a longer wait takes several.
const CALL_WAIT_MAX: Duration = Duration::from_mins(10);

/// The least time between two calls, for a service that answers at once.
const CALL_PAUSE: Duration = Duration::from_millis(200);

/// How long the service may be away while we wait.
pub(super) const AWAY_MAX: Duration = Duration::from_mins(1);

impl Client {
    /// Waits until the job has ended and its output is complete, whatever happens to the
    /// connection or the service meanwhile, at most for `limit`.
    ///
    /// Running out of time is no error: `ended` is false and the job as it was.
    pub async fn wait_until_ended(
        &self,
        job_id: &str,
        limit: Option<Duration>,
    ) -> Result<WaitResponse, Error> {
        self.wait_until(job_id, WaitUntil::Terminal, limit).await
    }

    /// Waits until `until` has come to pass, as [`Client::wait_until_ended`] does.
    pub async fn wait_until(
        &self,
        job_id: &str,
        until: WaitUntil,
        limit: Option<Duration>,
    ) -> Result<WaitResponse, Error> {
        let begin = Instant::now();
        let mut backoff = super::Backoff::new(AWAY_MAX);
        loop {
            let left = limit.map(|limit| limit.saturating_sub(begin.elapsed()));
            let timeout = left.unwrap_or(CALL_WAIT_MAX).min(CALL_WAIT_MAX);
            let request = WaitRequest {
                job_id: job_id.to_owned(),
                timeout: prost_types::Duration::try_from(timeout).ok(),
                until: until.into(),
            };
            let asked = Instant::now();
            let call =
                async |mut service: JobServiceClient<_>, request| service.wait(request).await;
            let answer = self.send(&request, call).await;
            match answer.map(|answer| answer.response.into_inner()) {
                Ok(reply) if reply.ended || left.is_some_and(|left| left <= asked.elapsed()) => {
                    return Ok(reply);
                }
                Ok(_) => {
                    backoff.reset();
                    sleep(CALL_PAUSE.saturating_sub(asked.elapsed())).await;
                }
                Err(error) if error.is_passing() => backoff.pause(error).await?,
                Err(error) => return Err(error),
            }
        }
    }
}
