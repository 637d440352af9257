//! What a connection says of whoever is at its other end.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    num::NonZeroU64,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
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
    /// How much has come by the connection.
    pub received: Received,
}

impl Peer {
    /// The other end of a connection by which nothing has come yet.
    pub fn new(place: Place, admission: Admission) -> Self {
        Self { place, admission, received: Received::default() }
    }
}

/// How many bytes have come by a connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Received(Arc<AtomicU64>);

impl Received {
    /// Notes that so many more have come.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many there have been.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
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

/// The most calls at once on a connection that nobody has to be let in for.
pub const OPEN_CALLS_MAX: u64 = 16;

/// The most calls that are refused on a connection on which nobody has been let in: then it is cut.
const REFUSALS_MAX: u64 = 100;

/// Who has been let in on a connection, if anybody, and how many calls are under way that nobody
/// has to be let in for. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Admission(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Zero as long as nobody has been let in.
    principal: AtomicU64,
    open: AtomicU64,
    refused: AtomicU64,
}

/// A call that nobody has to be let in for, until it is dropped.
#[derive(Debug)]
pub struct OpenCall(Arc<State>);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// Notes that a call of a principal was let in. The first one counts: a connection is its.
    pub fn admit(&self, principal: &str) {
        /// Nobody can find two names that are told apart by nothing.
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        if !self.is_admitted() {
            self.0.principal.store(KEY.hash_one(principal).max(1), Ordering::Relaxed);
        }
    }

    /// A number for the principal whose connection it is, other than those of other principals;
    /// none as long as no call has been let in.
    pub fn principal(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.0.principal.load(Ordering::Relaxed))
    }

    /// Whether a call has been let in.
    pub fn is_admitted(&self) -> bool {
        self.principal().is_some()
    }

    /// Notes that a call was refused for want of a token or the like.
    pub fn refuse(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the connection has to go: too many calls were refused, and none was let in.
    pub fn is_unwelcome(&self) -> bool {
        !self.is_admitted() && self.0.refused.load(Ordering::Relaxed) > REFUSALS_MAX
    }

    /// A place for a call that nobody has to be let in for; none if there are too many.
    pub fn open_call(&self) -> Option<OpenCall> {
        let more = |open: u64| (open < OPEN_CALLS_MAX).then_some(open + 1);
        let counted = self.0.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.ok().map(|_| OpenCall(Arc::clone(&self.0)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { pid: Some(pid), uid, .. } => {
                write!(formatter, "unix:pid={pid},uid={uid}")
            }
            Self::Unix { pid: None, uid, .. } => write!(formatter, "unix:uid={uid}"),
            Self::Tcp { address, .. } => address.fmt(formatter),
        }
    }
}
