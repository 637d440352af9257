//! HTTP/2 frames by hand (RFC 9113), for clients that do not keep to the rules.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What a connection begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The last word before the service closes: what it accuses the client of.
pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;

const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames are short");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The headers of a call of `path`, packed without any table (RFC 7541, 6.2.2 and 6.1).
pub(crate) fn call_headers(path: &str) -> Vec<u8> {
    let post_http = [0x83, 0x86];
    let mut block = post_http.to_vec();
    block.extend(named_by(4, path));
    block.extend(named_by(1, "localhost"));
    block.extend(field("content-type", "application/grpc"));
    block.extend(field("te", "trailers"));
    block
}

/// A header field that is not kept in a table.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(text(name));
    bytes.extend(text(value));
    bytes
}

fn named_by(index: u8, value: &str) -> Vec<u8> {
    let mut bytes = vec![index];
    bytes.extend(text(value));
    bytes
}

/// A text with its length in front (RFC 7541, 5.1 and 5.2).
fn text(value: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut length = value.len();
    if length < 127 {
        bytes.push(u8::try_from(length).expect("it is small"));
    } else {
        bytes.push(127);
        length -= 127;
        while length >= 128 {
            bytes.push(u8::try_from(length % 128).expect("it is small") | 128);
            length /= 128;
        }
        bytes.push(u8::try_from(length).expect("it is small"));
    }
    bytes.extend(value.as_bytes());
    bytes
}

/// A frame that opens a call; more headers follow unless `is_whole`.
pub(crate) fn headers(stream: u32, block: &[u8], is_whole: bool) -> Vec<u8> {
    frame(HEADERS, if is_whole { END_HEADERS } else { 0 } | END_STREAM, stream, block)
}

/// More headers of a call.
pub(crate) fn continuation(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(CONTINUATION, 0, stream, block)
}

/// Takes a call back.
pub(crate) fn reset(stream: u32) -> Vec<u8> {
    let cancel = 8_u32;
    frame(RST_STREAM, 0, stream, &cancel.to_be_bytes())
}

/// A connection on which HTTP/2 has begun.
pub(crate) async fn begin(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("it is listened on");
    stream.write_all(PREFACE).await.expect("it is read");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.expect("it is read");
    stream
}

/// Reads to the end of the connection; tells the code of the GOAWAY before it, if one came.
pub(crate) async fn farewell(mut stream: impl tokio::io::AsyncRead + Unpin) -> Option<u32> {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut bytes).await;
    let mut code = None;
    let mut rest = &bytes[..];
    while let Some((head, more)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let Some((payload, more)) = more.split_at_checked(length as usize) else { break };
        if head[3] == GOAWAY {
            code = payload.get(4..8).and_then(|it| it.try_into().ok()).map(u32::from_be_bytes);
        }
        rest = more;
    }
    code
}
