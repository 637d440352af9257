//! One line about the machine: figures without it say nothing.

use std::{fs, path::Path, thread};

/// Cores, kernel, file system of `folder`, and how busy it is.
pub(crate) fn line(folder: &Path) -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    let (kernel, kind) = (kernel.trim(), file_system(folder));
    format!("{cores} cores, Linux {kernel}, {kind} at {}, load {load}", folder.display())
}

/// The kind of the innermost mount that holds `folder`.
fn file_system(folder: &Path) -> String {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of_line = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        folder.starts_with(place).then(|| (place.len(), kind.to_owned()))
    };
    let innermost = mounts.lines().filter_map(of_line).max_by_key(|(length, _)| *length);
    innermost.map_or_else(|| "unknown file system".to_owned(), |(_, kind)| kind)
}
