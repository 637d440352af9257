//! Puts the service together, serves, and drains.
//!
//! The parts that wait for the kernel have a thread each; everything that waits for callers
//! runs on tokio. Nothing here forks, and nothing that runs depends on this process living on.

mod accept;
mod admission;
mod bodies;
mod confine;
mod connection;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod health;
mod layers;
mod listen;
mod logging;
mod parts;
mod retention;
mod routes;
mod seats;
mod tls;

use std::{io, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

pub use confine::RunAsError;
pub use listen::ListenError;
pub use logging::open_log;
#[cfg(test)]
pub(crate) use parts::take_notice;
pub use tls::{TlsError, TlsErrors};

use self::{
    admission::AdmissionLayer,
    bodies::BodiesLayer,
    layers::Activity,
    listen::{ConnectionLimits, Listener},
    parts::{Parts, assemble, start_threads, stop_threads},
    routes::{HEALTH_REQUEST_BYTES_MAX, routes},
    tls::{Tls, TlsFiles},
};
use crate::{
    access::{Gate, Rules, TokenFile},
    api::job_service_server::JobServiceServer,
    config::{Config, ListenAddress},
    job::Time,
    recover,
    service::{JobApi, Limits},
    store::{Store, StoreError},
    sys::{clock, faults, process},
    terminal::escaped,
};

/// Streams that read logs take at most one of this many descriptors,
const OPEN_FILES_SHARE: u64 = 3;
/// and so many each: two logs and their index.
const LOG_OPEN_FILES: u64 = 3;

/// What a request may hold besides its standard input.
const REQUEST_BYTES_BESIDES_STDIN: u64 = 3 * 1024 * 1024;

/// What keeps the service from starting or ends it.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// TLS cannot be spoken with the files that the settings name.
    #[error("TLS cannot be set up: {0}")]
    Tls(TlsErrors),
    /// Jobs cannot run as they are to.
    #[error(transparent)]
    RunAs(#[from] RunAsError),
    /// The operating system refused something.
    #[error("cannot {action}")]
    System {
        /// The verb.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A server ended by itself.
    #[error("the server failed")]
    Transport(#[from] tonic::transport::Error),
}

impl ServeError {
    /// Whether another service has the store or an address, so that trying later may help.
    pub fn is_taken(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error, StoreError::InUse { .. }),
            Self::Listen(error) => error.is_taken(),
            Self::Tls(_) | Self::RunAs(_) | Self::System { .. } | Self::Transport(_) => false,
        }
    }

    /// Whether a setting is wrong, which trying again does not mend.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::RunAs(_))
    }
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> ServeError {
    move |source| ServeError::System { action, source }
}

/// Leaves the terminal and the process group of whoever started this process. Call before `run`.
pub fn detach() {
    // The leader of a session already has one of its own.
    let _ = process::leave_session();
}

/// Serves until SIGTERM or SIGINT, then drains. Jobs go on.
pub fn run(config: &Config) -> Result<(), ServeError> {
    logging::init(&config.log_filter, config.log_format);
    process::set_private_umask();
    process::forbid_dumps();
    faults::role(faults::Role::Service);
    let open_files =
        process::raise_open_files_limit().map_err(system("raise the limit of open files"))?;
    // First: what is wrong with the settings leaves nothing behind.
    let rules = confine::confinement(config)?;
    confine::give_up_rights(config);
    let store = Arc::new(Store::open(&config.root)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    let served = runtime.block_on(async {
        // From here on SIGHUP ends nothing.
        let hangups = signal(SignalKind::hangup()).map_err(system("wait for signals"))?;
        let files = TlsFiles::of(&config.network);
        let tls = files.map(Tls::load).transpose().map_err(ServeError::Tls)?;
        let listeners = listen::bind_all(config, tls.as_ref()).await?;
        tokio::spawn(tls::watch(tls, hangups));
        let parts = assemble(config, &store, open_files, rules)?;
        let found = recover::recover(&parts.catalog, &parts.watcher)?;
        tracing::info!(
            root = %config.root.display(),
            queued = found.queued,
            running = found.running,
            ended = found.ended,
            "store opened"
        );
        start_threads(&parts)?;
        let served = serve(config, &parts, listeners).await;
        stop_threads(&parts);
        served
    });
    // Calls that still hold on after the limit are let go of.
    runtime.shutdown_background();
    served
}

async fn serve(config: &Config, parts: &Parts, listeners: Vec<Listener>) -> Result<(), ServeError> {
    let (draining, drain) = watch::channel(false);
    let activity = Activity::default();
    let gate = Arc::new(Gate::new(rules(config), TokenFile::of(&config.root)));
    let (token_changes, changes) = watch::channel(());
    let audit = Arc::clone(parts.operations.audit());
    let admission = AdmissionLayer::new(Arc::clone(&gate), Arc::clone(&audit), changes);
    let limits = limits(config);
    let request_bytes_max = usize::try_from(limits.request_bytes_max).unwrap_or(usize::MAX);
    let bodies = BodiesLayer::new(limits.request_bytes_max);
    let api = JobApi::new(
        Arc::clone(&parts.operations),
        Arc::clone(&parts.follow),
        limits,
        Time::from(clock::now()),
        audit,
        drain.clone(),
    );
    let service = JobServiceServer::new(api.clone()).max_decoding_message_size(request_bytes_max);
    let (health_reporter, health) = tonic_health::server::health_reporter();
    // Strangers may call it.
    let health = health.max_decoding_message_size(HEALTH_REQUEST_BYTES_MAX);
    let router = routes(&activity, admission, bodies, service, health)?;
    // Before anybody is told to call: the first to ask must get an answer.
    health::look(&health_reporter, parts.catalog.store(), &parts.launch).await;

    let connections = ConnectionLimits::of(&config.network);
    warn_about_jobs(config, &gate);
    let mut servers = JoinSet::new();
    let mut paths = Vec::new();
    for listener in listeners {
        warn_about(config, &gate, &listener.address());
        // For scripts and people alike: one line for each address, once it can be called.
        eprintln!("listening on {}", escaped(&listener.address().to_string()));
        paths.extend(listener.socket_path());
        servers.spawn(listener.serve(router.clone(), connections, drain.clone()));
    }
    let background = {
        let mut background = JoinSet::new();
        background.spawn(health::watch(
            health_reporter,
            Arc::clone(parts.catalog.store()),
            Arc::clone(&parts.launch),
            drain.clone(),
        ));
        background.spawn(admission::watch_tokens(gate, token_changes));
        background.spawn(retention::run(Arc::clone(&parts.operations), drain.clone()));
        background
    };
    let ended = tokio::select! {
        ended = servers.join_next() => ended,
        reason = end_of_service(config, parts, &api, &activity) => {
            tracing::info!(reason, "draining");
            None
        }
    };
    parts.operations.drain();
    draining.send_replace(true);
    let all_ended = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(config.drain_limit, all_ended).await.is_err() {
        tracing::warn!("the drain limit is over; open connections are cut");
    }
    drop(background);
    for path in paths {
        let _ = std::fs::remove_file(path);
    }
    match ended {
        Some(Ok(Err(error))) => Err(error.into()),
        Some(Ok(Ok(())) | Err(_)) | None => Ok(()),
    }
}

/// Says at each start what is dangerous about an address, or keeps everybody out.
fn warn_about(config: &Config, gate: &Gate, address: &ListenAddress) {
    let ListenAddress::Tcp(socket) = address else { return };
    if config.insecure_loopback_without_token && socket.ip().is_loopback() {
        tracing::warn!(
            %address,
            "insecure_loopback_without_token: every user and program of this machine can run \
             commands as this account through this address"
        );
    } else if !gate.has_tokens() && config.certificates.is_empty() {
        tracing::warn!(
            %address,
            "nobody can call this address yet; make a token with `jobwarden token create`"
        );
    }
}

/// Says that whoever may submit a job may do everything, where somebody else than the owner may.
fn warn_about_jobs(config: &Config, gate: &Gate) {
    let is_tcp = |address: &ListenAddress| matches!(address, ListenAddress::Tcp(_));
    let lets_others_in =
        gate.has_tokens() || !config.unix_users.is_empty() || config.listen.iter().any(is_tcp);
    if lets_others_in && config.confinement.run_as.is_none() {
        tracing::warn!(
            "jobs run as the account of this service: whoever may submit one may do all that the \
             account may, with the jobs of others too; start as root with run_as = \"USER\" where \
             that is not meant"
        );
    }
}

fn rules(config: &Config) -> Rules {
    Rules {
        owner: process::own_uid(),
        unix_users: config.unix_users.clone(),
        certificates: config.certificates.clone(),
        loopback_without_token: config.insecure_loopback_without_token,
    }
}

fn limits(config: &Config) -> Limits {
    let open_files = u64::try_from(process::open_files_max()).unwrap_or(0);
    Limits {
        running_max: config.max_running_jobs.into(),
        queued_max: config.max_queued_jobs.into(),
        wait_max: config.max_wait,
        streams_max: config.max_streams.into(),
        streams_per_principal_max: config.max_streams_per_principal.into(),
        logs_max: (open_files / OPEN_FILES_SHARE / LOG_OPEN_FILES).max(1),
        request_bytes_max: config.max_stdin_bytes + REQUEST_BYTES_BESIDES_STDIN,
    }
}

/// Returns once the service drains.
async fn drained(mut drain: watch::Receiver<bool>) {
    // A sender that is gone means that the service is.
    let _ = drain.wait_for(|is_draining| *is_draining).await;
}

/// Returns why the service is to end: a signal, or that nobody has needed it for long.
async fn end_of_service(
    config: &Config,
    parts: &Parts,
    api: &JobApi,
    activity: &Activity,
) -> &'static str {
    let signalled = async {
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                }
            }
            _ => std::future::pending().await,
        }
    };
    let idle = async {
        match config.idle_shutdown {
            None => std::future::pending().await,
            Some(limit) => {
                let is_needed = || api.open_streams() > 0 || !parts.catalog.active_ids().is_empty();
                activity.idle_for(limit, is_needed).await;
                "idle"
            }
        }
    };
    tokio::select! { reason = signalled => reason, reason = idle => reason }
}
