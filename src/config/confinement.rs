//! The settings that confine jobs: whom they run as and what they may not do.
//!
//! They are checked as text here. Who the user is, the account database tells when the service
//! starts (`server`).

use std::fmt;

use toml::Value;

use super::{reader::Reader, values};
use crate::job::{Resource, ResourceLimit, UMASK_DEFAULT};

/// All permissions: the most that a umask can take away.
const UMASK_MAX: u32 = 0o777;

/// What jobs are confined to. The name of each field is its key, as in `Config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfinementSettings {
    /// Whom jobs run as; needs a service that runs as root. Default: the account of the service.
    pub run_as: Option<RunAs>,
    /// Whether jobs can gain no rights by the programs that they execute. Default: yes.
    pub no_new_privs: bool,
    /// The permissions that files which jobs make do not get, 000 to 777. Default: 022.
    pub umask: u32,
    /// Limits of the kernel for each process of a job, soft and hard. Default: none.
    pub rlimits: Vec<ResourceLimit>,
}

/// A user, and a group if not its own; each a name or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// The user.
    pub user: String,
    /// The group.
    pub group: Option<String>,
}

impl fmt::Display for RunAs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(formatter, "{}:{group}", self.user),
            None => formatter.write_str(&self.user),
        }
    }
}

impl ConfinementSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> ConfinementSettings {
        let run_as = reader.one("run_as", None, |it| run_as(it.text));
        let no_new_privs = reader.one("no_new_privs", true, |it| values::flag(it.text));
        let umask = reader.one("umask", UMASK_DEFAULT, |it| umask(it.text));
        let rlimits = reader.many("rlimits", |it| rlimit(it.text));
        let rlimits: Vec<ResourceLimit> = rlimits.into_iter().flatten().collect();
        for (place, limit) in rlimits.iter().enumerate() {
            if rlimits[..place].iter().any(|earlier| earlier.resource == limit.resource) {
                let remedy = "must not limit the same resource twice".to_owned();
                reader.mistake("rlimits", Some(limit.resource.name().to_owned()), remedy);
            }
        }
        ConfinementSettings { run_as, no_new_privs, umask, rlimits }
    }

    /// The settings as they stand in a file.
    pub(super) fn lines(&self) -> [(&'static str, Value); 4] {
        let ConfinementSettings { run_as, no_new_privs, umask, rlimits } = self;
        let none = || "none".to_owned();
        let limit = |limit: &ResourceLimit| {
            Value::String(format!("{}={}", limit.resource.name(), limit.value))
        };
        let rlimits = match rlimits.as_slice() {
            // A list of nothing is refused as a slip of who wrote it.
            [] => Value::String(none()),
            some => Value::Array(some.iter().map(limit).collect()),
        };
        [
            ("run_as", Value::String(run_as.as_ref().map_or_else(none, RunAs::to_string))),
            ("no_new_privs", Value::Boolean(*no_new_privs)),
            ("umask", Value::String(format!("{umask:03o}"))),
            ("rlimits", rlimits),
        ]
    }
}

fn run_as(text: &str) -> Result<Option<RunAs>, String> {
    if text == "none" {
        return Ok(None);
    }
    let is_name = |name: &str| {
        let is_odd = |letter: char| letter == ':' || letter.is_whitespace() || letter.is_control();
        !name.is_empty() && !name.contains(is_odd)
    };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if is_name(user) && group.is_none_or(is_name) {
        return Ok(Some(RunAs { user: user.to_owned(), group: group.map(str::to_owned) }));
    }
    Err("must be USER, USER:GROUP, UID:GID or \"none\"".to_owned())
}

fn umask(text: &str) -> Result<u32, String> {
    let is_octal = !text.is_empty() && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let umask = u32::from_str_radix(text, 8).ok().filter(|umask| *umask <= UMASK_MAX);
    umask
        .filter(|_| is_octal)
        .ok_or_else(|| "must be octal digits from 000 to 777, for example \"022\"".to_owned())
}

fn rlimit(text: &str) -> Result<Option<ResourceLimit>, String> {
    if text == "none" {
        return Ok(None);
    }
    let wrong = || {
        let names = Resource::ALL.map(Resource::name).join(", ");
        format!("must be NAME=NUMBER, for example nofile=1024 or as=4GiB; names are {names}")
    };
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let resource = Resource::named(name).ok_or_else(wrong)?;
    let value = values::bytes(value, i64::MAX.unsigned_abs()).map_err(|_| wrong())?;
    Ok(Some(ResourceLimit { resource, value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_groups_masks_and_limits_are_read_and_nonsense_is_refused() {
        let both = RunAs { user: "1000".to_owned(), group: Some("100".to_owned()) };
        assert_eq!(run_as("1000:100"), Ok(Some(both)));
        assert_eq!(run_as("none"), Ok(None));
        assert!(["", ":", "a:", ":b", "a:b:c", "a b", "a\n"].iter().all(|it| run_as(it).is_err()));
        assert_eq!(umask("077"), Ok(0o077));
        assert!(["", "8", "0o22", "+22", "1000", "-1"].iter().all(|it| umask(it).is_err()));
        let four = ResourceLimit { resource: Resource::As, value: 4 << 30 };
        assert_eq!(rlimit("as=4GiB"), Ok(Some(four)));
        assert!(["as", "as=", "as=x", "nice=1", "=1"].iter().all(|it| rlimit(it).is_err()));
    }
}
