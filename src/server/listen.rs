//! Addresses: bound before anything is promised, with a remedy in each error.

use std::{
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::watch,
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::{Router, TcpIncoming};

use super::Layers;
use crate::config::ListenAddress;

/// Only the account itself may connect.
const SOCKET_MODE: u32 = 0o600;

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
    Tcp(std::net::SocketAddr, TcpListener),
}

/// Binds every address, or none.
pub(super) async fn bind_all(addresses: &[ListenAddress]) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(bind(address).await?);
    }
    Ok(listeners)
}

async fn bind(address: &ListenAddress) -> Result<Listener, ListenError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { address: address.clone() },
        _ => ListenError::Refused { address: address.clone(), source },
    };
    match address {
        ListenAddress::Unix(path) => {
            remove_stale(path, address).await?;
            let listener = UnixListener::bind(path).map_err(failed)?;
            let mode = std::fs::Permissions::from_mode(SOCKET_MODE);
            std::fs::set_permissions(path, mode).map_err(failed)?;
            Ok(Listener::Unix(path.clone(), listener))
        }
        ListenAddress::Tcp(wanted) => {
            let listener = TcpListener::bind(wanted).await.map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            Ok(Listener::Tcp(bound, listener))
        }
    }
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
            Self::Tcp(address, _) => ListenAddress::Tcp(*address),
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
        drain: watch::Receiver<bool>,
    ) -> Result<(), tonic::transport::Error> {
        let drained = super::drained(drain);
        match self {
            Self::Unix(_, listener) => {
                let incoming = UnixListenerStream::new(listener);
                router.serve_with_incoming_shutdown(incoming, drained).await
            }
            Self::Tcp(_, listener) => {
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                router.serve_with_incoming_shutdown(incoming, drained).await
            }
        }
    }
}
