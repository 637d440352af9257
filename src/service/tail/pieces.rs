//! Pieces of output in the form that the caller asked for.

use crate::{
    api::{self, log_chunk::Content, tail_log_response::Kind},
    job::Time,
    service::{
        convert,
        text::{TextDecoder, TextPiece},
    },
    store::{GapReason, Loss, Piece, Stream},
};

/// Turns pieces into messages; keeps at most a split character of each stream.
pub(in crate::service) struct Shaper {
    encoding: api::LogEncoding,
    decoders: [TextDecoder; 2],
    last_times: [Option<Time>; 2],
}

impl Shaper {
    pub(in crate::service) fn new(encoding: api::LogEncoding) -> Self {
        Self { encoding, decoders: Default::default(), last_times: [None, None] }
    }

    /// The messages for a piece, in order.
    pub(in crate::service) fn shape(&mut self, piece: Piece) -> Vec<Kind> {
        match piece {
            Piece::Data { stream, offset, time, bytes } => match self.encoding {
                api::LogEncoding::Text => {
                    self.last_times[stream.place()] = Some(time);
                    let text = self.decoders[stream.place()].push(offset, &bytes);
                    text.map(|text| text_chunk(stream, text, Some(time))).into_iter().collect()
                }
                api::LogEncoding::Unspecified | api::LogEncoding::Bytes => {
                    let end_offset = offset + bytes.len() as u64;
                    let content = Content::Data(bytes.into());
                    vec![chunk(stream, offset, end_offset, Some(time), content)]
                }
            },
            Piece::Gap { stream, from, to, reason } => {
                let place = stream.place();
                let held = self.decoders[place].gap();
                let time = self.last_times[place];
                let held = held.map(|text| text_chunk(stream, text, time));
                let reason = match reason {
                    GapReason::Dropped(Loss::DiskFull) => "disk_full",
                    GapReason::Dropped(Loss::IoError) => "io_error",
                    GapReason::Dropped(Loss::OutputLimit) => "output_limit",
                    GapReason::Truncated => "truncated",
                };
                let gap = api::LogGap {
                    stream: wire(stream).into(),
                    from,
                    to,
                    reason: reason.to_owned(),
                };
                held.into_iter().chain([Kind::Gap(gap)]).collect()
            }
        }
    }

    /// What is held back: there will be no more output.
    pub(super) fn finish(&mut self) -> Vec<Kind> {
        let last = Stream::BOTH.into_iter().filter_map(|stream| {
            let place = stream.place();
            let text = self.decoders[place].finish()?;
            Some(text_chunk(stream, text, self.last_times[place]))
        });
        last.collect()
    }
}

fn wire(stream: Stream) -> api::LogStream {
    match stream {
        Stream::Stdout => api::LogStream::Stdout,
        Stream::Stderr => api::LogStream::Stderr,
    }
}

fn text_chunk(stream: Stream, piece: TextPiece, time: Option<Time>) -> Kind {
    let TextPiece { offset, end_offset, text } = piece;
    chunk(stream, offset, end_offset, time, Content::Text(text))
}

fn chunk(
    stream: Stream,
    offset: u64,
    end_offset: u64,
    time: Option<Time>,
    content: Content,
) -> Kind {
    Kind::Chunk(api::LogChunk {
        stream: wire(stream).into(),
        offset,
        end_offset,
        time: time.map(convert::timestamp),
        content: Some(content),
    })
}
