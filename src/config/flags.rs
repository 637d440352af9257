//! The flags of `jobwarden serve`, as text.
//!
//! They are not checked here: what is wrong with a flag is reported together with what is wrong
//! in the environment and in the file.

use clap::Args;

use super::NetworkFlags;

/// The flags of `jobwarden serve`. All are optional and none has been checked yet.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeFlags {
    /// The task directory; given by the global `--root`.
    #[arg(skip)]
    pub root: Option<String>,
    /// Read settings from this TOML file [env: `JOBWARDEN_CONFIG`] [default:
    /// ~/.config/jobwarden/config.toml if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// Listen on `unix:PATH` or on ADDRESS:PORT, which needs TLS unless it is loopback; may be
    /// repeated [default: unix:ROOT/jobwarden.sock]
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Let every user of this machine do everything through loopback TCP, without a token
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub insecure_loopback_without_token: Option<String>,
    /// Let a user of this machine in by the socket, as USER=ROLE; may be repeated [default: only
    /// the account of the service and root]
    #[arg(long = "unix-users", alias = "unix-user", value_name = "USER=ROLE")]
    pub unix_users: Vec<String>,
    /// Let a client certificate in, as CN:NAME=ROLE or CN:NAME=ROLE:PRINCIPAL (or DNS:, URI:, EMAIL:);
    /// may be repeated
    #[arg(long = "certificates", alias = "certificate", value_name = "NAME=ROLE")]
    pub certificates: Vec<String>,
    /// Record these calls in the task directory: `changes` (with every refusal for want of a right),
    /// `all` or `off` [default: changes]
    #[arg(long, value_name = "WHICH")]
    pub audit: Option<String>,
    /// Begin another file of the audit record after this many bytes [default: 64MiB]
    #[arg(long, value_name = "BYTES")]
    pub audit_max_bytes: Option<String>,
    /// Keep at most this many files of the audit record [default: 8]
    #[arg(long, value_name = "N")]
    pub audit_max_files: Option<String>,
    /// What an acknowledged job survives: `power` (power loss) or `process` (only the death of
    /// processes) [default: power]
    #[arg(long, value_name = "WHAT")]
    pub durability: Option<String>,
    /// Run at most this many jobs at once [default: by memory]
    #[arg(long, value_name = "N")]
    pub max_running_jobs: Option<String>,
    /// Let at most this many jobs wait [default: 100000]
    #[arg(long, value_name = "N")]
    pub max_queued_jobs: Option<String>,
    /// Run at most this many jobs of one principal at once; more of them wait [default: none]
    #[arg(long, value_name = "N")]
    pub max_running_jobs_per_principal: Option<String>,
    /// Let at most this many jobs of one principal wait [default: none]
    #[arg(long, value_name = "N")]
    pub max_queued_jobs_per_principal: Option<String>,
    /// Accept at most this many jobs of one principal in a minute [default: none]
    #[arg(long, value_name = "N")]
    pub max_jobs_per_minute_per_principal: Option<String>,
    /// Refuse programs that this pattern does not match, for example /usr/bin/*; may be repeated
    /// [default: any program]
    #[arg(long, value_name = "PATTERN")]
    pub allowed_executables: Vec<String>,
    /// Refuse working directories that this pattern does not match, for example /srv/**; may be
    /// repeated [default: any directory]
    #[arg(long, value_name = "PATTERN")]
    pub allowed_working_dirs: Vec<String>,
    /// Refuse variables whose names this pattern does not match, for example CI_*; may be repeated
    /// [default: any variable]
    #[arg(long, value_name = "PATTERN")]
    pub allowed_env_keys: Vec<String>,
    /// Refuse run time limits over this one, which is also that of jobs without one [default: none]
    #[arg(long, value_name = "DURATION")]
    pub max_timeout: Option<String>,
    /// Refuse to keep more than this of each stream of a job, and drop what is beyond [default: none]
    #[arg(long, value_name = "BYTES")]
    pub max_output_bytes: Option<String>,
    /// Refuse jobs with more labels [default: 32]
    #[arg(long, value_name = "N")]
    pub max_labels: Option<String>,
    /// Limit the run time of jobs that have no limit of their own [default: none]
    #[arg(long, value_name = "DURATION")]
    pub default_timeout: Option<String>,
    /// Run jobs that name no directory here; `home` for that of whom they run as [default: home]
    #[arg(long, value_name = "DIR")]
    pub default_working_dir: Option<String>,
    /// Run jobs as this user: USER, USER:GROUP or UID:GID; the service must run as root
    /// [default: as the service]
    #[arg(long, value_name = "USER[:GROUP]")]
    pub run_as: Option<String>,
    /// Let jobs gain no rights by what they execute, as with sudo [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub no_new_privs: Option<String>,
    /// Take these permissions from files that jobs make, in octal [default: 022]
    #[arg(long, value_name = "OCTAL")]
    pub umask: Option<String>,
    /// Limit each process of a job, for example nofile=1024, as=4GiB or core=0; may be repeated
    /// [default: none]
    #[arg(long, value_name = "NAME=NUMBER")]
    pub rlimits: Vec<String>,
    /// Accept at most this many bytes of standard input for a job [default: 1MiB]
    #[arg(long, value_name = "BYTES")]
    pub max_stdin_bytes: Option<String>,
    /// Let one Wait call wait at most this long [default: 1h]
    #[arg(long, value_name = "DURATION")]
    pub max_wait: Option<String>,
    /// Serve at most this many log and event streams at once [default: 16384]
    #[arg(long, value_name = "N")]
    pub max_streams: Option<String>,
    /// Serve at most this many of them for one principal [default: 8192]
    #[arg(long, value_name = "N")]
    pub max_streams_per_principal: Option<String>,
    /// Wait at most this long for calls to finish when shutting down [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub drain_limit: Option<String>,
    /// End the service after this long without a job or a caller [default: none]
    #[arg(long, value_name = "DURATION")]
    pub idle_shutdown: Option<String>,
    /// Delete ended jobs after this long [default: none]
    #[arg(long, value_name = "DURATION")]
    pub retention: Option<String>,
    /// Keep at most this many bytes of past events for watchers that resume [default: 256MiB]
    #[arg(long, value_name = "BYTES")]
    pub journal_max_bytes: Option<String>,
    /// Keep at most this many past events [default: 1000000]
    #[arg(long, value_name = "N")]
    pub journal_max_events: Option<String>,
    /// Keep past events for this long [default: 7days]
    #[arg(long, value_name = "DURATION")]
    pub journal_max_age: Option<String>,
    /// Notice changes in the task directory by inotify where it works (`auto`) or by looking every
    /// half second (`poll`) [default: auto]
    #[arg(long, value_name = "HOW")]
    pub file_notices: Option<String>,
    /// Put jobs into control groups: `auto` (where possible) or `off` [default: off]
    #[arg(long, value_name = "WHEN")]
    pub cgroup: Option<String>,
    /// Write these log lines, for example info,jobwarden=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
    /// Write log lines as `human`, `json` or `auto` (human on a terminal) [default: auto]
    #[arg(long, value_name = "FORM")]
    pub log_format: Option<String>,
    /// The flags of connections.
    #[command(flatten)]
    pub network: NetworkFlags,
}

impl ServeFlags {
    /// What was given for the setting `key`; empty if nothing was.
    pub(super) fn values(&self, key: &str) -> &[String] {
        let value = match key {
            "listen" => return &self.listen,
            "unix_users" => return &self.unix_users,
            "certificates" => return &self.certificates,
            "allowed_executables" => return &self.allowed_executables,
            "allowed_working_dirs" => return &self.allowed_working_dirs,
            "allowed_env_keys" => return &self.allowed_env_keys,
            "max_running_jobs_per_principal" => &self.max_running_jobs_per_principal,
            "max_queued_jobs_per_principal" => &self.max_queued_jobs_per_principal,
            "max_jobs_per_minute_per_principal" => &self.max_jobs_per_minute_per_principal,
            "max_timeout" => &self.max_timeout,
            "max_output_bytes" => &self.max_output_bytes,
            "max_labels" => &self.max_labels,
            "rlimits" => return &self.rlimits,
            "run_as" => &self.run_as,
            "no_new_privs" => &self.no_new_privs,
            "umask" => &self.umask,
            "root" => &self.root,
            "insecure_loopback_without_token" => &self.insecure_loopback_without_token,
            "audit" => &self.audit,
            "audit_max_bytes" => &self.audit_max_bytes,
            "audit_max_files" => &self.audit_max_files,
            "durability" => &self.durability,
            "max_running_jobs" => &self.max_running_jobs,
            "max_queued_jobs" => &self.max_queued_jobs,
            "default_timeout" => &self.default_timeout,
            "default_working_dir" => &self.default_working_dir,
            "max_stdin_bytes" => &self.max_stdin_bytes,
            "max_wait" => &self.max_wait,
            "max_streams" => &self.max_streams,
            "max_streams_per_principal" => &self.max_streams_per_principal,
            "drain_limit" => &self.drain_limit,
            "idle_shutdown" => &self.idle_shutdown,
            "retention" => &self.retention,
            "journal_max_bytes" => &self.journal_max_bytes,
            "journal_max_events" => &self.journal_max_events,
            "journal_max_age" => &self.journal_max_age,
            "file_notices" => &self.file_notices,
            "cgroup" => &self.cgroup,
            "log_filter" => &self.log_filter,
            "log_format" => &self.log_format,
            _ => return self.network.values(key),
        };
        value.as_slice()
    }
}
