//! The bytes that a LOG event tells of, read from the logs at the pace of the reader.

use crate::{
    api::{self, tail_log_response::Kind},
    job::{JobId, OutputSize, Time},
    operations::OperationError,
    service::{JobApi, status::Refusal, tail::Shaper},
    store::{JobEvent, LogReader, OutputSpan, Piece},
};

/// The most bytes of one message.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The most chunks of one message.
const CHUNKS_MAX: usize = 256;

/// What a LOG event tells of, not yet passed on.
pub(super) struct Rest {
    id: JobId,
    time: Time,
    span: OutputSpan,
    /// Where the next message begins.
    at: [u64; 2],
    reader: Option<LogReader>,
}

/// A part of it that makes one message.
pub(super) struct Part {
    pub(super) log: api::LogAppended,
    /// Where the next part begins; none after the last.
    pub(super) next: Option<[u64; 2]>,
}

/// What a LOG event tells without the bytes.
pub(super) fn sizes(span: OutputSpan) -> api::LogAppended {
    let [stdout, stderr] = span.to;
    api::LogAppended {
        attempt: span.attempt,
        sizes: Some(api::LogOffsets { stdout, stderr }),
        ..api::LogAppended::default()
    }
}

impl Rest {
    /// All that an event tells of, from `at` on.
    pub(super) fn new(event: &JobEvent, span: OutputSpan, at: [u64; 2]) -> Self {
        Self { id: event.id, time: event.time, span, at, reader: None }
    }

    /// Reads the next part.
    pub(super) async fn next(mut self, api: &JobApi) -> Result<(Self, Part), Refusal> {
        api.blocking("reading output", move |operations| {
            let dir = operations.catalog().store().job_dir(self.id);
            let is_there = dir.path().exists();
            let mut reader = match self.reader.take() {
                Some(reader) => reader,
                None => LogReader::open(&dir, [true, true], self.at)?,
            };
            let mut shaper = Shaper::new(api::LogEncoding::Bytes);
            let (mut log, mut bytes) = (sizes(self.span), 0);
            while bytes < MESSAGE_BYTES_MAX
                && log.chunks.len() + log.gaps.len() < CHUNKS_MAX
                && let Some(piece) = self.piece(&mut reader, MESSAGE_BYTES_MAX - bytes, is_there)?
            {
                if let Piece::Data { bytes: data, .. } = &piece {
                    bytes += data.len();
                }
                let reason = if is_there { None } else { Some("deleted") };
                for kind in shaper.shape(piece) {
                    match kind {
                        Kind::Chunk(chunk) => log.chunks.push(chunk),
                        Kind::Gap(gap) => {
                            let reason = reason.map_or(gap.reason, str::to_owned);
                            log.gaps.push(api::LogGap { reason, ..gap });
                        }
                        Kind::Header(_) | Kind::Heartbeat(_) | Kind::End(_) => {}
                    }
                }
            }
            let is_over = self.at == self.span.to;
            if !is_over {
                let [stdout, stderr] = self.at;
                log.sizes = Some(api::LogOffsets { stdout, stderr });
            }
            let part = Part { log, next: (!is_over).then_some(self.at) };
            self.reader = Some(reader);
            Ok((self, part))
        })
        .await
    }

    /// The next piece within the span; `None` at its end.
    fn piece(
        &mut self,
        reader: &mut LogReader,
        bytes_max: usize,
        is_there: bool,
    ) -> Result<Option<Piece>, OperationError> {
        while self.at != self.span.to {
            let next = if is_there { reader.next(bytes_max)? } else { None };
            let sizes = self.span.to.map(|size_bytes| OutputSize { size_bytes, dropped_bytes: 0 });
            // What the index does not tell of may be in the logs all the same.
            let piece = if next.is_some() { next } else { reader.rest(sizes, self.time)? };
            let Some(piece) = piece else {
                self.at = self.span.to;
                break;
            };
            let (stream, end) = match &piece {
                Piece::Data { stream, offset, bytes, .. } => (*stream, offset + bytes.len() as u64),
                Piece::Gap { stream, to, .. } => (*stream, *to),
            };
            let place = stream.place();
            let limit = self.span.to[place];
            if let Some(piece) = clipped(piece, limit) {
                self.at[place] = end.min(limit);
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}

/// What of a piece lies before `limit`.
fn clipped(piece: Piece, limit: u64) -> Option<Piece> {
    match piece {
        Piece::Data { stream, offset, time, mut bytes } => {
            let length = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX);
            bytes.truncate(length);
            (!bytes.is_empty()).then_some(Piece::Data { stream, offset, time, bytes })
        }
        Piece::Gap { stream, from, to, reason } => {
            let to = to.min(limit);
            (from < to).then_some(Piece::Gap { stream, from, to, reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{GapReason, Stream};

    #[test]
    fn what_lies_beyond_the_span_is_left_for_the_next() {
        let stream = Stream::Stdout;
        let time = Time::from_nanos(1);
        let data = |bytes: &[u8]| Piece::Data { stream, offset: 5, time, bytes: bytes.to_vec() };
        assert_eq!(clipped(data(b"abc"), 9), Some(data(b"abc")));
        assert_eq!(clipped(data(b"abc"), 7), Some(data(b"ab")));
        assert_eq!(clipped(data(b"abc"), 5), None);
        let gap = |to| Piece::Gap { stream, from: 5, to, reason: GapReason::Truncated };
        assert_eq!(clipped(gap(9), 7), Some(gap(7)));
        assert_eq!(clipped(gap(9), 4), None);
    }
}
