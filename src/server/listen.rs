//! Addresses: bound before anything is promised, with a remedy in each error.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    net::{TcpListener, TcpSocket, UnixListener, UnixStream},
    sync::watch,
};
use tonic::transport::server::Router;

use super::{
    accept::{self, Socket},
    routes::Layers,
    tls::Tls,
};
use crate::{
    config::{Config, ListenAddress, Network},
    sys::{process, socket},
};

/// Only the account itself may connect, and root.
const SOCKET_MODE: u32 = 0o600;

/// Everybody may connect: the gate tells apart who is let in.
const SHARED_SOCKET_MODE: u32 = 0o666;

/// Connections that the kernel holds until they are accepted: beyond it a newcomer tries again after
/// a second. The usual 128 are used up by one burst.
const BACKLOG: u32 = 1024;

/// The connections of one address take at most one of this many descriptors.
const OPEN_FILES_SHARE: usize = 4;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has it.
    #[error("{address} is in use by another process; stop that one or give another --listen")]
    Taken {
        /// The address.
        address: ListenAddress,
    },
    /// Something that is no socket is in its place.
    #[error("{} exists and is no socket; remove it or give another --listen", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot listen on {address}")]
    Refused {
        /// The address.
        address: ListenAddress,
        /// Why.
        source: io::Error,
    },
}

impl ListenError {
    /// Whether another process has the address.
    pub fn is_taken(&self) -> bool {
        match self {
            Self::Taken { .. } => true,
            Self::NoSocket { .. } | Self::Refused { .. } => false,
        }
    }
}

/// An address that is listened on.
pub(super) enum Listener {
    Unix(PathBuf, UnixListener),
    Tcp(SocketAddr, TcpListener, Option<Arc<Tls>>),
}

/// Binds every address of the settings, or none. With `tls` every TCP address speaks it; a unix
/// socket is for the account alone unless the settings let other users in.
pub(super) async fn bind_all(
    config: &Config,
    tls: Option<&Arc<Tls>>,
) -> Result<Vec<Listener>, ListenError> {
    let is_shared = !config.unix_users.is_empty();
    let socket_mode = if is_shared { SHARED_SOCKET_MODE } else { SOCKET_MODE };
    let mut listeners = Vec::new();
    for address in &config.listen {
        listeners.push(bind(address, tls, socket_mode).await?);
    }
    Ok(listeners)
}

async fn bind(
    address: &ListenAddress,
    tls: Option<&Arc<Tls>>,
    socket_mode: u32,
) -> Result<Listener, ListenError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { address: address.clone() },
        _ => ListenError::Refused { address: address.clone(), source },
    };
    match address {
        ListenAddress::Unix(path) => {
            remove_stale(path, address).await?;
            let listener = UnixListener::bind(path).map_err(failed)?;
            // The process lets nobody else use what it makes, so until here the mode is 0700.
            socket::set_mode(path, socket_mode).map_err(failed)?;
            Ok(Listener::Unix(path.clone(), listener))
        }
        ListenAddress::Tcp(wanted) => {
            let listener = bind_tcp(*wanted).map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            if tls.is_none() && !bound.ip().is_loopback() {
                warn_of_plaintext(bound);
            }
            Ok(Listener::Tcp(bound, listener, tls.cloned()))
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of the service before this one may still be closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn warn_of_plaintext(address: SocketAddr) {
    tracing::warn!(
        %address,
        "--insecure-plaintext-network: whoever is on the way to this address can read and \
         change everything, tokens included; use --tls-cert and --tls-key"
    );
}

/// Removes a socket that nobody answers: what a service that was killed leaves behind.
async fn remove_stale(path: &Path, address: &ListenAddress) -> Result<(), ListenError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NoSocket { path: path.to_owned() });
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let refused = |source| ListenError::Refused { address: address.clone(), source };
            std::fs::remove_file(path).map_err(refused)
        }
        Ok(_) | Err(_) => Err(ListenError::Taken { address: address.clone() }),
    }
}

impl Listener {
    /// The address as clients give it, with the real port.
    pub(super) fn address(&self) -> ListenAddress {
        match self {
            Self::Unix(path, _) => ListenAddress::Unix(path.clone()),
            Self::Tcp(address, ..) => ListenAddress::Tcp(*address),
        }
    }

    /// The socket file to remove at the end.
    pub(super) fn socket_path(&self) -> Option<PathBuf> {
        match self {
            Self::Unix(path, _) => Some(path.clone()),
            Self::Tcp(..) => None,
        }
    }

    /// Serves until the drain, then until the last call has ended.
    pub(super) async fn serve(
        self,
        router: Router<Layers>,
        limits: ConnectionLimits,
        drain: watch::Receiver<bool>,
    ) -> Result<(), tonic::transport::Error> {
        let (socket, most) = match self {
            Self::Unix(_, listener) => (Socket::Unix(listener), limits.unix_max),
            Self::Tcp(_, listener, tls) => (Socket::Tcp(listener, tls), limits.tcp_max),
        };
        let incoming = accept::incoming(socket, most, drain.clone());
        router.serve_with_incoming_shutdown(incoming, super::drained(drain)).await
    }
}

/// The most connections at once on one address of each kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    unix_max: usize,
    tcp_max: usize,
}

impl ConnectionLimits {
    /// What the settings say, unless the limit of open files is lower: jobs need some as well.
    pub(super) fn of(network: &Network) -> ConnectionLimits {
        let open_files = usize::try_from(process::open_files_max()).unwrap_or(0);
        let most = (open_files / OPEN_FILES_SHARE).max(1);
        let bounded = |wanted: u32| usize::try_from(wanted).unwrap_or(usize::MAX).min(most);
        ConnectionLimits {
            unix_max: bounded(network.max_socket_connections),
            tcp_max: bounded(network.max_connections),
        }
    }
}
