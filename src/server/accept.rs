//! Takes connections: gives each a seat, lets it shake hands, finds out who is at its other end.
//!
//! Handshakes run beside each other and none holds up the next connection.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream as Incoming, StreamExt as _, wrappers::ReceiverStream};

use super::{
    connection::{Connection, Patience, Stream},
    seats::{Seat, Seats},
    tls::{self, Tls},
};
use crate::access::Place;

/// How long a connection may take to shake hands and to begin with HTTP/2.
const GREETING_LIMIT: Duration = Duration::from_secs(10);

/// How long nothing is accepted after it went wrong: the system is short of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How far apart lines about the same trouble are.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How many connections wait for the HTTP/2 server to take them.
const READY_MAX: usize = 64;

/// A socket that is listened on.
pub(super) enum Socket {
    Unix(UnixListener),
    /// With what is spoken on it.
    Tcp(TcpListener, Option<Arc<Tls>>),
}

/// The connections that come to `socket`, at most `most` at once. Dropping it closes the socket;
/// once the service drains, those that have not begun with HTTP/2 go.
pub(super) fn incoming(
    socket: Socket,
    most: usize,
    drain: watch::Receiver<bool>,
) -> impl Incoming<Item = Result<Connection, Infallible>> {
    let (ready, connections) = mpsc::channel(READY_MAX);
    let (seats, trouble) = (Seats::new(most), Trouble::default());
    let acceptor = Acceptor { socket, seats, ready, drain, trouble };
    tokio::spawn(acceptor.run());
    ReceiverStream::new(connections).map(Ok)
}

struct Acceptor {
    socket: Socket,
    seats: Arc<Seats>,
    ready: mpsc::Sender<Connection>,
    drain: watch::Receiver<bool>,
    trouble: Trouble,
}

/// A connection that nothing is known of yet.
enum Accepted {
    Unix(UnixStream),
    Tcp(TcpStream, SocketAddr),
}

impl Acceptor {
    async fn run(mut self) {
        // Those that have not shaken hands end with this task.
        let mut handshakes = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = self.ready.closed() => return,
                Some(_) = handshakes.join_next() => continue,
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => self.take(accepted, &mut handshakes).await,
                Err(error) => self.pause(&error).await,
            }
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match &self.socket {
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::Unix(stream))
            }
            Socket::Tcp(listener, _) => {
                let (stream, address) = listener.accept().await?;
                Ok(Accepted::Tcp(stream, address))
            }
        }
    }

    /// Gives a connection its seat and lets it shake hands, if it has to, beside this task.
    async fn take(&mut self, accepted: Accepted, handshakes: &mut JoinSet<()>) {
        let patience = self.patience();
        let Some(seat) = self.seats.take().await else {
            self.trouble.tell("every connection is in use: a new one was closed", None);
            return;
        };
        let (stream, place) = match accepted {
            Accepted::Unix(stream) => {
                let Ok(credentials) = stream.peer_cred() else { return };
                let (uid, gid) = (credentials.uid(), credentials.gid());
                (Stream::Unix(stream), Place::Unix { pid: credentials.pid(), uid, gid })
            }
            Accepted::Tcp(stream, address) => {
                // Answers are small and waited for. It fails only if the peer has gone.
                let _ = stream.set_nodelay(true);
                if let Socket::Tcp(_, Some(tls)) = &self.socket {
                    let (client, acceptor) = (Client { address, seat, patience }, tls.acceptor());
                    let ready = self.ready.clone();
                    handshakes.spawn(async move {
                        if let Some(connection) = client.shake(acceptor, stream).await {
                            let _ = ready.send(connection).await;
                        }
                    });
                    return;
                }
                let place = Place::Tcp { address, is_encrypted: false, certificate: None };
                (Stream::Tcp(stream), place)
            }
        };
        let connection = Connection::new(stream, place, seat, patience);
        // If nobody takes it any more the loop ends.
        let _ = self.ready.send(connection).await;
    }

    /// How long a connection that comes now may take to begin.
    fn patience(&self) -> Patience {
        let (limit, drained) =
            (tokio::time::sleep(GREETING_LIMIT), super::drained(self.drain.clone()));
        Box::pin(async move {
            tokio::select! { () = limit => {}, () = drained => {} }
        })
    }

    /// Lets the system recover. A stranger's connection goes, so that there is a descriptor again.
    async fn pause(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            // It is over with that connection alone.
            return;
        }
        self.trouble.tell("cannot accept connections; it is tried again", Some(error));
        self.seats.cut_stranger();
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Somebody who has connected and not yet shaken hands.
struct Client {
    address: SocketAddr,
    seat: Seat,
    patience: Patience,
}

impl Client {
    /// Shakes hands; none if that goes wrong, takes too long or the seat is taken away meanwhile.
    async fn shake(mut self, acceptor: TlsAcceptor, stream: TcpStream) -> Option<Connection> {
        let shaken = tokio::select! {
            _ = &mut self.seat.cut => return None,
            () = &mut self.patience => return None,
            shaken = acceptor.accept(stream) => shaken,
        };
        let Client { address, seat, patience } = self;
        let stream = match shaken {
            Ok(stream) => stream,
            Err(error) => {
                // Strangers cause it at will, so it is no warning.
                tracing::debug!(peer = %address, %error, "a TLS handshake went wrong");
                return None;
            }
        };
        let certificate = match stream.get_ref().1.peer_certificates() {
            None => None,
            // One that is trusted but cannot be read must not pass as none.
            Some(chain) => Some(Arc::new(tls::facts(chain.first()?)?)),
        };
        let place = Place::Tcp { address, is_encrypted: true, certificate };
        let stream = Stream::Tls(Box::new(stream));
        Some(Connection::new(stream, place, seat, patience))
    }
}

/// Trouble that strangers can cause as often as they like, told now and then.
#[derive(Default)]
struct Trouble(Option<Instant>);

impl Trouble {
    fn tell(&mut self, what: &str, error: Option<&io::Error>) {
        if self.0.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.0 = Some(Instant::now());
        let error = error.map(tracing::field::display);
        tracing::warn!(error, "{what}");
    }
}
