//! The rules of the host, from the words of a job to those of the system.

use std::io;

use crate::{
    job::{Account, Confinement, ResourceLimit},
    sys::{
        account::{self, Credentials},
        confine,
    },
};

/// What the process of a job gives up before it runs its program.
pub(super) fn confinement(rules: &Confinement) -> confine::Confinement<'_> {
    let Confinement { run_as, no_new_privs, umask, limits } = rules;
    let limit = |limit: &ResourceLimit| (limit.resource.name(), limit.value);
    confine::Confinement {
        user: run_as.as_ref().map(credentials),
        no_new_privs: *no_new_privs,
        umask: *umask,
        limits: limits.iter().map(limit).collect(),
    }
}

/// Does `work` with the rights on files that the job will have: what it names is not read with
/// the rights of the service.
pub(super) fn with_rights_of_job<T>(
    rules: &Confinement,
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    match &rules.run_as {
        Some(account) => account::acting_as(credentials(account), work)?,
        None => work(),
    }
}

fn credentials(account: &Account) -> Credentials<'_> {
    Credentials { uid: account.uid, gid: account.gid, groups: &account.groups }
}
