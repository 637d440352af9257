//! What defaults depend on: the machine and the account.
//!
//! Everything is read from files that the kernel or the account database offers, so no system
//! call of our own is needed and tests can make up a machine.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

/// What the defaults depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineFacts {
    /// The memory of the machine, if it is known.
    pub memory_bytes: Option<u64>,
    /// The hard limit on open files of a process; `None` if there is none or it is not known.
    pub open_files_max: Option<u64>,
    /// The home directory of the account, if it has one.
    pub home: Option<PathBuf>,
    /// The users that the account database of this machine names.
    pub accounts: BTreeMap<String, u32>,
    /// What relative paths given on the command line start from.
    pub current_dir: PathBuf,
}

impl MachineFacts {
    /// Looks at this machine. What cannot be found out is left unknown.
    pub fn read() -> MachineFacts {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        MachineFacts {
            memory_bytes: memory_bytes(&text("/proc/meminfo")),
            open_files_max: open_files_max(&text("/proc/self/limits")),
            home: home.or_else(|| account_home(&text("/proc/self/status"), &text("/etc/passwd"))),
            accounts: accounts(&text("/etc/passwd")),
            current_dir: env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        }
    }
}

/// The names and numbers of users in the text of `passwd`; the first of a name counts.
pub(super) fn accounts(passwd: &str) -> BTreeMap<String, u32> {
    let mut accounts = BTreeMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(uid))) = (fields.next(), fields.nth(1).map(str::parse)) {
            accounts.entry(name.to_owned()).or_insert(uid);
        }
    }
    accounts
}

/// The total memory in the text of `/proc/meminfo`.
pub(super) fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The hard limit on open files in the text of `/proc/self/limits`.
pub(super) fn open_files_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The home directory that `passwd` gives the effective user in `/proc/self/status`.
pub(super) fn account_home(status: &str, passwd: &str) -> Option<PathBuf> {
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let uid = uid.split_whitespace().nth(1)?;
    let fields = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&uid))?;
    fields.get(5).map(PathBuf::from).filter(|home| home.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_limits_are_read_from_the_texts_of_the_kernel() {
        assert_eq!(memory_bytes("MemFree: 1 kB\nMemTotal:   2048 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(memory_bytes(""), None);
        let limits = "Limit  Soft  Hard  Units\nMax open files   1024   524288   files\n";
        assert_eq!(open_files_max(limits), Some(524_288));
        assert_eq!(open_files_max("Max open files  1024  unlimited  files\n"), None);
    }

    #[test]
    fn the_home_of_the_effective_user_is_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n";
        let status = "Name:\tx\nUid:\t0\t1000\t0\t0\n";
        assert_eq!(account_home(status, passwd), Some(PathBuf::from("/home/ada")));
        assert_eq!(accounts(passwd)["ada"], 1000);
        assert_eq!(account_home("Uid:\t7\t7\t7\t7\n", passwd), None);
    }
}
