//! Control groups, version 2: a group for each job, killed as a whole by one write.
//!
//! Only the unified hierarchy is used, and only below the group that this process is in: where
//! the host has delegated nothing, there are no groups and nothing is lost but speed.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// A group under which groups for jobs are made.
#[derive(Debug)]
pub struct GroupParent {
    path: PathBuf,
}

/// A group that was made for one job.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
}

impl GroupParent {
    /// Makes the group `name` below this process's own, if the host lets us.
    pub fn create(name: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = own_group(&mounts, &own)?.join(name);
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
            Ok(()) | Err(_) => {}
        }
        // The kernel has it since 5.14; without it a group is of no use here.
        path.join("cgroup.kill").exists().then_some(Self { path })
    }

    /// Makes a group for a job.
    pub fn group(&self, name: &str) -> io::Result<Group> {
        let path = self.path.join(name);
        match std::fs::create_dir(&path) {
            // That of a supervisor that died before it started the job.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        Ok(Group { path })
    }

    /// Removes the group; it must have no processes and no groups left.
    pub fn remove(&self) -> io::Result<()> {
        std::fs::remove_dir(&self.path)
    }
}

impl Group {
    /// The group at a path that was recorded; `None` unless it is a group and still there.
    pub fn recorded(path: &Path) -> Option<Self> {
        let is_group = path.starts_with("/sys/fs/cgroup") && path.join("cgroup.kill").exists();
        is_group.then(|| Self { path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file through which a process enters the group.
    pub fn processes(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    /// Sends SIGKILL to every process of the group at once, also to one that is being forked.
    pub fn kill(&self) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.kill"))?.write_all(b"1")
    }

    /// Removes the group; it must have no processes left.
    pub fn remove(&self) -> io::Result<()> {
        std::fs::remove_dir(&self.path)
    }
}

/// The folder of the own group, by the texts of `/proc/self/mounts` and `/proc/self/cgroup`.
pub(super) fn own_group(mounts: &str, own: &str) -> Option<PathBuf> {
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then_some(place)
    })?;
    let group = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(mount).join(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_in_the_unified_hierarchy() {
        let mounts = "proc /proc proc rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let own = "8:pids:/\n0::/user.slice/a.service\n";
        let found = own_group(mounts, own).unwrap();
        assert_eq!(found, Path::new("/sys/fs/cgroup/unified/user.slice/a.service"));
        assert_eq!(own_group("proc /proc proc rw 0 0\n", own), None);
        assert_eq!(own_group(mounts, "8:pids:/\n"), None);
    }

    #[test]
    fn a_recorded_path_that_is_no_group_is_not_taken_for_one() {
        assert!(Group::recorded(Path::new("/tmp")).is_none());
        assert!(Group::recorded(Path::new("/sys/fs/cgroup/no/such/group")).is_none());
    }
}
