//! What a connection says of whoever is at its other end.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    num::NonZeroU64,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::job::Time;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it is.
    pub place: Place,
    /// Who has been let in on the connection.
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
#[derive(Clone, Debug)]
pub struct Admission(Arc<State>);

struct State {
    /// Zero as long as nobody has been let in.
    principal: AtomicU64,
    open: AtomicU64,
    refused: AtomicU64,
    /// Somebody was let in, and there was no room for the connection.
    is_turned_away: AtomicBool,
    is_kept: Box<dyn Fn(NonZeroU64) -> bool + Send + Sync>,
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { principal, open, refused, is_turned_away, is_kept: _ } = self;
        let mut fields = formatter.debug_struct("State");
        fields.field("principal", principal).field("open", open).field("refused", refused);
        fields.field("is_turned_away", is_turned_away).finish_non_exhaustive()
    }
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
    /// The admission of a new connection. Once somebody is let in on it, `is_kept` is asked whether
    /// there is room for it, with a number that only connections of the same principal have.
    pub fn new(is_kept: impl Fn(NonZeroU64) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(State {
            principal: AtomicU64::new(0),
            open: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            is_turned_away: AtomicBool::new(false),
            is_kept: Box::new(is_kept),
        }))
    }

    /// Notes that a call of a principal was let in. The first one counts: a connection is its.
    /// Returns false if there is no room for the connection: then it goes, and the call with it.
    pub fn admit(&self, principal: &str) -> bool {
        /// Nobody can find two names that are told apart by nothing.
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let principal = NonZeroU64::new(KEY.hash_one(principal)).unwrap_or(NonZeroU64::MIN);
        let State { principal: first, is_turned_away, is_kept, .. } = &*self.0;
        let (relaxed, number) = (Ordering::Relaxed, principal.get());
        let is_first = first.compare_exchange(0, number, relaxed, relaxed).is_ok();
        if is_first && !is_kept(principal) {
            is_turned_away.store(true, relaxed);
        }
        !is_turned_away.load(relaxed)
    }

    /// Whether a call has been let in.
    fn is_admitted(&self) -> bool {
        self.0.principal.load(Ordering::Relaxed) != 0
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
