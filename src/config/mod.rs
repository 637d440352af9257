//! The settings of the service: read once at the start, from flags, environment and one file.
//!
//! A flag wins over the environment variable `JOBWARDEN_<NAME>`, that one over the TOML file, and
//! the file over the default. Every mistake is reported, not only the first, each with where it
//! stands and what would be right. Nothing here creates, opens or changes anything but the file
//! that is read; what the settings lead to is decided in `server`.

mod confinement;
mod facts;
mod flags;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod mistake;
mod network;
mod print;
mod reader;
mod resolve;
#[cfg(test)]
mod tests;
mod values;

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

pub use crate::{
    access::{AuditLimits, AuditScope, CertificateRule, UnixUser},
    job::{Durability, Policy},
};
pub use confinement::{ConfinementSettings, RunAs};
pub use facts::MachineFacts;
pub use flags::ServeFlags;
pub use mistake::{ConfigErrors, Mistake, Source};
pub use network::{ClientAuth, Network, NetworkFlags};
pub use resolve::{ConfigFile, Effective, Inputs, default_root, default_socket, usual_root};

/// What the service is told before it starts, resolved and checked.
///
/// The name of each field is its key in the TOML file, in upper case after `JOBWARDEN_` its
/// environment variable, and with hyphens its flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The task directory, absolute. Default: `$XDG_STATE_HOME/jobwarden`, else
    /// `~/.local/state/jobwarden`.
    pub root: PathBuf,
    /// Where to listen, at least one address. Default: `unix:ROOT/jobwarden.sock`.
    pub listen: Vec<ListenAddress>,
    /// Whether whoever reaches a loopback TCP port may do everything without a token. Default: no.
    pub insecure_loopback_without_token: bool,
    /// Users of this machine that are let in by a unix socket, besides the account of the service
    /// and root, as `USER=ROLE`. Default: none.
    pub unix_users: Vec<UnixUser>,
    /// Client certificates that are let in, as `KIND:NAME=ROLE` or `KIND:NAME=ROLE:PRINCIPAL` with
    /// the kinds `CN`, `DNS`, `URI` and `EMAIL`; the first that fits decides. Default: none.
    pub certificates: Vec<CertificateRule>,
    /// Which calls are recorded (`audit`, default: changes), in files of how many bytes
    /// (`audit_max_bytes`, 64 KiB to 1 TiB, default: 64 MiB) and in how many (`audit_max_files`, 1
    /// to 1,000, default: 8).
    pub audit: AuditLimits,
    /// What an acknowledgement survives. Default: [`Durability::Power`].
    pub durability: Durability,
    /// The most jobs that run at once, 1 to 100,000. Default: one for each 16 MiB of memory, 16
    /// to 1,024, and no more than the limit on open files has room for.
    pub max_running_jobs: u32,
    /// The most jobs that wait in the queue, 1 to 10,000,000. Default: 100,000.
    pub max_queued_jobs: u32,
    /// What one principal may have. Default: as much as all together.
    pub shares: Shares,
    /// What jobs may be: `allowed_executables`, `allowed_working_dirs`, `allowed_env_keys`,
    /// `max_timeout`, `max_output_bytes`, `max_labels`. Default: anything.
    pub policy: Policy,
    /// The run time limit of a job without one, at most 10 years. Default: none.
    pub default_timeout: Option<Duration>,
    /// The directory of a job without one, absolute; `None` for the home of whom jobs run as.
    /// Default: that, or the home of the account of the service, else `/`.
    pub default_working_dir: Option<PathBuf>,
    /// What jobs are confined to.
    pub confinement: ConfinementSettings,
    /// The most bytes of a job's standard input, at most 64 MiB. Default: 1 MiB.
    pub max_stdin_bytes: u64,
    /// The longest time that one Wait waits, 1 s to 24 h. Default: 1 h.
    pub max_wait: Duration,
    /// The most streams (`WatchEvents` and `TailLog`) at once, 1 to 1,000,000. Default: 16,384.
    pub max_streams: u32,
    /// The most of them for one principal, 1 to 1,000,000. Default: 8,192.
    pub max_streams_per_principal: u32,
    /// The longest time that a shutdown waits for calls to finish, at most 1 h. Default: 10 s.
    pub drain_limit: Duration,
    /// The service ends after this long without a job or a caller, 1 s to 10 years. Default:
    /// never.
    pub idle_shutdown: Option<Duration>,
    /// Ended jobs are deleted after this long, 1 s to 10 years. Default: they are kept.
    pub retention: Option<Duration>,
    /// The most bytes of past events that are kept, 1 MiB to 1 TiB. Default: 256 MiB.
    pub journal_max_bytes: u64,
    /// The most past events that are kept, 1 to 4 billion. Default: 1,000,000.
    pub journal_max_events: u32,
    /// Past events are kept for this long, 1 s to 10 years. Default: 7 days.
    pub journal_max_age: Option<Duration>,
    /// How changes in the task directory are noticed. Default: [`FileNotices::Auto`].
    pub file_notices: FileNotices,
    /// Whether jobs are put into control groups. Default: [`CgroupUse::Off`]: killing a
    /// tree is complete without, and starts are faster.
    pub cgroup: CgroupUse,
    /// Which log lines are written, in the syntax of `tracing`, for example
    /// `info,jobwarden=debug`. Default: `info`.
    pub log_filter: String,
    /// The form of log lines. Default: [`LogFormat::Auto`].
    pub log_format: LogFormat,
    /// Settings of connections, each with a key of its own.
    pub network: Network,
}

/// What one principal may have at most; no bound where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Jobs that run at once (`max_running_jobs_per_principal`), 1 to 100,000.
    pub running_max: Option<u32>,
    /// Jobs that wait (`max_queued_jobs_per_principal`), 1 to 10,000,000.
    pub queued_max: Option<u32>,
    /// Jobs that are accepted in a minute (`max_jobs_per_minute_per_principal`), 1 to 1,000,000.
    pub per_minute_max: Option<u32>,
}

impl Config {
    /// Reads the environment, the configuration file and the machine, and resolves `flags` with
    /// them.
    pub fn load(flags: &ServeFlags) -> Result<Config, ConfigErrors> {
        Effective::load(flags).map(|effective| effective.config)
    }
}

/// An address that the service listens on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A unix socket at this absolute path, at most 107 bytes.
    Unix(PathBuf),
    /// A TCP port; port 0 takes any free one.
    Tcp(SocketAddr),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Unix(path) => write!(formatter, "unix:{}", path.display()),
            ListenAddress::Tcp(address) => address.fmt(formatter),
        }
    }
}

/// How changes in the task directory are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileNotices {
    /// By inotify where it works, by looking every half second where it does not.
    Auto,
    /// By looking every half second: for file systems that change without inotify telling.
    Poll,
}

/// Whether jobs are put into control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupUse {
    /// Where the host lets us.
    Auto,
    /// Never.
    Off,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}
