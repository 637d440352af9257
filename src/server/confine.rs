//! The rules of the host for the jobs of this service, out of its settings and the accounts; and
//! what the service itself does without.

use std::path::PathBuf;

use super::ServeError;
use crate::{
    config::{Config, ConfinementSettings, ListenAddress, RunAs},
    job::{Account, Confinement},
    sys::{
        account::{self, AccountError, Found},
        capability::{self, Capability},
        process, socket,
    },
};

/// What a service of root needs to run jobs as another user, besides being root.
const FOR_RUN_AS: [Capability; 4] = [
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    // Of the FIFOs of a job.
    Capability::CAP_CHOWN,
    // To stop it.
    Capability::CAP_KILL,
];

/// Why jobs cannot run as the user of the settings.
#[derive(Debug, thiserror::Error)]
pub enum RunAsError {
    /// Only root may become somebody else.
    #[error(
        "run_as = {run_as:?} needs a service that runs as root, and this one has the user number \
         {uid}: start it as root, or leave run_as out and start it as that user"
    )]
    NotRoot {
        /// The setting.
        run_as: String,
        /// Whom the service runs as.
        uid: u32,
    },
    /// Root may have less than all rights.
    #[error(
        "run_as = {run_as:?} needs {right}, which this service does not have although it runs as \
         root: give it CAP_SETUID, CAP_SETGID, CAP_CHOWN and CAP_KILL, or leave run_as out"
    )]
    Right {
        /// The setting.
        run_as: String,
        /// What is missing.
        right: String,
    },
    /// The account database does not know the user, or not all of it.
    #[error("run_as = {run_as:?} names nobody that jobs can run as")]
    Account {
        /// The setting.
        run_as: String,
        /// What is missing.
        source: AccountError,
    },
    /// As root nothing would be gained, and everything lost.
    #[error("run_as = {run_as:?} is root: name a user that may do less")]
    Root {
        /// The setting.
        run_as: String,
    },
    /// A home directory is a path, and paths are text here.
    #[error("run_as = {run_as:?} names a user whose home directory is not UTF-8")]
    Home {
        /// The setting.
        run_as: String,
    },
}

/// The rules for jobs, and where they run that do not say.
pub(super) fn confinement(config: &Config) -> Result<(Confinement, PathBuf), ServeError> {
    let ConfinementSettings { run_as, no_new_privs, umask, rlimits } = &config.confinement;
    let run_as = run_as.as_ref().map(resolve).transpose()?;
    let home = run_as.as_ref().map_or("/", |account| account.home.as_str());
    let working_dir = config.default_working_dir.clone().unwrap_or_else(|| PathBuf::from(home));
    let (no_new_privs, umask, limits) = (*no_new_privs, *umask, rlimits.clone());
    Ok((Confinement { run_as, no_new_privs, umask, limits }, working_dir))
}

fn resolve(run_as: &RunAs) -> Result<Account, RunAsError> {
    let uid = process::own_uid();
    let text = run_as.to_string();
    if uid != 0 {
        return Err(RunAsError::NotRoot { run_as: text, uid });
    }
    // What the launcher does not have does not help.
    let powerless = !capability::root_is_special().unwrap_or(true);
    let powerless = powerless.then(|| "a host without SECBIT_NOROOT".to_owned());
    let missing = || FOR_RUN_AS.into_iter().find(|right| !capability::has(*right));
    if let Some(right) = powerless.or_else(|| missing().map(|right| right.to_string())) {
        return Err(RunAsError::Right { run_as: text, right });
    }
    let found = account::find(&run_as.user, run_as.group.as_deref());
    let found = found.map_err(|source| RunAsError::Account { run_as: text.clone(), source })?;
    let Found { name, uid, gid, groups, home } = found;
    if uid == 0 {
        return Err(RunAsError::Root { run_as: text });
    }
    let home = home.into_os_string().into_string();
    let home = home.map_err(|_| RunAsError::Home { run_as: text })?;
    tracing::info!(user = name, uid, gid, "jobs run as another user");
    Ok(Account { name, uid, gid, groups, home })
}

/// Gives up the rights of root that a service which runs as root has no use for. What its launcher
/// needs it has again. Call before there is a second thread.
pub(super) fn give_up_rights(config: &Config) {
    // The root may stand in a folder of somebody else, and others drop folders into the inbox.
    let mut kept = vec![Capability::CAP_DAC_OVERRIDE];
    let first_free = socket::unprivileged_port_start();
    let is_privileged = |address: &ListenAddress| match address {
        ListenAddress::Tcp(socket) => (1..first_free).contains(&socket.port()),
        ListenAddress::Unix(_) => false,
    };
    if config.listen.iter().any(is_privileged) {
        kept.push(Capability::CAP_NET_BIND_SERVICE);
    }
    // Supervisors hide what they are from everybody else, and `/proc` then hides that they are.
    let are_hidden = process::are_hidden();
    if are_hidden {
        kept.push(Capability::CAP_SYS_PTRACE);
    }
    if let Err(error) = capability::give_up_all_but(&kept) {
        tracing::warn!(%error, "the service keeps rights of root, since it cannot give them up");
    }
    if are_hidden && !capability::has(Capability::CAP_SYS_PTRACE) {
        tracing::warn!(
            "/proc is mounted with hidepid: what is asked of a running job takes up to 5 s, since its \
             supervisor cannot be found to be woken"
        );
    }
}
