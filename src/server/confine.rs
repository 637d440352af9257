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
        process,
    },
};

/// Ports below this one are for who has a right to them (ip(7), `ip_unprivileged_port_start`).
const UNPRIVILEGED_PORT_START: u16 = 1024;

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
    if config.listen.iter().any(is_privileged) {
        kept.push(Capability::CAP_NET_BIND_SERVICE);
    }
    if let Err(error) = capability::give_up_all_but(&kept) {
        tracing::warn!(%error, "the service keeps all rights of root, since it cannot give them up");
    }
}

fn is_privileged(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Tcp(socket) => (1..UNPRIVILEGED_PORT_START).contains(&socket.port()),
        ListenAddress::Unix(_) => false,
    }
}
