//! `TailLog`: output from the files, at the pace of the reader.
//!
//! A stream is a position and at most two batches of pieces: one that is sent, one that is read
//! meanwhile. Notices say "look again"; what is sent is what is in the files. A reader that stops
//! holds two batches and nobody up.

mod pieces;
mod start;

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::{
    BoxStream, JobApi,
    caller::Caller,
    convert,
    follow::Follower,
    status::{Refusal, ResumeAt},
    streams::{Stop, StreamPermit},
    turns,
};
use crate::{
    api::{self, tail_log_response::Kind},
    catalog::Seen,
    job::{Job, JobId, Time, Violation},
    operations::OperationError,
    store::{LogReader, Piece},
    sys::clock,
};

pub(super) use self::pieces::Shaper;

use self::start::Start;

/// The most bytes of one chunk.
const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// The most bytes that are read before they are sent. While one batch is sent the next is read,
/// so a reader that stops holds two of them up.
const BATCH_BYTES_MAX: usize = 128 * 1024;
/// Messages that wait for the connection to take them.
const MESSAGES_WAITING_MAX: usize = 1;
/// After a small batch the next is read this much later, so that a job that writes byte by byte
/// does not become a message for each. A lone line is not delayed.
const SMALL_BATCH_PAUSE: Duration = Duration::from_millis(3);
const SMALL_BATCH_BYTES: usize = 256;

type Sender = mpsc::Sender<Result<api::TailLogResponse, Status>>;

/// A reader, and what it read.
type Batch = (LogReader, Vec<Piece>);

/// One `TailLog` stream.
struct Tail {
    api: JobApi,
    id: JobId,
    sender: Sender,
    follower: Option<Follower>,
    reader: Option<LogReader>,
    /// The next batch, which is being read while the last is sent.
    ahead: Option<JoinHandle<Result<Batch, OperationError>>>,
    shaper: Shaper,
    /// Where a new call goes on after what has been sent.
    sent: [u64; 2],
    heartbeat: Duration,
    bytes_left: Option<u64>,
    permit: StreamPermit,
}

impl JobApi {
    pub(super) async fn tail_log(
        &self,
        caller: Caller,
        request: Request<api::TailLogRequest>,
    ) -> Result<BoxStream<api::TailLogResponse>, Refusal> {
        let api::TailLogRequest {
            job_id,
            streams,
            start,
            follow,
            encoding,
            max_bytes,
            heartbeat_interval,
            attempt,
        } = request.into_inner();
        let streams: Vec<api::LogStream> = convert::choices("streams", &streams)?;
        let is_wanted = |stream| streams.is_empty() || streams.contains(&stream);
        let wanted = [is_wanted(api::LogStream::Stdout), is_wanted(api::LogStream::Stderr)];
        let start = Start::parse(start)?;
        let encoding = convert::choice("encoding", encoding)?;
        let heartbeat = convert::heartbeat_interval("heartbeat_interval", heartbeat_interval)?;
        let id = self.resolve(&caller, &job_id).await?;
        self.seen_job(&caller, id).await?;
        let permit = self.stream_permit(&caller, true)?;

        // Before the first read: what is written in between is noticed.
        let dir = self.catalog().store().job_dir(id);
        let follower = follow.then(|| self.0.follow.follow(&dir, id));
        let job = self.job(id).await?;
        if attempt > job.state.attempt() {
            let rule = format!("the job has had {} attempts", job.state.attempt());
            return Err(Violation::new("attempt", rule).into());
        }
        let opened = self.blocking("opening the output of a job", move |_| {
            Ok(start.open(&dir, wanted, &job)?.map(|(reader, header)| (reader, header, job)))
        });
        let (reader, header, job) = match opened.await? {
            Ok(opened) => opened,
            Err(beyond) => return Err(beyond.into_refusal()),
        };
        let (sender, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
        let tail = Tail {
            api: self.clone(),
            id,
            sender,
            follower,
            sent: reader.offsets(),
            reader: Some(reader),
            ahead: None,
            shaper: Shaper::new(encoding),
            heartbeat,
            bytes_left: (max_bytes > 0).then_some(max_bytes),
            permit,
        };
        let header = api::LogHeader { attempt: job.state.attempt(), ..header };
        tokio::spawn(turns::shared(tail.run(header)));
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

/// Why a round of reading came to its end.
enum Round {
    /// There is nothing new.
    Empty,
    /// Something was sent; that many bytes.
    Sent(usize),
    /// As many bytes as were asked for have been sent.
    Limit,
}

impl Tail {
    async fn run(mut self, header: api::LogHeader) {
        let stopped = match self.send(Kind::Header(header)).await {
            Ok(()) => self.stream().await,
            Err(stop) => Err(stop),
        };
        if let Err(Stop::Refused(refusal)) = stopped {
            let _ = self.sender.send(Err((*refusal).into())).await;
        }
    }

    async fn stream(&mut self) -> Result<(), Stop> {
        let mut last_sent = Instant::now();
        loop {
            if let Some(follower) = &mut self.follower {
                follower.mark();
            }
            // The job first: if it has ended by now, all its output is there to be read.
            let job = match self.api.job(self.id).await {
                Ok(job) => job,
                Err(Refusal::NotFound { .. }) => return self.end_deleted().await,
                Err(refusal) => return Err(refusal.into()),
            };
            match self.round(&job).await? {
                Round::Sent(bytes) => {
                    last_sent = Instant::now();
                    if bytes < SMALL_BATCH_BYTES && self.follower.is_some() {
                        tokio::time::sleep(SMALL_BATCH_PAUSE).await;
                    }
                    continue;
                }
                Round::Limit => return self.end(api::LogEndReason::Limit, &job, false).await,
                Round::Empty => {}
            }
            if job.state.is_ended() {
                if self.api.is_removed(self.id).await {
                    return self.end_deleted().await;
                }
                return self.end(api::LogEndReason::Terminal, &job, true).await;
            }
            if self.follower.is_none() {
                return self.end(api::LogEndReason::Snapshot, &job, false).await;
            }
            if self.wait(&job, last_sent + self.heartbeat).await? {
                last_sent = Instant::now();
            }
        }
    }

    /// Reads a batch and sends it.
    async fn round(&mut self, job: &Arc<Job>) -> Result<Round, Stop> {
        if self.bytes_left == Some(0) {
            return Ok(Round::Limit);
        }
        let mut pieces = Vec::new();
        if let Some(ahead) = self.ahead.take() {
            pieces = self.batch(ahead).await?;
        }
        if pieces.is_empty() {
            // What was read ahead was read before the job was looked at.
            let reading = self.read(job)?;
            pieces = self.batch(reading).await?;
        }
        if pieces.is_empty() {
            return Ok(Round::Empty);
        }
        let sent: usize = pieces.iter().map(data_bytes).sum();
        self.bytes_left = self.bytes_left.map(|left| left - sent as u64);
        if sent == BATCH_BYTES_MAX && self.bytes_left != Some(0) {
            self.ahead = Some(self.read(job)?);
        }
        for piece in pieces {
            for kind in self.shaper.shape(piece) {
                self.send(kind).await?;
            }
        }
        Ok(Round::Sent(sent))
    }

    /// Begins to read the next batch, on a thread that may block.
    fn read(&mut self, job: &Job) -> Result<JoinHandle<Result<Batch, OperationError>>, Stop> {
        let limit = self.bytes_left.unwrap_or(u64::MAX).min(BATCH_BYTES_MAX as u64);
        let limit = usize::try_from(limit).unwrap_or(BATCH_BYTES_MAX);
        let Some(mut reader) = self.reader.take() else { return Err(Stop::Gone) };
        let end = job.state.end().map(|end| ([end.stdout, end.stderr], end.time));
        Ok(tokio::task::spawn_blocking(move || {
            let pieces = read_batch(&mut reader, limit, end)?;
            Ok((reader, pieces))
        }))
    }

    async fn batch(
        &mut self,
        reading: JoinHandle<Result<Batch, OperationError>>,
    ) -> Result<Vec<Piece>, Stop> {
        const DOING: &str = "reading output";
        // If it panicked, the panic itself is in the log.
        let read = reading.await.map_err(|_| Refusal::Internal { doing: DOING })?;
        let (reader, pieces) = read.map_err(|error| self.api.refusal(DOING, error))?;
        self.reader = Some(reader);
        Ok(pieces)
    }

    /// Waits for something new; true if a heartbeat was sent instead.
    async fn wait(&mut self, job: &Job, heartbeat_at: Instant) -> Result<bool, Stop> {
        let Some(follower) = &mut self.follower else { return Ok(false) };
        let changes = self.api.catalog().subscribe(self.id);
        let known = job.revision;
        let news = async {
            match changes {
                // It has ended since it was read.
                None => {}
                Some(mut changes) => {
                    let is_new = |seen: &Seen| match seen {
                        Seen::Job(job) => job.revision > known,
                        Seen::Deleted => true,
                    };
                    let _ = changes.wait_for(is_new).await;
                }
            }
        };
        tokio::select! {
            () = follower.grown() => Ok(false),
            () = news => Ok(false),
            () = self.sender.closed() => Err(Stop::Gone),
            () = self.api.drained() => Err(self.draining()),
            () = tokio::time::sleep_until(heartbeat_at) => {
                let time = Some(convert::timestamp(Time::from(clock::now())));
                self.send(Kind::Heartbeat(api::Heartbeat { time })).await?;
                Ok(true)
            }
        }
    }

    async fn end(
        &mut self,
        reason: api::LogEndReason,
        job: &Job,
        complete: bool,
    ) -> Result<(), Stop> {
        if complete {
            for kind in self.shaper.finish() {
                self.send(kind).await?;
            }
        }
        // What is held back of a split character otherwise comes with the next call.
        let [stdout, stderr] = self.sent;
        let end = api::LogEnd {
            reason: reason.into(),
            offsets: Some(api::LogOffsets { stdout, stderr }),
            complete,
            job: Some(self.api.shown(job)),
        };
        self.send(Kind::End(end)).await
    }

    async fn end_deleted(&mut self) -> Result<(), Stop> {
        let [stdout, stderr] = self.sent;
        let end = api::LogEnd {
            reason: api::LogEndReason::Deleted.into(),
            offsets: Some(api::LogOffsets { stdout, stderr }),
            complete: false,
            job: None,
        };
        self.send(Kind::End(end)).await
    }

    fn draining(&self) -> Stop {
        Refusal::Draining { resume_at: ResumeAt::Offsets(self.sent) }.into()
    }

    async fn send(&mut self, kind: Kind) -> Result<(), Stop> {
        let end = match &kind {
            Kind::Chunk(chunk) => Some((chunk.stream(), chunk.end_offset)),
            Kind::Gap(gap) => Some((gap.stream(), gap.to)),
            Kind::Header(_) | Kind::Heartbeat(_) | Kind::End(_) => None,
        };
        let message = api::TailLogResponse { kind: Some(kind) };
        self.permit.note_message(message.encoded_len())?;
        tokio::select! {
            sent = self.sender.send(Ok(message)) => sent.map_err(|_| Stop::Gone)?,
            // While the reader does not read, the service may still drain.
            () = self.api.drained() => return Err(self.draining()),
        }
        match end {
            Some((api::LogStream::Stderr, end)) => self.sent[1] = end,
            Some((api::LogStream::Stdout | api::LogStream::Unspecified, end)) => self.sent[0] = end,
            None => {}
        }
        Ok(())
    }
}

/// How many bytes a piece brings.
fn data_bytes(piece: &Piece) -> usize {
    match piece {
        Piece::Data { bytes, .. } => bytes.len(),
        Piece::Gap { .. } => 0,
    }
}

fn read_batch(
    reader: &mut LogReader,
    limit: usize,
    end: Option<([crate::job::OutputSize; 2], Time)>,
) -> Result<Vec<Piece>, OperationError> {
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    while bytes < limit {
        let piece = match reader.next(CHUNK_BYTES_MAX.min(limit - bytes))? {
            Some(piece) => piece,
            None => match end.map(|(sizes, time)| reader.rest(sizes, time)) {
                Some(Ok(Some(piece))) => piece,
                Some(Ok(None)) | None => break,
                Some(Err(error)) => return Err(error.into()),
            },
        };
        bytes += data_bytes(&piece);
        pieces.push(piece);
    }
    Ok(pieces)
}
