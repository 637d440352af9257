//! The rules of the host under which a job runs: decided by the server when it accepts the job,
//! never by who submits it, and recorded with the job so that its supervisor needs nothing else.

/// What a job may do on its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Whom it runs as; `None` for the account of the service.
    pub run_as: Option<Account>,
    /// Whether no program that it executes can gain rights, by set-user-ID bits for example.
    pub no_new_privs: bool,
    /// The permissions that files which it makes do not get.
    pub umask: u32,
    /// Limits of the kernel, soft and hard, each resource at most once.
    pub limits: Vec<ResourceLimit>,
}

/// The umask of jobs for which nothing else was decided.
pub const UMASK_DEFAULT: u32 = 0o022;

/// What holds for jobs that were accepted before there were such rules.
impl Default for Confinement {
    fn default() -> Self {
        Self { run_as: None, no_new_privs: false, umask: UMASK_DEFAULT, limits: Vec::new() }
    }
}

/// A user, as the account database told it when the service started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Its name; its number if it has none.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
    /// The numbers of all its groups.
    pub groups: Vec<u32>,
    /// Its home directory.
    pub home: String,
}

/// The most that each process of a job may use of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceLimit {
    /// Of what.
    pub resource: Resource,
    /// How much: bytes, seconds or a count.
    pub value: u64,
}

/// What getrlimit(2) limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Bytes of address space.
    As,
    /// Bytes of a core dump.
    Core,
    /// Seconds of processor time.
    Cpu,
    /// Bytes of data.
    Data,
    /// Bytes of a file that is written.
    Fsize,
    /// Bytes locked in memory.
    Memlock,
    /// Open files.
    Nofile,
    /// Processes of the user.
    Nproc,
    /// Bytes of stack.
    Stack,
}

impl Resource {
    /// All of them, by name.
    pub const ALL: [Self; 9] = [
        Self::As,
        Self::Core,
        Self::Cpu,
        Self::Data,
        Self::Fsize,
        Self::Memlock,
        Self::Nofile,
        Self::Nproc,
        Self::Stack,
    ];

    /// Its name, as ulimit(1) and systemd have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::As => "as",
            Self::Core => "core",
            Self::Cpu => "cpu",
            Self::Data => "data",
            Self::Fsize => "fsize",
            Self::Memlock => "memlock",
            Self::Nofile => "nofile",
            Self::Nproc => "nproc",
            Self::Stack => "stack",
        }
    }

    /// The resource of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.name() == name)
    }
}
