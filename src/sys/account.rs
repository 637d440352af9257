//! Other accounts: who they are, and doing something with their rights.

use std::{ffi::CString, io, path::PathBuf};

use nix::{
    libc,
    unistd::{Gid, Group, Uid, User, getgrouplist, getgroups, setfsgid, setfsuid, setgroups},
};

use super::{io_error, process};

/// The numbers that decide what a process may do.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The user.
    pub uid: u32,
    /// The group of what it makes.
    pub gid: u32,
    /// All its groups.
    pub groups: &'a [u32],
}

/// A user of the account database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name; its number if the database does not know it.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its group, or of the one that was asked for.
    pub gid: u32,
    /// The numbers of all its groups.
    pub groups: Vec<u32>,
    /// Its home directory; `/` if the database does not know it.
    pub home: PathBuf,
}

/// Why an account cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No such user.
    #[error("there is no user {0:?} in the account database")]
    NoUser(String),
    /// No such group.
    #[error("there is no group {0:?} in the account database")]
    NoGroup(String),
    /// A number that is no user's, without a group.
    #[error("the account database does not tell the group of the user {0}; write {0}:GID")]
    GroupNeeded(u32),
    /// The database cannot be asked.
    #[error("the account database cannot be read")]
    Database(#[source] io::Error),
}

/// The user of this name or number, in this group (a name or a number as well) or in its own.
pub fn find(user: &str, group: Option<&str>) -> Result<Found, AccountError> {
    let database = |errno| AccountError::Database(io_error(errno));
    // The last number means "no change" to the kernel: who asked for it would stay who it is.
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number != u32::MAX);
    // The name first: one may consist of digits.
    let entry = match (User::from_name(user).map_err(database)?, number(user)) {
        (Some(entry), _) => Some(entry),
        (None, Some(uid)) => User::from_uid(Uid::from_raw(uid)).map_err(database)?,
        (None, None) => return Err(AccountError::NoUser(user.to_owned())),
    };
    let gid = match group {
        Some(group) => match (Group::from_name(group).map_err(database)?, number(group)) {
            (Some(entry), _) => Some(entry.gid),
            (None, Some(gid)) => Some(Gid::from_raw(gid)),
            (None, None) => return Err(AccountError::NoGroup(group.to_owned())),
        },
        None => None,
    };
    match (entry, number(user), gid) {
        (Some(entry), _, gid) => {
            let gid = gid.unwrap_or(entry.gid);
            // A name of the database holds no NUL.
            let name = CString::new(entry.name.clone()).unwrap_or_default();
            let groups = getgrouplist(&name, gid).map_err(database)?;
            let groups = groups.into_iter().map(Gid::as_raw).collect();
            let (uid, gid, home) = (entry.uid.as_raw(), gid.as_raw(), entry.dir);
            Ok(Found { name: entry.name, uid, gid, groups, home })
        }
        (None, Some(uid), Some(gid)) => {
            let (gid, home) = (gid.as_raw(), PathBuf::from("/"));
            Ok(Found { name: uid.to_string(), uid, gid, groups: vec![gid], home })
        }
        (None, Some(uid), None) => Err(AccountError::GroupNeeded(uid)),
        (None, None, _) => Err(AccountError::NoUser(user.to_owned())),
    }
}

/// Does `work` with the rights of another user on files. Only for a process with a single thread
/// that runs as root; it has its own rights again when this returns.
pub fn acting_as<T>(credentials: Credentials<'_>, work: impl FnOnce() -> T) -> io::Result<T> {
    let own_groups = getgroups().map_err(io_error)?;
    let (own_user, own_group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let groups: Vec<Gid> = credentials.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(io_error)?;
    // Leaving the number of root takes the rights that go past permissions; coming back to it
    // gives them again (capabilities(7)).
    setfsgid(Gid::from_raw(credentials.gid));
    setfsuid(Uid::from_raw(credentials.uid));
    // It returns no error; who one is can be asked by a change to nobody.
    let has_become = setfsuid(Uid::from_raw(u32::MAX)).as_raw() == credentials.uid;
    let done = has_become.then(work);
    setfsuid(own_user);
    setfsgid(own_group);
    if setgroups(&own_groups).is_err() {
        // Nothing may go on with rights that are not its own.
        std::process::abort();
    }
    // A change of rights may have let others look into this process again.
    process::forbid_dumps();
    done.ok_or_else(|| io::Error::from_raw_os_error(libc::EPERM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number_and_unknown_ones_are_named() {
        let root = find("root", None).unwrap();
        assert_eq!((root.uid, root.gid, root.name.as_str()), (0, 0, "root"));
        assert_eq!(find("0", None).unwrap(), root);
        assert_eq!(find("root", Some("4294967")).unwrap().gid, 4_294_967);
        let stranger = find("4294966", Some("7")).unwrap();
        assert_eq!((stranger.uid, stranger.gid, stranger.groups), (4_294_966, 7, vec![7]));
        assert_eq!((stranger.name.as_str(), stranger.home), ("4294966", PathBuf::from("/")));
        assert!(matches!(find("4294966", None), Err(AccountError::GroupNeeded(4_294_966))));
        assert!(matches!(find("4294967295", Some("0")), Err(AccountError::NoUser(_))));
        assert!(matches!(find("root", Some("4294967295")), Err(AccountError::NoGroup(_))));
        assert!(matches!(find("no such user", None), Err(AccountError::NoUser(_))));
        assert!(matches!(find("root", Some("no such group")), Err(AccountError::NoGroup(_))));
    }
}
