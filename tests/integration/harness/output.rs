//! What a `TailLog` stream brought.

use jobwarden::api::{
    LogChunk, LogEnd, LogEndReason, LogGap, LogHeader, LogStream, TailLogResponse,
    log_chunk::Content, tail_log_response::Kind,
};
use tonic::{Status, Streaming};

use super::within;

/// Everything of one stream of messages.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) header: Option<LogHeader>,
    pub(crate) chunks: Vec<LogChunk>,
    pub(crate) gaps: Vec<LogGap>,
    pub(crate) heartbeats: usize,
    pub(crate) end: Option<LogEnd>,
    pub(crate) error: Option<Status>,
}

/// Picks the bytes of one stream.
pub(crate) trait StreamsOf {
    fn bytes_of(&self, stream: LogStream) -> Vec<u8>;
}

impl StreamsOf for [LogChunk] {
    fn bytes_of(&self, stream: LogStream) -> Vec<u8> {
        let chunks = self.iter().filter(|chunk| chunk.stream() == stream);
        chunks.flat_map(|chunk| content(chunk).to_vec()).collect()
    }
}

fn content(chunk: &LogChunk) -> &[u8] {
    match &chunk.content {
        Some(Content::Data(bytes)) => bytes,
        Some(Content::Text(text)) => text.as_bytes(),
        None => &[],
    }
}

impl Output {
    pub(crate) fn stdout(&self) -> Vec<u8> {
        self.chunks.bytes_of(LogStream::Stdout)
    }

    pub(crate) fn stderr(&self) -> Vec<u8> {
        self.chunks.bytes_of(LogStream::Stderr)
    }

    /// Both streams in the order in which they came.
    pub(crate) fn in_order(&self) -> Vec<u8> {
        self.chunks.iter().flat_map(|chunk| content(chunk).to_vec()).collect()
    }

    pub(crate) fn reason(&self) -> LogEndReason {
        self.end.as_ref().expect("the stream has an end").reason()
    }

    /// Standard output and standard error, where a new call would go on.
    pub(crate) fn end_offsets(&self) -> (u64, u64) {
        let end = self.end.as_ref().expect("the stream has an end");
        let offsets = end.offsets.expect("an end has offsets");
        (offsets.stdout, offsets.stderr)
    }

    /// Takes one message in; checks what holds for every stream of them.
    pub(crate) fn take(&mut self, message: TailLogResponse) {
        assert!(self.end.is_none(), "a message after the end: {message:?}");
        let kind = message.kind.expect("every message has a kind");
        match kind {
            Kind::Header(header) => {
                assert!(self.chunks.is_empty() && self.header.is_none());
                self.header = Some(header);
            }
            Kind::Chunk(chunk) => {
                let start = self.header.expect("the header comes first").start_offsets;
                let start = start.expect("a header has offsets");
                let mut before = self.chunks.iter().rev();
                let before = before.find(|before| before.stream == chunk.stream);
                let expected = before.map_or(
                    if chunk.stream() == LogStream::Stdout { start.stdout } else { start.stderr },
                    |before| before.end_offset,
                );
                if self.gaps.is_empty() {
                    assert_eq!(chunk.offset, expected, "each byte comes once and in order");
                }
                if let Some(Content::Data(bytes)) = &chunk.content {
                    assert_eq!(chunk.offset + bytes.len() as u64, chunk.end_offset);
                }
                self.chunks.push(chunk);
            }
            Kind::Gap(gap) => self.gaps.push(gap),
            Kind::Heartbeat(_) => self.heartbeats += 1,
            Kind::End(end) => self.end = Some(end),
        }
    }
}

/// Reads a stream to its end or error.
pub(crate) async fn collect(mut stream: Streaming<TailLogResponse>) -> Output {
    let mut output = Output::default();
    let reading = async {
        loop {
            match stream.message().await {
                Ok(Some(message)) => output.take(message),
                Ok(None) => break,
                Err(status) => {
                    output.error = Some(status);
                    break;
                }
            }
        }
    };
    within("the end of a TailLog stream", reading).await;
    output
}
