//! The `confinement` of `spec.json`: the rules of the host under which a job runs.
//!
//! A member that is not known makes the record unreadable, as in a spec: a rule must not be
//! ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::job::{Account, Confinement, Resource, ResourceLimit, UMASK_DEFAULT};

use super::record::{RecordError, wrong};

/// All permissions: the most that a umask can take away.
const UMASK_MAX: u32 = 0o777;

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConfinementMembers {
    #[serde(skip_serializing_if = "Option::is_none")]
    run_as: Option<AccountMembers>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_new_privs: bool,
    /// Octal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    umask: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountMembers {
    name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    home: String,
}

/// What stands in the record; nothing for a job without rules.
pub(super) fn members(confinement: &Confinement) -> Option<ConfinementMembers> {
    if *confinement == Confinement::default() {
        return None;
    }
    let Confinement { run_as, no_new_privs, umask, limits } = confinement.clone();
    let run_as = run_as.map(|account| {
        let Account { name, uid, gid, groups, home } = account;
        AccountMembers { name, uid, gid, groups, home }
    });
    let limits = limits.into_iter().map(|ResourceLimit { resource, value }| {
        let name = resource.name().to_owned();
        (name, value)
    });
    Some(ConfinementMembers {
        run_as,
        no_new_privs,
        umask: (umask != UMASK_DEFAULT).then(|| format!("{umask:03o}")),
        limits: limits.collect(),
    })
}

/// The rules that a record holds.
pub(super) fn confinement(members: Option<ConfinementMembers>) -> Result<Confinement, RecordError> {
    let Some(members) = members else { return Ok(Confinement::default()) };
    let ConfinementMembers { run_as, no_new_privs, umask, limits } = members;
    let run_as = run_as.map(|account| {
        let AccountMembers { name, uid, gid, groups, home } = account;
        // To the kernel the last number means "no change": the job would run as the service.
        if [uid, gid].contains(&u32::MAX) {
            return Err(wrong("confinement.run_as", "has a number that no account can have"));
        }
        Ok(Account { name, uid, gid, groups, home })
    });
    let run_as = run_as.transpose()?;
    let umask = match umask {
        None => UMASK_DEFAULT,
        Some(digits) => u32::from_str_radix(&digits, 8)
            .ok()
            .filter(|umask| *umask <= UMASK_MAX)
            .ok_or_else(|| wrong("confinement.umask", "is not octal, from 000 to 777"))?,
    };
    let limits = limits.into_iter().map(|(name, value)| {
        let resource = Resource::named(&name)
            .ok_or_else(|| wrong("confinement.limits", format!("{name:?} is not known")))?;
        Ok(ResourceLimit { resource, value })
    });
    let limits = limits.collect::<Result<Vec<_>, RecordError>>()?;
    Ok(Confinement { run_as, no_new_privs, umask, limits })
}
