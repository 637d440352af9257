//! One connection as the HTTP/2 server sees it: bytes in and out, and who is at the other end.
//!
//! It ends by itself if it has not spoken HTTP/2 in time or if its seat is given to another.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::seats::Seat;
use crate::access::{Peer, Place};

/// What a client must have sent in time: the preface of HTTP/2 and the head of the frame after it
/// (RFC 9113, 3.4 and 4.1).
const GREETING_BYTES: usize = 24 + 9;

/// A connection that was accepted and, where TLS is spoken, has shaken hands.
pub(super) struct Connection {
    stream: Stream,
    peer: Peer,
    seat: Seat,
    greeting: Option<Greeting>,
    /// Why it had to go.
    cut: Option<Cut>,
}

/// Why a connection has to go.
#[derive(Clone, Copy, Debug)]
enum Cut {
    SeatTaken,
    Silent,
}

/// The bytes themselves.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Resolves when it is too late for a greeting.
pub(super) type Patience = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A greeting that has not come yet.
struct Greeting {
    bytes_left: usize,
    patience: Patience,
}

impl Connection {
    /// A connection that has to speak before `patience` ends.
    pub(super) fn new(stream: Stream, place: Place, seat: Seat, patience: Patience) -> Connection {
        let peer = Peer::new(place, seat.admission.clone());
        let greeting = Some(Greeting { bytes_left: GREETING_BYTES, patience });
        Connection { stream, peer, seat, greeting, cut: None }
    }

    /// An error once the connection has to go.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.cut.is_none() {
            self.cut = self.poll_cut(context);
        }
        match self.cut {
            None => Ok(()),
            Some(Cut::SeatTaken) => Err(io::ErrorKind::ConnectionAborted.into()),
            Some(Cut::Silent) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn poll_cut(&mut self, context: &mut Context<'_>) -> Option<Cut> {
        if Pin::new(&mut self.seat.cut).poll(context).is_ready()
            || self.peer.admission.is_unwelcome()
        {
            return Some(Cut::SeatTaken);
        }
        let greeting = self.greeting.as_mut()?;
        greeting.patience.as_mut().poll(context).is_ready().then_some(Cut::Silent)
    }

    fn note_read(&mut self, bytes: usize) {
        self.peer.received.add(bytes);
        if let Some(greeting) = &mut self.greeting {
            greeting.bytes_left = greeting.bytes_left.saturating_sub(bytes);
            if greeting.bytes_left == 0 {
                self.greeting = None;
            }
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Does the same with whichever stream there is.
macro_rules! with_stream {
    ($connection:expr, $stream:ident => $action:expr) => {
        match &mut $connection.stream {
            Stream::Unix($stream) => {
                let $stream = Pin::new($stream);
                $action
            }
            Stream::Tcp($stream) => {
                let $stream = Pin::new($stream);
                $action
            }
            Stream::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $action
            }
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = buffer.filled().len();
        let read = with_stream!(self, stream => stream.poll_read(context, buffer));
        self.note_read(buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // While nothing can be written nothing is read either.
        self.check(context)?;
        with_stream!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        with_stream!(self, stream => stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Unix(stream) => stream.is_write_vectored(),
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        with_stream!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        with_stream!(self, stream => stream.poll_shutdown(context))
    }
}
