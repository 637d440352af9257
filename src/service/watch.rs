//! `WatchEvents`: a snapshot, a bookmark, then every change, from a position in the events.
//!
//! A stream is a position and at most one batch of events. It reads what is in memory while it
//! keeps up and the journal when it does not, so a reader that stops holds nobody up.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod output;
mod shape;
mod snapshot;
mod token;

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::{
    BoxStream, JobApi,
    caller::Caller,
    convert,
    growth::OutputWatch,
    status::{Refusal, ResumeAt},
    streams::{Stop, StreamPermit},
    turns,
};
use crate::{
    api::{self, watch_events_response::Kind},
    job::{JobFilter, Time},
    store::{EventKind, HistoryGone, JobEvent, JournalReader},
    sys::clock,
};

use self::{
    snapshot::Shown,
    token::{Origin, Position, Within},
};

/// Messages that wait for the connection to take them.
const MESSAGES_WAITING_MAX: usize = 1;
/// Events that are taken together.
const EVENTS_AT_ONCE: usize = 256;
/// How long a caller's token may lag behind events that are kept from it.
const BOOKMARK_PAUSE: Duration = Duration::from_secs(1);

type Sender = mpsc::Sender<Result<api::WatchEventsResponse, Status>>;

struct Watching {
    api: JobApi,
    sender: Sender,
    filter: JobFilter,
    /// Whether jobs of others exist for the caller.
    sees_all: bool,
    types: Vec<api::EventType>,
    with_bytes: bool,
    heartbeat: Duration,
    on_expired: api::OnExpired,
    position: Position,
    /// The position that the caller has a token of.
    told: Position,
    /// The token to go on with until the first message is sent, if it is not that of `told`.
    first_token: Option<String>,
    shown: Shown,
    reader: Option<JournalReader>,
    _output: Option<OutputWatch>,
    permit: StreamPermit,
}

/// What comes before the live events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Live,
    Snapshot,
    Reset,
}

impl JobApi {
    /// The stream, and the token of where it begins.
    pub(super) async fn watch_events(
        &self,
        caller: Caller,
        request: Request<api::WatchEventsRequest>,
    ) -> Result<(BoxStream<api::WatchEventsResponse>, String), Refusal> {
        let api::WatchEventsRequest {
            filter,
            resume_token,
            start,
            event_types,
            include_log_data,
            heartbeat_interval,
            on_expired,
        } = request.into_inner();
        let filter = caller.narrow(convert::filter(filter.unwrap_or_default())?);
        let start: api::WatchStart = convert::choice("start", start)?;
        let types: Vec<api::EventType> = convert::choices("event_types", &event_types)?;
        let heartbeat = convert::heartbeat_interval("heartbeat_interval", heartbeat_interval)?;
        let on_expired: api::OnExpired = convert::choice("on_expired", on_expired)?;
        let permit = self.stream_permit(&caller, include_log_data)?;
        // Whoever asks for the bytes and chooses no types wants what brings them.
        let is_log_wanted =
            types.contains(&api::EventType::Log) || (types.is_empty() && include_log_data);
        // What is there already is not news: it is told before the watch begins.
        let output = if is_log_wanted { Some(self.watch_output().await) } else { None };

        if start == api::WatchStart::Now && resume_token.is_empty() {
            // A change that the caller has seen already is none that comes later.
            self.blocking("looking for the newest event", |operations| {
                operations.catalog().settle();
                Ok(())
            })
            .await?;
        }
        // First the position, then the snapshot: what happens in between comes live.
        let head = self.catalog().event_head();
        let now = Position::after(*head.borrow());
        let (begin, position) = match resume_token.as_str() {
            "" if start == api::WatchStart::Now => (Begin::Live, now),
            "" => (Begin::Snapshot, Position { within: Within::Snapshot(None), ..now }),
            token => match self.position_of(token)? {
                Ok(position) if matches!(position.within, Within::Snapshot(_)) => {
                    (Begin::Snapshot, position)
                }
                Ok(position) => (Begin::Live, position),
                Err(_) if on_expired == api::OnExpired::Resnapshot => (Begin::Reset, now),
                Err(gone) => return Err(self.expired(&gone)),
            },
        };
        // Who is cut off before the reset comes must get it the next time.
        let first_token = (begin == Begin::Reset).then(|| resume_token.clone());
        let (sender, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
        let watching = Watching {
            api: self.clone(),
            sender,
            filter,
            sees_all: caller.sees_all(),
            types,
            with_bytes: include_log_data,
            heartbeat,
            on_expired,
            position,
            told: position,
            first_token: first_token.clone(),
            shown: Shown::default(),
            reader: None,
            _output: output,
            permit,
        };
        let token = first_token.unwrap_or_else(|| position.token(self.origin()));
        tokio::spawn(turns::shared(watching.run(begin, head)));
        Ok((Box::pin(ReceiverStream::new(receiver)), token))
    }

    /// The position that a token stands for, or the oldest that can be read from.
    fn position_of(&self, token: &str) -> Result<Result<Position, HistoryGone>, Refusal> {
        let oldest = self.catalog().oldest_position();
        let head = *self.catalog().event_head().borrow();
        let position = Position::parse(token, self.origin())?;
        let kept = position.filter(|it| (oldest..=head).contains(&it.sequence));
        Ok(kept.ok_or(HistoryGone { oldest }))
    }

    fn origin(&self) -> Origin<'_> {
        Origin { store: self.catalog().store().id(), epoch: self.catalog().epoch() }
    }

    fn expired(&self, gone: &HistoryGone) -> Refusal {
        Refusal::TokenExpired { oldest: Position::after(gone.oldest).token(self.origin()) }
    }
}

impl Watching {
    async fn run(mut self, begin: Begin, head: watch::Receiver<u64>) {
        let stopped = match self.begin(begin).await {
            Ok(()) => self.live(head).await,
            Err(stop) => stop,
        };
        if let Stop::Refused(refusal) = stopped {
            let _ = self.sender.send(Err((*refusal).into())).await;
        }
    }

    async fn begin(&mut self, begin: Begin) -> Result<(), Stop> {
        match begin {
            Begin::Live => Ok(()),
            Begin::Snapshot => match self.position.within {
                Within::Snapshot(before) => self.snapshot(before).await,
                Within::Nothing | Within::Output(_) => self.snapshot(None).await,
            },
            Begin::Reset => {
                self.position.within = Within::Snapshot(None);
                let reason = "The history behind the token is gone.".to_owned();
                self.send(Kind::Reset(api::Reset { reason })).await?;
                self.snapshot(None).await
            }
        }
    }

    /// Passes on what happens until something stops it.
    async fn live(&mut self, mut head: watch::Receiver<u64>) -> Stop {
        let (mut last_sent, mut last_bookmark) = (Instant::now(), Instant::now());
        loop {
            match self.catch_up(&mut head).await {
                Ok(true) => (last_sent, last_bookmark) = (Instant::now(), Instant::now()),
                Ok(false) => {}
                Err(stop) => return stop,
            }
            // To whom others do not exist, a bookmark would say when they do something: its token
            // moves with the heartbeats.
            let lags = self.told != self.position && self.sees_all;
            let bookmark_at = last_bookmark + BOOKMARK_PAUSE;
            let sent = tokio::select! {
                changed = head.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Stop::Gone,
                },
                () = self.sender.closed() => return Stop::Gone,
                () = self.api.drained() => return self.draining(),
                () = tokio::time::sleep_until(bookmark_at), if lags => {
                    last_bookmark = Instant::now();
                    self.send(Kind::Bookmark(api::Bookmark { snapshot_end: false })).await
                }
                () = tokio::time::sleep_until(last_sent + self.heartbeat) => {
                    last_sent = Instant::now();
                    let time = Some(convert::timestamp(Time::from(clock::now())));
                    self.send(Kind::Heartbeat(api::Heartbeat { time })).await
                }
            };
            if let Err(stop) = sent {
                return stop;
            }
        }
    }

    /// Passes on all that has happened; true if any of it was for the caller.
    async fn catch_up(&mut self, head: &mut watch::Receiver<u64>) -> Result<bool, Stop> {
        let mut has_sent = false;
        let mut last_bookmark = Instant::now();
        let newest = *head.borrow_and_update();
        while self.position.sequence < newest {
            if self.sender.is_closed() {
                return Err(Stop::Gone);
            }
            if self.api.is_draining() {
                return Err(self.draining());
            }
            let events = match self.events().await? {
                Ok(events) => events,
                Err(_) if self.on_expired == api::OnExpired::Resnapshot => {
                    self.position = Position::after(*self.api.catalog().event_head().borrow());
                    self.begin(Begin::Reset).await?;
                    return Ok(true);
                }
                Err(gone) => return Err(self.api.expired(&gone).into()),
            };
            for event in events {
                has_sent |= self.pass(&event).await?;
                self.position = Position::after(event.sequence);
            }
            // A long history that is not for the caller moves its token all the same.
            if self.sees_all
                && self.told != self.position
                && last_bookmark.elapsed() >= BOOKMARK_PAUSE
            {
                last_bookmark = Instant::now();
                self.send(Kind::Bookmark(api::Bookmark { snapshot_end: false })).await?;
            }
        }
        Ok(has_sent)
    }

    /// The next events: from memory, or from the journal for who has fallen behind.
    async fn events(&mut self) -> Result<Result<Vec<Arc<JobEvent>>, HistoryGone>, Stop> {
        let after = self.position.sequence;
        if let Ok(events) = self.api.catalog().events_after(after, EVENTS_AT_ONCE) {
            self.reader = None;
            return Ok(Ok(events));
        }
        let reader = self.reader.take();
        let read = self.api.blocking("reading events", move |operations| {
            let catalog = operations.catalog();
            let mut reader = reader.unwrap_or_else(|| catalog.event_reader());
            let events = catalog.stored_events(&mut reader, after, EVENTS_AT_ONCE)?;
            Ok((reader, events))
        });
        let (reader, events) = read.await?;
        self.reader = Some(reader);
        Ok(events.map(|events| events.into_iter().map(Arc::new).collect()))
    }

    /// Passes an event on if it is for the caller.
    async fn pass(&mut self, event: &JobEvent) -> Result<bool, Stop> {
        if !self.is_for_caller(event).await || !self.is_news(event) {
            return Ok(false);
        }
        let shown = shape::event(&self.api, event);
        let Some(span) = event.output else {
            self.position = Position::after(event.sequence);
            self.send(Kind::Event(shown)).await?;
            return Ok(true);
        };
        if !self.with_bytes {
            self.position = Position::after(event.sequence);
            let log = Some(output::sizes(span));
            self.send(Kind::Event(api::JobEvent { log, ..shown })).await?;
            return Ok(true);
        }
        let at = match self.position.within {
            Within::Output(at) if self.position.sequence + 1 == event.sequence => at,
            Within::Output(_) | Within::Nothing | Within::Snapshot(_) => span.from,
        };
        let mut rest = output::Rest::new(event, span, at);
        loop {
            let (left, part) = rest.next(&self.api).await?;
            rest = left;
            self.position = match part.next {
                Some(at) => Position { sequence: event.sequence - 1, within: Within::Output(at) },
                None => Position::after(event.sequence),
            };
            let log = Some(part.log);
            self.send(Kind::Event(api::JobEvent { log, ..shown.clone() })).await?;
            if part.next.is_none() {
                return Ok(true);
            }
        }
    }

    async fn is_for_caller(&self, event: &JobEvent) -> bool {
        self.is_wanted(shape::event_type(event.kind)) && self.is_selected(event).await
    }

    /// Whether the snapshot has not told it already.
    fn is_news(&mut self, event: &JobEvent) -> bool {
        matches!(event.kind, EventKind::Deleted | EventKind::Log | EventKind::Matched)
            || !self.shown.covers(event)
    }

    fn is_wanted(&self, kind: api::EventType) -> bool {
        if self.types.is_empty() {
            kind != api::EventType::Log || self.with_bytes
        } else {
            self.types.contains(&kind)
        }
    }

    /// Whether the filter selects the job of an event. Output belongs to the state before it.
    async fn is_selected(&self, event: &JobEvent) -> bool {
        let known = match &event.job {
            Some(job) => Some(Arc::clone(job)),
            None => self.api.job(event.id).await.ok(),
        };
        let Some(job) = known else {
            // Its folder is gone. What was known of it then is in the event.
            return match &event.outline {
                Some(outline) => self.filter.matches_outline(event.id, outline),
                None => self.filter.selects_unknown(event.id),
            };
        };
        let kind = match event.kind {
            EventKind::Log => event.previous.unwrap_or_else(|| job.state.kind()),
            EventKind::Created
            | EventKind::Started
            | EventKind::Updated
            | EventKind::Ended
            | EventKind::Matched
            | EventKind::Deleted => job.state.kind(),
        };
        self.filter.matches_as(&job, kind)
    }

    fn draining(&self) -> Stop {
        let token = self.first_token.clone();
        let token = token.unwrap_or_else(|| self.position.token(self.api.origin()));
        Refusal::Draining { resume_at: ResumeAt::Token(token) }.into()
    }

    async fn send(&mut self, kind: Kind) -> Result<(), Stop> {
        let resume_token = self.position.token(self.api.origin());
        let message = api::WatchEventsResponse { resume_token, kind: Some(kind) };
        self.permit.note_message(message.encoded_len())?;
        let before = self.told;
        self.told = self.position;
        tokio::select! {
            sent = self.sender.send(Ok(message)) => {
                self.first_token = None;
                sent.map_err(|_| Stop::Gone)
            }
            () = self.api.drained() => {
                // This message does not go out any more.
                self.position = before;
                Err(self.draining())
            }
        }
    }
}
