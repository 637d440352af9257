//! The processes of a job: everything that descends from its supervisor.
//!
//! A supervisor is a subreaper, so a process that lost its parent (a daemon that forked twice)
//! hangs below it again; only the supervisor's own death can cut a tree loose. Nothing is ever
//! signalled by a number alone: a handle is taken first and checked to be the listed process.

use std::{
    collections::HashSet,
    io,
    time::{Duration, Instant},
};

use super::{
    process::{self, PidFd},
    signal,
};

const ROUND_PAUSE: Duration = Duration::from_millis(2);
/// More processes than a host can have; ends a walk of a list that grows under our eyes.
const PROCESSES_MAX: usize = 4 * 1024 * 1024;

/// A process as it was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listed {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

/// The children of this process, which must have a single thread, zombies included.
pub fn own_children() -> io::Result<Vec<i32>> {
    match std::fs::read_to_string("/proc/thread-self/children") {
        Ok(list) => Ok(pids(&list)),
        Err(_) => children_of(process::own_pid()),
    }
}

fn pids(list: &str) -> Vec<i32> {
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The children of a process, zombies included.
pub fn children_of(pid: i32) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    let threads = match std::fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(threads) => threads,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(children),
        Err(error) => return Err(error),
    };
    for thread in threads {
        let Ok(thread) = thread else { continue };
        match std::fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(pids(&list)),
            // The thread or the process has gone, or the kernel has no such file.
            Err(_) if std::path::Path::new("/proc/self/task").exists() => {}
            Err(error) => return Err(error),
        }
    }
    if children.is_empty() && !kernel_lists_children() {
        return children_by_scan(pid);
    }
    Ok(children)
}

fn kernel_lists_children() -> bool {
    let own = process::own_pid();
    std::path::Path::new(&format!("/proc/{own}/task/{own}/children")).exists()
}

/// Kernels without `CONFIG_PROC_CHILDREN`: every process tells its parent.
fn children_by_scan(parent: i32) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for name in super::dir::names(std::path::Path::new("/proc"))? {
        let Ok(pid) = name.parse::<i32>() else { continue };
        if let Some(fields) = process::stat_of(pid)?
            && fields.split_ascii_whitespace().nth(1) == Some(parent.to_string().as_str())
        {
            children.push(pid);
        }
    }
    Ok(children)
}

/// All living descendants of `roots`, the roots included if `with_roots`; zombies are left out.
pub fn descendants(roots: &[i32], with_roots: bool) -> io::Result<Vec<Listed>> {
    let mut found = Vec::new();
    let mut seen: HashSet<i32> = roots.iter().copied().collect();
    let mut open: Vec<i32> = roots.to_vec();
    if with_roots {
        found.extend(roots.iter().filter_map(|pid| list(*pid)));
    }
    while let Some(parent) = open.pop() {
        for child in children_of(parent)? {
            if seen.len() < PROCESSES_MAX && seen.insert(child) {
                open.push(child);
                found.extend(list(child));
            }
        }
    }
    Ok(found)
}

/// The living process with this number.
fn list(pid: i32) -> Option<Listed> {
    let fields = process::stat_of(pid).ok()??;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let start_ticks = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X" | "x")).then_some(Listed { pid, start_ticks })
}

/// Sends a signal to each; tells how many got it.
pub fn signal_each(processes: &[Listed], signal: i32) -> usize {
    let mut reached = 0;
    for listed in processes {
        let handle = PidFd::open_exactly(listed.pid, listed.start_ticks).ok().flatten();
        if handle.is_some_and(|handle| handle.signal(signal).unwrap_or(false)) {
            reached += 1;
        }
    }
    reached
}

/// Kills everything that `list` finds until it finds nothing, or until `limit` is over.
///
/// Each round stops all, looks again until no new one appears, then kills all: a process that
/// forks faster than it is found cannot get away. `reap` is called between rounds so that
/// orphans that have died are taken off the list. Tells how many were left.
pub fn kill_all(
    mut list: impl FnMut() -> io::Result<Vec<Listed>>,
    mut reap: impl FnMut(),
    limit: Duration,
) -> io::Result<usize> {
    let begin = Instant::now();
    loop {
        let mut stopped: HashSet<Listed> = HashSet::new();
        loop {
            let fresh: Vec<Listed> =
                list()?.into_iter().filter(|listed| !stopped.contains(listed)).collect();
            if fresh.is_empty() {
                break;
            }
            signal_each(&fresh, signal::STOP);
            stopped.extend(fresh);
        }
        let all: Vec<Listed> = stopped.into_iter().collect();
        signal_each(&all, signal::KILL);
        reap();
        let left = list()?.len();
        if left == 0 || begin.elapsed() >= limit {
            return Ok(left);
        }
        std::thread::sleep(ROUND_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_listed_process_that_is_another_by_now_gets_no_signal() {
        let mut child = Command::new("sleep").arg("30").stdout(Stdio::null()).spawn().unwrap();
        let listed = list(child.id().cast_signed()).unwrap();
        let stranger = Listed { start_ticks: listed.start_ticks + 1, ..listed };
        assert_eq!(signal_each(&[stranger], signal::KILL), 0);
        assert_eq!(signal_each(&[listed], signal::KILL), 1);
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn killing_leaves_no_descendant_of_the_given_root() {
        let mut root =
            Command::new("sh").args(["-c", "sleep 31 & sleep 32 & wait"]).spawn().unwrap();
        let pid = root.id().cast_signed();
        while descendants(&[pid], true).unwrap().len() < 3 {
            std::thread::yield_now();
        }
        let list = || descendants(&[pid], true);
        let reap = || drop(root.try_wait());
        assert_eq!(kill_all(list, reap, Duration::from_secs(10)).unwrap(), 0);
    }
}
