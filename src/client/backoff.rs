//! How long to pause before trying again, and when to give up.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Error;

/// The pause after the first failure. It doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The pauses between tries after failures in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    total_max: Duration,
    first_failure: Option<Instant>,
    pause: Duration,
}

impl Backoff {
    /// Gives up when failures in a row have lasted for `total_max`.
    pub(super) fn new(total_max: Duration) -> Backoff {
        Backoff { total_max, first_failure: None, pause: PAUSE_MIN }
    }

    /// Something went well: the next failure is the first again.
    pub(super) fn reset(&mut self) {
        self.first_failure = None;
        self.pause = PAUSE_MIN;
    }

    /// Pauses after `error`, or gives it back if it is time to give up.
    pub(super) async fn pause(&mut self, error: Error) -> Result<(), Error> {
        let first = *self.first_failure.get_or_insert_with(Instant::now);
        if first.elapsed() + self.pause > self.total_max {
            return Err(error);
        }
        // The service knows best when it will be back, but a wrong hint must not hold us for long.
        let pause = error.retry_after().unwrap_or_default().clamp(self.pause, PAUSE_MAX);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        sleep(pause).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failures_in_a_row_come_to_an_end() {
        let error = || Error::from(tonic::Status::unavailable("gone"));
        let mut backoff = Backoff::new(Duration::from_millis(100));
        let mut pauses = 0;
        while backoff.pause(error()).await.is_ok() {
            pauses += 1;
            assert!(pauses < 10);
        }
        assert!(pauses >= 1);
        backoff.reset();
        assert!(backoff.pause(error()).await.is_ok());
    }
}
