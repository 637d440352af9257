//! The output of a job as one stream, whatever happens to the connections that bring it.

use tonic::Streaming;

use crate::api::{
    LogChunk, LogOffsets, LogStream, TailLogRequest, TailLogResponse,
    job_service_client::JobServiceClient, log_chunk::Content, tail_log_request::Start,
    tail_log_response::Kind,
};

use super::{Backoff, Client, Error, Token, wait::AWAY_MAX};

/// Follows the output of a job: each byte comes once, in order.
///
/// After a lost connection it goes on at the byte where it was, for as long as the service is
/// not away for more than a minute; and so it does with a new token when the old one is revoked.
#[derive(Debug)]
pub struct LogFollower {
    client: Client,
    request: TailLogRequest,
    stream: Option<Streaming<TailLogResponse>>,
    /// The one that the stream was opened with.
    token: Option<Token>,
    place: Place,
    backoff: Backoff,
    is_over: bool,
}

/// How far the output has come.
#[derive(Debug, Default)]
struct Place {
    /// Set by the first header: only then is it known where the output began.
    attempt: Option<u32>,
    offsets: LogOffsets,
    /// Raw bytes that were given out.
    taken: u64,
}

impl LogFollower {
    pub(super) fn new(client: Client, request: TailLogRequest) -> LogFollower {
        LogFollower {
            client,
            request,
            stream: None,
            token: None,
            place: Place::default(),
            backoff: Backoff::new(AWAY_MAX),
            is_over: false,
        }
    }

    /// The next message: one header, then chunks and gaps, and one end; `None` after the end.
    ///
    /// Heartbeats are not told. The future may be dropped at any time: nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Kind>, Error> {
        while !self.is_over {
            match self.receive().await {
                Ok(message) => {
                    self.backoff.reset();
                    if let Some(kind) = self.place.admit(message) {
                        self.is_over = matches!(kind, Kind::End(_));
                        return Ok(Some(kind));
                    }
                }
                Err(error) if error.is_passing() || self.is_renewed_after(&error) => {
                    self.stream = None;
                    self.backoff.pause(error).await?;
                }
                Err(error) => {
                    self.is_over = true;
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Whether an open stream was ended for its token, and there is a new one.
    fn is_renewed_after(&self, error: &Error) -> bool {
        self.stream.is_some() && self.client.renewed_token(error, self.token.as_ref()).is_some()
    }

    /// The next message of the open stream, after opening one if there is none.
    async fn receive(&mut self) -> Result<TailLogResponse, Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            closed => {
                let request = self.place.resume(&self.request);
                let call = async |mut service: JobServiceClient<_>, request| {
                    service.tail_log(request).await
                };
                let answer = self.client.send(&request, call).await?;
                self.token = answer.token;
                closed.insert(answer.response.into_inner())
            }
        };
        match stream.message().await? {
            Some(message) => Ok(message),
            // A stream without an end was cut off, however politely.
            None => Err(Error::from(tonic::Status::unavailable("the stream has no end"))),
        }
    }
}

impl Place {
    /// The request that goes on where the output is.
    fn resume(&self, first: &TailLogRequest) -> TailLogRequest {
        let Some(attempt) = self.attempt else {
            return first.clone();
        };
        let max_bytes = match first.max_bytes {
            0 => 0,
            // Zero would lift the limit. The service may give one byte too many instead, but then
            // the stream has already reached its limit and was about to end.
            most => most.saturating_sub(self.taken).max(1),
        };
        TailLogRequest {
            attempt,
            start: Some(Start::Offsets(self.offsets)),
            max_bytes,
            ..first.clone()
        }
    }

    /// What is new in `message`, with the place moved behind it.
    fn admit(&mut self, message: TailLogResponse) -> Option<Kind> {
        match message.kind? {
            Kind::Header(header) => {
                if self.attempt.is_some() {
                    return None;
                }
                self.attempt = Some(header.attempt);
                self.offsets = header.start_offsets.unwrap_or_default();
                Some(Kind::Header(header))
            }
            Kind::Chunk(chunk) => self.admit_chunk(chunk).map(Kind::Chunk),
            Kind::Gap(gap) => {
                let offset = self.offset(gap.stream());
                if gap.to <= *offset {
                    return None;
                }
                *offset = gap.to;
                Some(Kind::Gap(gap))
            }
            Kind::Heartbeat(_) => None,
            Kind::End(end) => Some(Kind::End(end)),
        }
    }

    fn admit_chunk(&mut self, mut chunk: LogChunk) -> Option<LogChunk> {
        let offset = self.offset(chunk.stream());
        if chunk.end_offset <= *offset {
            return None;
        }
        let known = offset.saturating_sub(chunk.offset);
        *offset = chunk.end_offset;
        if known > 0
            && let Some(Content::Data(data)) = &mut chunk.content
        {
            let known = usize::try_from(known).unwrap_or(usize::MAX).min(data.len());
            *data = data.slice(known..);
            chunk.offset += known as u64;
        }
        self.taken += chunk.end_offset - chunk.offset;
        Some(chunk)
    }

    fn offset(&mut self, stream: LogStream) -> &mut u64 {
        match stream {
            LogStream::Stderr => &mut self.offsets.stderr,
            LogStream::Stdout | LogStream::Unspecified => &mut self.offsets.stdout,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::api::{Heartbeat, LogGap, LogHeader};

    use super::*;

    fn message(kind: Kind) -> TailLogResponse {
        TailLogResponse { kind: Some(kind) }
    }

    fn chunk(stream: LogStream, offset: u64, data: &[u8]) -> TailLogResponse {
        message(Kind::Chunk(LogChunk {
            stream: stream.into(),
            offset,
            end_offset: offset + data.len() as u64,
            time: None,
            content: Some(Content::Data(data.to_vec().into())),
        }))
    }

    fn header(stdout: u64) -> TailLogResponse {
        message(Kind::Header(LogHeader {
            attempt: 2,
            start_offsets: Some(LogOffsets { stdout, stderr: 0 }),
            sizes: None,
        }))
    }

    #[test]
    fn before_the_header_the_first_request_is_repeated() {
        let first = TailLogRequest { start: Some(Start::LastLines(3)), ..Default::default() };
        assert_eq!(Place::default().resume(&first), first);
    }

    #[test]
    fn after_a_cut_the_stream_goes_on_at_its_last_offsets_in_the_same_attempt() {
        let first = TailLogRequest {
            start: Some(Start::LastLines(3)),
            max_bytes: 10,
            follow: true,
            ..Default::default()
        };
        let mut place = Place::default();
        assert!(place.admit(header(100)).is_some());
        assert!(place.admit(chunk(LogStream::Stdout, 100, b"abc")).is_some());
        assert!(place.admit(chunk(LogStream::Stderr, 0, b"x")).is_some());
        let gap =
            LogGap { stream: LogStream::Stderr.into(), from: 1, to: 5, reason: String::new() };
        assert!(place.admit(message(Kind::Gap(gap))).is_some());
        let resumed = place.resume(&first);
        assert_eq!(resumed.start, Some(Start::Offsets(LogOffsets { stdout: 103, stderr: 5 })));
        assert_eq!((resumed.attempt, resumed.max_bytes, resumed.follow), (2, 6, true));
    }

    #[test]
    fn a_second_header_a_heartbeat_and_known_bytes_are_not_told_again() {
        let mut place = Place::default();
        place.admit(header(0));
        place.admit(chunk(LogStream::Stdout, 0, b"abc"));
        assert_eq!(place.admit(header(3)), None);
        assert_eq!(place.admit(message(Kind::Heartbeat(Heartbeat::default()))), None);
        assert_eq!(place.admit(chunk(LogStream::Stdout, 0, b"abc")), None);
        let Some(Kind::Chunk(rest)) = place.admit(chunk(LogStream::Stdout, 1, b"bcde")) else {
            panic!("the new part of a chunk is told");
        };
        assert_eq!(rest.content, Some(Content::Data(b"de".to_vec().into())));
        assert_eq!((rest.offset, rest.end_offset), (3, 5));
    }
}
