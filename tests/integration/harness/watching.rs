//! A `WatchEvents` stream, message by message.

use jobwarden::api::{
    EventType, JobEvent, WatchEventsRequest, WatchEventsResponse, watch_events_response::Kind,
};
use tonic::{Status, Streaming};

use super::{Daemon, within};

/// An open watch.
pub(crate) struct Watching {
    stream: Streaming<WatchEventsResponse>,
    /// The token of the last message.
    pub(crate) token: String,
}

impl Watching {
    pub(crate) async fn open(
        daemon: &Daemon,
        request: WatchEventsRequest,
    ) -> Result<Watching, Status> {
        let opened = within("a watch", daemon.api().watch_events(request)).await?;
        Ok(Watching { stream: opened.into_inner(), token: String::new() })
    }

    /// The next message, or how the stream ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Kind>, Status> {
        let message = within("a message of a watch", self.stream.message()).await?;
        Ok(message.map(|message| {
            assert!(!message.resume_token.is_empty(), "every message has a token");
            self.token = message.resume_token;
            message.kind.expect("every message has a kind")
        }))
    }

    /// The next message, which must be an event.
    pub(crate) async fn event(&mut self) -> JobEvent {
        loop {
            match self.next().await {
                Ok(Some(Kind::Event(event))) => return event,
                // It only moves the token.
                Ok(Some(Kind::Bookmark(bookmark))) if !bookmark.snapshot_end => {}
                other => panic!("not an event: {other:?}"),
            }
        }
    }

    /// The events up to the bookmark that ends a snapshot.
    pub(crate) async fn snapshot(&mut self) -> Vec<JobEvent> {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Ok(Some(Kind::Event(event))) => events.push(event),
                Ok(Some(Kind::Bookmark(bookmark))) => {
                    assert!(bookmark.snapshot_end);
                    return events;
                }
                other => panic!("neither an event nor a bookmark: {other:?}"),
            }
        }
    }

    /// Events up to and with the first of `kind` about `id`.
    pub(crate) async fn up_to(&mut self, kind: EventType, id: &str) -> Vec<JobEvent> {
        let mut events = Vec::new();
        loop {
            let event = self.event().await;
            let is_last =
                event.r#type() == kind && event.job.as_ref().is_some_and(|job| job.job_id == id);
            events.push(event);
            if is_last {
                return events;
            }
        }
    }
}
