//! From flags, environment and file to the settings, as a pure function.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::job::{LABELS_MAX, Pattern, Patterns, Policy};

use super::{
    AuditLimits, AuditScope, CertificateRule, CgroupUse, Config, ConfigErrors, ConfinementSettings,
    Durability, FileNotices, ListenAddress, LogFormat, MachineFacts, Mistake, Network, ServeFlags,
    Shares, Source, reader::Reader, values,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const TEN_YEARS: Duration = Duration::from_hours(24 * 3650);

/// The most bytes of standard input that can be allowed for a job.
const STDIN_BYTES_MAX: u64 = 64 << 20;

/// How many bytes of past events are kept: by default, at least and at most.
const JOURNAL_BYTES: u64 = 256 << 20;
const JOURNAL_BYTES_MIN: u64 = 1 << 20;
const JOURNAL_BYTES_MAX: u64 = 1 << 40;

/// How large a file of the audit record becomes: by default, at least and at most.
const AUDIT_BYTES: u64 = 64 << 20;
const AUDIT_BYTES_MIN: u64 = 64 << 10;
const AUDIT_BYTES_MAX: u64 = 1 << 40;

/// The most bytes of output of a stream that a setting can bound it to.
const OUTPUT_BYTES_MAX: u64 = 1 << 40;

/// The memory that one running job is reckoned with for the default of `max_running_jobs`.
const MEMORY_BYTES_PER_JOB: u64 = 16 << 20;

/// The descriptors that one running job may need, and those kept for everything else.
const OPEN_FILES_PER_JOB: u64 = 8;
const OPEN_FILES_RESERVED: u64 = 256;

/// A configuration file and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// Everything that the settings depend on.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The flags of `serve`.
    pub flags: &'a ServeFlags,
    /// The environment.
    pub environment: &'a BTreeMap<String, String>,
    /// The configuration file, if there is one.
    pub file: Option<ConfigFile>,
    /// What defaults depend on.
    pub machine: &'a MachineFacts,
}

/// The settings together with where each came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The settings.
    pub config: Config,
    pub(super) sources: BTreeMap<&'static str, Source>,
}

impl Effective {
    /// Reads the environment, the configuration file and the machine, and resolves `flags` with
    /// them.
    pub fn load(flags: &ServeFlags) -> Result<Effective, ConfigErrors> {
        let environment = environment();
        let machine = MachineFacts::read();
        let (file, unreadable) = match read_file(flags, &environment, &machine) {
            Ok(file) => (file, None),
            Err(mistake) => (None, Some(mistake)),
        };
        let inputs = Inputs { flags, environment: &environment, file, machine: &machine };
        let resolved = Effective::resolve(&inputs);
        let Some(mistake) = unreadable else {
            return resolved;
        };
        let mut mistakes = vec![mistake];
        if let Err(errors) = resolved {
            mistakes.extend(errors.mistakes);
        }
        Err(ConfigErrors { mistakes })
    }

    /// Resolves `inputs`, touching nothing else.
    pub fn resolve(inputs: &Inputs<'_>) -> Result<Effective, ConfigErrors> {
        let mut reader = Reader::new(inputs);
        let home = default_root(inputs.environment, inputs.machine.home.as_deref());
        let root = reader.one("root", home, |given| values::path(given.text, given.base).map(Some));
        if root.is_none() && reader.source("root") == Source::Default {
            let remedy = "there is no home directory; name the task directory with --root DIR";
            reader.mistake("root", None, remedy.to_owned());
        }
        let root = root.unwrap_or_default();
        let listen = listen(&mut reader, &root);
        let network = Network::read(&mut reader, &listen);
        let confinement = ConfinementSettings::read(&mut reader);
        let insecure_loopback_without_token = insecure_loopback(&mut reader, &listen);
        let certificates = certificates(&mut reader, &network);
        let running = default_running_jobs(inputs.machine);
        let config = Config {
            root,
            listen,
            insecure_loopback_without_token,
            unix_users: reader
                .many("unix_users", |it| values::unix_user(it.text, &inputs.machine.accounts)),
            certificates,
            audit: audit(&mut reader),
            durability: reader
                .one("durability", Durability::Power, |it| values::durability(it.text)),
            max_running_jobs: number(&mut reader, "max_running_jobs", running, 100_000),
            max_queued_jobs: number(&mut reader, "max_queued_jobs", 100_000, 10_000_000),
            shares: shares(&mut reader),
            policy: policy(&mut reader),
            default_timeout: optional_duration(
                &mut reader,
                "default_timeout",
                Duration::from_millis(1),
            ),
            default_working_dir: working_dir(&mut reader, inputs, &confinement),
            confinement,
            max_stdin_bytes: reader
                .one("max_stdin_bytes", 1 << 20, |it| values::bytes(it.text, STDIN_BYTES_MAX)),
            max_wait: reader.one("max_wait", HOUR, |it| values::duration(it.text, &(SECOND..=DAY))),
            max_streams: number(&mut reader, "max_streams", 16_384, 1_000_000),
            max_streams_per_principal: number(
                &mut reader,
                "max_streams_per_principal",
                8192,
                1_000_000,
            ),
            drain_limit: reader.one("drain_limit", 10 * SECOND, |it| {
                values::duration(it.text, &(Duration::ZERO..=HOUR))
            }),
            idle_shutdown: optional_duration(&mut reader, "idle_shutdown", SECOND),
            retention: optional_duration(&mut reader, "retention", SECOND),
            journal_max_bytes: reader.one("journal_max_bytes", JOURNAL_BYTES, |it| {
                values::bytes_in(it.text, &(JOURNAL_BYTES_MIN..=JOURNAL_BYTES_MAX))
            }),
            journal_max_events: number(&mut reader, "journal_max_events", 1_000_000, u32::MAX),
            journal_max_age: reader.one("journal_max_age", Some(7 * DAY), |given| {
                values::duration_or_none(given.text, &(SECOND..=TEN_YEARS))
            }),
            file_notices: reader
                .one("file_notices", FileNotices::Auto, |it| values::file_notices(it.text)),
            cgroup: reader.one("cgroup", CgroupUse::Off, |it| values::cgroup(it.text)),
            log_filter: reader
                .one("log_filter", "info".to_owned(), |it| values::log_filter(it.text)),
            log_format: reader.one("log_format", LogFormat::Auto, |it| values::log_format(it.text)),
            network,
        };
        finish(config, reader)
    }
}

/// The settings, unless something was wrong with them.
fn finish(config: Config, reader: Reader<'_>) -> Result<Effective, ConfigErrors> {
    let (sources, mistakes) = reader.finish();
    if mistakes.is_empty() {
        Ok(Effective { config, sources })
    } else {
        Err(ConfigErrors { mistakes })
    }
}

/// The task directory if nobody names one; `None` without a home directory.
pub fn default_root(
    environment: &BTreeMap<String, String>,
    home: Option<&Path>,
) -> Option<PathBuf> {
    let state = absolute_variable(environment, "XDG_STATE_HOME")
        .or_else(|| home.map(|home| home.join(".local/state")))?;
    Some(state.join("jobwarden"))
}

/// The task directory that this environment and this account give if nobody names one.
pub fn usual_root() -> Option<PathBuf> {
    default_root(&environment(), MachineFacts::read().home.as_deref())
}

/// The socket of the service of the task directory `root`, unless it is told otherwise.
pub fn default_socket(root: &Path) -> PathBuf {
    root.join("jobwarden.sock")
}

fn listen(reader: &mut Reader<'_>, root: &Path) -> Vec<ListenAddress> {
    let mut addresses =
        reader.many("listen", |given| values::listen_address(given.text, given.base));
    let mut seen = Vec::new();
    for address in &addresses {
        if seen.contains(&address) {
            let remedy = "must not name the same address twice".to_owned();
            reader.mistake("listen", Some(address.to_string()), remedy);
        }
        seen.push(address);
    }
    if addresses.is_empty() && reader.source("listen") == Source::Default {
        match values::socket_path(default_socket(root)) {
            Ok(path) => addresses.push(ListenAddress::Unix(path)),
            Err(remedy) => reader.mistake("root", Some(root.display().to_string()), remedy),
        }
    }
    addresses
}

fn audit(reader: &mut Reader<'_>) -> AuditLimits {
    AuditLimits {
        scope: reader.one("audit", AuditScope::Changes, |it| values::audit(it.text)),
        bytes_max: reader.one("audit_max_bytes", AUDIT_BYTES, |it| {
            values::bytes_in(it.text, &(AUDIT_BYTES_MIN..=AUDIT_BYTES_MAX))
        }),
        files_max: number(reader, "audit_max_files", 8, 1000),
    }
}

fn shares(reader: &mut Reader<'_>) -> Shares {
    let mut share = |key, most| {
        reader.one(key, None, |given| {
            values::or_none(given.text, |text| values::number(text, &(1..=most)))
        })
    };
    Shares {
        running_max: share("max_running_jobs_per_principal", 100_000),
        queued_max: share("max_queued_jobs_per_principal", 10_000_000),
        per_minute_max: share("max_jobs_per_minute_per_principal", 1_000_000),
    }
}

fn policy(reader: &mut Reader<'_>) -> Policy {
    Policy {
        executables: patterns(reader, "allowed_executables"),
        working_dirs: patterns(reader, "allowed_working_dirs"),
        env_keys: patterns(reader, "allowed_env_keys"),
        timeout_max: optional_duration(reader, "max_timeout", Duration::from_millis(1)),
        output_bytes_max: reader.one("max_output_bytes", None, |it| {
            values::or_none(it.text, |text| values::bytes_in(text, &(1..=OUTPUT_BYTES_MAX)))
        }),
        labels_max: reader
            .one("max_labels", LABELS_MAX, |it| values::number(it.text, &(0..=LABELS_MAX))),
    }
}

fn patterns(reader: &mut Reader<'_>, key: &'static str) -> Patterns {
    let patterns = reader.many(key, |it| match it.text {
        "none" => Ok(None),
        text => Pattern::parse(text).map(Some),
    });
    if patterns.len() > 1 && patterns.iter().any(Option::is_none) {
        let remedy = "must not be \"none\" beside other patterns".to_owned();
        reader.mistake(key, None, remedy);
    }
    Patterns::new(patterns.into_iter().flatten().collect()).unwrap_or_else(|remedy| {
        reader.mistake(key, None, remedy);
        Patterns::default()
    })
}

/// Where jobs run that do not say; `None` for the home of a user that is looked up later.
fn working_dir(
    reader: &mut Reader<'_>,
    inputs: &Inputs<'_>,
    confinement: &ConfinementSettings,
) -> Option<PathBuf> {
    let given = reader.one("default_working_dir", None, |it| match it.text {
        "home" => Ok(None),
        path => values::path(path, it.base).map(Some),
    });
    let home = || inputs.machine.home.clone().unwrap_or_else(|| PathBuf::from("/"));
    given.or_else(|| confinement.run_as.is_none().then(home))
}

/// Whether loopback needs no token. On an address that others reach too it would be forgotten that
/// every program of this machine, a proxy among them, comes in without one.
fn insecure_loopback(reader: &mut Reader<'_>, addresses: &[ListenAddress]) -> bool {
    const KEY: &str = "insecure_loopback_without_token";
    let is_open = flag(reader, KEY);
    let is_beyond = |address: &ListenAddress| match address {
        ListenAddress::Tcp(socket) => !socket.ip().is_loopback(),
        ListenAddress::Unix(_) => false,
    };
    if is_open && addresses.iter().any(is_beyond) {
        let remedy = "goes with loopback addresses alone; leave it out and use tokens".to_owned();
        reader.mistake(KEY, Some("true".to_owned()), remedy);
    }
    is_open
}

fn certificates(reader: &mut Reader<'_>, network: &Network) -> Vec<CertificateRule> {
    let certificates = reader.many("certificates", |it| values::certificate(it.text));
    if !certificates.is_empty() && network.tls_client_ca.is_none() {
        let remedy = "is of use with an authority alone; add --tls-client-ca FILE".to_owned();
        reader.mistake("certificates", None, remedy);
    }
    certificates
}

/// A setting that is off unless somebody turns it on.
fn flag(reader: &mut Reader<'_>, key: &'static str) -> bool {
    reader.one(key, false, |given| values::flag(given.text))
}

fn number(reader: &mut Reader<'_>, key: &'static str, default: u32, most: u32) -> u32 {
    reader.one(key, default, |given| values::number(given.text, &(1..=most)))
}

fn optional_duration(
    reader: &mut Reader<'_>,
    key: &'static str,
    least: Duration,
) -> Option<Duration> {
    reader.one(key, None, |given| values::duration_or_none(given.text, &(least..=TEN_YEARS)))
}

fn default_running_jobs(machine: &MachineFacts) -> u32 {
    let by_memory = machine.memory_bytes.map_or(16, |bytes| bytes / MEMORY_BYTES_PER_JOB);
    let by_files = machine
        .open_files_max
        .map_or(u64::MAX, |most| most.saturating_sub(OPEN_FILES_RESERVED) / OPEN_FILES_PER_JOB);
    let jobs = by_memory.clamp(16, 1024).min(by_files).max(1);
    u32::try_from(jobs).unwrap_or(1024)
}

/// What the settings may depend on. Text that is not UTF-8 keeps a mark that no value accepts.
fn environment() -> BTreeMap<String, String> {
    env::vars_os()
        .map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .filter(|(name, _)| name.starts_with("JOBWARDEN_") || name.starts_with("XDG_"))
        // An empty variable means none: a script cannot always unset what it inherits.
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// The file that was named, which must be readable, or the usual one, which may be missing.
fn read_file(
    flags: &ServeFlags,
    environment: &BTreeMap<String, String>,
    machine: &MachineFacts,
) -> Result<Option<ConfigFile>, Mistake> {
    let variable = environment.get("JOBWARDEN_CONFIG");
    let (source, path) = match (&flags.config, variable) {
        (Some(text), _) => (Source::Flag("--config".to_owned()), Some(PathBuf::from(text))),
        (None, Some(text)) => {
            (Source::Environment("JOBWARDEN_CONFIG".to_owned()), Some(PathBuf::from(text)))
        }
        (None, None) => {
            let base = absolute_variable(environment, "XDG_CONFIG_HOME")
                .or_else(|| machine.home.as_ref().map(|home| home.join(".config")));
            (Source::Default, base.map(|base| base.join("jobwarden/config.toml")))
        }
    };
    let Some(path) = path else { return Ok(None) };
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(ConfigFile { path, text })),
        Err(error) if error.kind() == io::ErrorKind::NotFound && source == Source::Default => {
            Ok(None)
        }
        Err(error) => {
            let source = match source {
                Source::Default => Source::File { path: path.clone(), key: String::new() },
                named => named,
            };
            let value = Some(path.display().to_string());
            let remedy = format!("must name a file that can be read: {error}");
            Err(Mistake { source, value, remedy })
        }
    }
}

fn absolute_variable(environment: &BTreeMap<String, String>, name: &str) -> Option<PathBuf> {
    environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
}
