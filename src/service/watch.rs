//! `WatchEvents`: a snapshot, a bookmark, then every change, from a position in the events.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::{BoxStream, JobApi, convert, status::Refusal};
use crate::{
    api::{self, watch_events_response::Kind},
    catalog::{EventKind, Expired, JobEvent},
    job::{JobFilter, JobId, StateKind, Time, Violation},
    sys::clock,
};

/// Messages that wait for the connection to take them.
const MESSAGES_WAITING_MAX: usize = 1;
/// Jobs of a snapshot that are read together.
const SNAPSHOT_PAGE: usize = 256;
/// Events that are taken together.
const EVENTS_AT_ONCE: usize = 256;

type Sender = mpsc::Sender<Result<api::WatchEventsResponse, Status>>;

/// The reader of a stream has gone, or the service has told it to.
struct Gone;

struct Watching {
    api: JobApi,
    sender: Sender,
    filter: JobFilter,
    types: Vec<api::EventType>,
    heartbeat: Duration,
    position: u64,
    _permit: OwnedSemaphorePermit,
}

/// What comes before the live events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Snapshot,
    Reset,
    Live,
}

impl JobApi {
    #[expect(clippy::unused_async, reason = "all calls have one shape")]
    pub(super) async fn watch_events(
        &self,
        request: Request<api::WatchEventsRequest>,
    ) -> Result<BoxStream<api::WatchEventsResponse>, Refusal> {
        let api::WatchEventsRequest {
            filter,
            resume_token,
            start,
            event_types,
            include_log_data,
            heartbeat_interval,
            on_expired,
        } = request.into_inner();
        let filter = convert::filter(filter.unwrap_or_default())?;
        let start: api::WatchStart = convert::choice("start", start)?;
        let types: Vec<api::EventType> = convert::choices("event_types", &event_types)?;
        if types.contains(&api::EventType::Log) {
            return Err(Violation::unsupported("event_types").into());
        }
        if include_log_data {
            return Err(Violation::unsupported("include_log_data").into());
        }
        let heartbeat = convert::heartbeat_interval("heartbeat_interval", heartbeat_interval)?;
        let on_expired: api::OnExpired = convert::choice("on_expired", on_expired)?;
        let permit = self.stream_permit()?;

        // First the position, then the snapshot: what happens in between comes live.
        let head = self.catalog().event_head();
        let now = *head.borrow();
        let (begin, position) = match resume_token.as_str() {
            "" if start == api::WatchStart::Now => (Begin::Live, now),
            "" => (Begin::Snapshot, now),
            token => match self.position_of(token)? {
                Ok(position) => (Begin::Live, position),
                Err(_) if on_expired == api::OnExpired::Resnapshot => (Begin::Reset, now),
                Err(oldest) => {
                    return Err(Refusal::TokenExpired { oldest: self.token(oldest) });
                }
            },
        };
        let (sender, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
        let api = self.clone();
        let watching =
            Watching { api, sender, filter, types, heartbeat, position, _permit: permit };
        tokio::spawn(watching.run(begin, head));
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    /// The position that a token stands for; or the oldest that can be read from.
    fn position_of(&self, token: &str) -> Result<Result<u64, u64>, Refusal> {
        let malformed = || {
            let rule = "is no token of WatchEvents; use one as it came";
            Refusal::from(Violation::new("resume_token", rule))
        };
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed())?;
        let text = String::from_utf8(bytes).map_err(|_| malformed())?;
        let words: Vec<&str> = text.split(' ').collect();
        let ["1", store, epoch, sequence] = words[..] else { return Err(malformed()) };
        let sequence: u64 = sequence.parse().map_err(|_| malformed())?;
        if store != self.catalog().store().id() {
            return Err(Refusal::TokenForeign);
        }
        let head = *self.catalog().event_head().borrow();
        if epoch != self.epoch() || sequence > head {
            // Of an earlier run of the service, whose events are gone with it.
            return Ok(Err(self.oldest_position()));
        }
        match self.catalog().events_after(sequence, 1) {
            Ok(_) => Ok(Ok(sequence)),
            Err(Expired { oldest }) => Ok(Err(oldest)),
        }
    }

    fn oldest_position(&self) -> u64 {
        match self.catalog().events_after(0, 1) {
            Ok(_) => 0,
            Err(Expired { oldest }) => oldest,
        }
    }

    fn epoch(&self) -> String {
        format!("{:x}", self.0.start_time.nanos())
    }

    fn token(&self, position: u64) -> String {
        let store = self.catalog().store().id();
        BASE64_URL_SAFE_NO_PAD.encode(format!("1 {store} {} {position}", self.epoch()))
    }
}

impl Watching {
    async fn run(mut self, begin: Begin, head: watch::Receiver<u64>) {
        let streamed = self.stream(begin, head).await;
        if let Err(refusal) = streamed {
            let _ = self.sender.send(Err(refusal.into())).await;
        }
    }

    async fn stream(&mut self, begin: Begin, head: watch::Receiver<u64>) -> Result<(), Refusal> {
        if begin == Begin::Reset {
            let reason = "The history behind the token is gone.".to_owned();
            if self.send(Kind::Reset(api::Reset { reason })).await.is_err() {
                return Ok(());
            }
        }
        if begin != Begin::Live {
            if self.snapshot().await?.is_err() {
                return Ok(());
            }
            let bookmark = Kind::Bookmark(api::Bookmark { snapshot_end: true });
            if self.send(bookmark).await.is_err() {
                return Ok(());
            }
        }
        self.live(head).await
    }

    async fn snapshot(&self) -> Result<Result<(), Gone>, Refusal> {
        if !self.is_wanted(api::EventType::Snapshot) {
            return Ok(Ok(()));
        }
        let mut before: Option<JobId> = None;
        loop {
            let filter = self.filter.clone();
            let page = self.api.blocking("reading a snapshot", move |operations| {
                let catalog = operations.catalog();
                let page = catalog.page(&filter, before, SNAPSHOT_PAGE)?;
                let jobs = page.ids.iter().filter_map(|id| catalog.get(*id).ok());
                let jobs: Vec<_> = jobs.filter(|job| filter.matches(job)).collect();
                Ok((jobs, page.ids.last().copied(), page.has_more))
            });
            let (jobs, last, has_more) = page.await?;
            for job in jobs {
                let event = api::JobEvent {
                    r#type: api::EventType::Snapshot.into(),
                    time: Some(convert::timestamp(Time::from(clock::now()))),
                    job: Some(self.api.shown(&job)),
                    ..api::JobEvent::default()
                };
                if self.send(Kind::Event(event)).await.is_err() {
                    return Ok(Err(Gone));
                }
            }
            if !has_more {
                return Ok(Ok(()));
            }
            before = last;
        }
    }

    async fn live(&mut self, mut head: watch::Receiver<u64>) -> Result<(), Refusal> {
        let mut last_sent = Instant::now();
        loop {
            let newest = *head.borrow_and_update();
            while self.position < newest {
                let events = self.api.catalog().events_after(self.position, EVENTS_AT_ONCE);
                let events = events.map_err(|Expired { oldest }| Refusal::TokenExpired {
                    oldest: self.api.token(oldest),
                })?;
                for event in events {
                    self.position = event.sequence;
                    if let Some(shown) = self.shown(&event) {
                        if self.send(Kind::Event(shown)).await.is_err() {
                            return Ok(());
                        }
                        last_sent = Instant::now();
                    }
                }
            }
            tokio::select! {
                changed = head.changed() => if changed.is_err() { return Ok(()) },
                () = self.sender.closed() => return Ok(()),
                () = self.api.drained() => {
                    let resume_token = Some(self.api.token(self.position));
                    return Err(Refusal::Draining { resume_token });
                }
                () = tokio::time::sleep_until(last_sent + self.heartbeat) => {
                    // Its token moves the caller past what the filter kept from it.
                    let time = Some(convert::timestamp(Time::from(clock::now())));
                    let heartbeat = Kind::Heartbeat(api::Heartbeat { time });
                    if self.send(heartbeat).await.is_err() {
                        return Ok(());
                    }
                    last_sent = Instant::now();
                }
            }
        }
    }

    fn is_wanted(&self, kind: api::EventType) -> bool {
        self.types.is_empty() || self.types.contains(&kind)
    }

    fn shown(&self, event: &Arc<JobEvent>) -> Option<api::JobEvent> {
        let JobEvent { sequence, kind, time, previous, job } = &**event;
        let kind = match kind {
            EventKind::Created => api::EventType::Created,
            EventKind::Started => api::EventType::Started,
            EventKind::Updated => api::EventType::Updated,
            EventKind::Ended => api::EventType::Ended,
            EventKind::Deleted => api::EventType::Deleted,
        };
        if !self.is_wanted(kind) || !self.filter.matches(job) {
            return None;
        }
        let shown = match kind {
            api::EventType::Deleted => api::Job {
                job_id: job.id().to_string(),
                revision: job.revision,
                ..api::Job::default()
            },
            _ => self.api.shown(job),
        };
        let previous =
            previous.map_or(api::JobState::Unspecified, |kind: StateKind| convert::job_state(kind));
        Some(api::JobEvent {
            r#type: kind.into(),
            time: Some(convert::timestamp(*time)),
            sequence: *sequence,
            previous_state: previous.into(),
            job: Some(shown),
            log: None,
            r#match: None,
        })
    }

    async fn send(&self, kind: Kind) -> Result<(), Gone> {
        let resume_token = self.api.token(self.position);
        let message = Ok(api::WatchEventsResponse { resume_token, kind: Some(kind) });
        tokio::select! {
            sent = self.sender.send(message) => sent.map_err(|_| Gone),
            () = self.api.drained() => Err(Gone),
        }
    }
}
