//! Processes as `/proc` shows them. Signals go only to processes that a test started.

use std::{fs, io, path::PathBuf};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    start_ticks: u64,
}

impl Process {
    /// The process with this number now.
    pub(crate) fn of(pid: i32) -> Option<Process> {
        stat(pid).map(|stat| Process { pid, start_ticks: stat.start_ticks })
    }

    /// The process, if it still was the one that started then.
    pub(crate) fn recorded(pid: i32, start_ticks: u64) -> Option<Process> {
        Process::of(pid).filter(|process| process.start_ticks == start_ticks)
    }

    pub(crate) fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.is_dead())
    }

    pub(crate) fn kill(&self) {
        if self.is_alive() {
            kill_process(self.pid);
        }
    }
}

struct Stat {
    start_ticks: u64,
    state: char,
}

impl Stat {
    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, also blanks and parentheses.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let state = fields.first()?.chars().next()?;
    Some(Stat { start_ticks: fields.get(19)?.parse().ok()?, state })
}

/// Whether a process with this number runs. A zombie does not.
pub(crate) fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| !stat.is_dead())
}

/// The letter for what a process does: `T` if it was stopped.
pub(crate) fn state_of(pid: i32) -> Option<char> {
    stat(pid).map(|stat| stat.state)
}

/// Sends a signal to a process; one that has gone is no fault.
pub(crate) fn signal_process(pid: i32, signal: Signal) {
    assert!(pid > 1, "{pid} is no process of a test");
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Sends SIGKILL to a process.
pub(crate) fn kill_process(pid: i32) {
    signal_process(pid, Signal::SIGKILL);
}

/// Stops a process until it is continued.
pub(crate) fn stop_process(pid: i32) {
    signal_process(pid, Signal::SIGSTOP);
    while state_of(pid).is_some_and(|state| state != 'T') {
        std::thread::yield_now();
    }
}

/// Lets a stopped process go on.
pub(crate) fn continue_process(pid: i32) {
    signal_process(pid, Signal::SIGCONT);
}

/// Whether the kernel tells who is not its parent how a process ended (6.15).
pub(crate) fn kernel_tells_exits() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
    (next(), next()) >= (6, 15)
}

/// The name of a process.
pub(crate) fn name_of(pid: i32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

/// The children of a process.
pub(crate) fn children_of(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    texts.flat_map(|text| numbers(&text)).collect()
}

fn numbers(text: &str) -> Vec<i32> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Processes that carry `NAME=VALUE` in their environment, zombies aside.
pub(crate) fn carriers(variable: &str) -> Vec<i32> {
    let wanted = variable.as_bytes();
    let carries = |pid: &i32| {
        let read = fs::read(PathBuf::from(format!("/proc/{pid}/environ")));
        let environment: io::Result<Vec<u8>> = read;
        environment.is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|pair| pair == wanted))
    };
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(carries)
        .filter(|pid| is_alive(*pid))
        .collect()
}
