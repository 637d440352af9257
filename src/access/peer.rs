//! What a connection says of whoever is at its other end.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::job::Time;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it is.
    pub place: Place,
    /// Whether a call on the connection has been let in.
    pub admission: Admission,
}

/// Where the other end of a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A process on this machine, as the kernel tells when it connects.
    Unix {
        /// Its process id, if the kernel knows one.
        pid: Option<i32>,
        /// Its effective user.
        uid: u32,
        /// Its effective group.
        gid: u32,
    },
    /// Somewhere on a network.
    Tcp {
        /// Its address.
        address: SocketAddr,
        /// Whether the connection is encrypted.
        is_encrypted: bool,
        /// The certificate that it proved to be its own and a trusted authority has signed.
        certificate: Option<Arc<Certificate>>,
    },
}

/// What a client's certificate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The common name of the subject.
    pub common_name: Option<String>,
    /// Alternative names that are host names.
    pub dns_names: Vec<String>,
    /// Alternative names that are URIs.
    pub uris: Vec<String>,
    /// Alternative names that are mail addresses.
    pub emails: Vec<String>,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// When it ends, if that can be told.
    pub not_after: Option<Time>,
}

impl Certificate {
    /// The name that people know it by: the common name, or the first alternative one.
    pub fn name(&self) -> &str {
        let names = [&self.dns_names, &self.uris, &self.emails];
        let other = names.into_iter().flatten().next();
        self.common_name.as_ref().or(other).map_or("", String::as_str)
    }
}

/// Whether anybody has been let in on a connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Admission(Arc<AtomicBool>);

impl Admission {
    /// Notes that a call was let in.
    pub fn admit(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a call has been let in.
    pub fn is_admitted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { pid: Some(pid), .. } => write!(formatter, "unix:pid={pid}"),
            Self::Unix { pid: None, .. } => formatter.write_str("unix:"),
            Self::Tcp { address, .. } => address.fmt(formatter),
        }
    }
}
