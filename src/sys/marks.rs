//! The processes of a job whose supervisor is dead, found by what they carry.
//!
//! A dead supervisor's children belong to another process, among others'. What tells them apart
//! is what a job gives to all it starts: its id in the environment, and its FIFOs open for
//! writing. A process that has given up both and both its parents cannot be told from a
//! stranger's, and is left alone here.

use std::{
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    dir, process,
    tree::{self, Listed},
};

/// The processes that hold this `KEY=VALUE` in their environment or one of these FIFOs open for
/// writing, with all their descendants. Processes of other users are not seen, this one and other
/// copies of the same program with the same arguments are left out.
pub fn marked(pair: &str, fifos: &[PathBuf], main: Option<Listed>) -> io::Result<Vec<Listed>> {
    let own = process::own_pid();
    let fifos: Vec<(u64, u64)> = fifos.iter().filter_map(|path| identity(path)).collect();
    let mut roots: Vec<i32> = Vec::new();
    for name in dir::names(Path::new("/proc"))? {
        let Ok(pid) = name.parse::<i32>() else { continue };
        if (has_environment(pid, pair) || writes_to(pid, &fifos)) && !process::is_copy_of(pid, own)
        {
            roots.push(pid);
        }
    }
    // It may have replaced its environment and closed its output.
    if let Some(main) = main.filter(|main| !roots.contains(&main.pid))
        && process::start_ticks_of(main.pid)? == Some(main.start_ticks)
    {
        roots.push(main.pid);
    }
    tree::descendants(&roots, true)
}

fn has_environment(pid: i32, pair: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|held| held == pair.as_bytes())
}

/// Whether a process has one of these FIFOs open for writing: the mode of the link says so
/// (proc(5)).
fn writes_to(pid: i32, fifos: &[(u64, u64)]) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        let path = descriptor.path();
        let is_writer =
            path.symlink_metadata().is_ok_and(|link| link.permissions().mode() & 0o200 != 0);
        // Others are not worth another look, which may take long on a file system that hangs.
        let is_named = std::fs::read_link(&path)
            .is_ok_and(|target| target.extension().is_some_and(|extension| extension == "fifo"));
        is_writer && is_named && identity(&path).is_some_and(|found| fifos.contains(&found))
    })
}

/// The device and number of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = path.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::sys::{pipe, signal};

    #[test]
    fn who_carries_the_mark_or_the_pipe_is_found_with_its_children_and_no_stranger() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("out.fifo");
        pipe::create(&fifo).unwrap();
        let holder = || Stdio::from(pipe::open_both(&fifo).unwrap());
        let sleep = |mark: Option<&str>, output: Stdio| {
            let mut command = Command::new("sh");
            command.args(["-c", "sleep 30 & wait"]).stdout(output);
            if let Some(mark) = mark {
                command.env("MARK", mark);
            }
            command.spawn().unwrap()
        };
        let mut marked_one = sleep(Some("mine"), Stdio::null());
        let mut writer = sleep(None, holder());
        let mut stranger = sleep(Some("minefield"), Stdio::null());
        let list = || marked("MARK=mine", std::slice::from_ref(&fifo), None).unwrap();
        while list().len() < 4 {
            std::thread::yield_now();
        }
        let found: Vec<i32> = list().iter().map(|listed| listed.pid).collect();
        assert_eq!(found.len(), 4);
        assert!(!found.contains(&stranger.id().cast_signed()));
        let strangers = tree::descendants(&[stranger.id().cast_signed()], true).unwrap();
        tree::signal_each(&strangers, signal::KILL);
        tree::signal_each(&list(), signal::KILL);
        for child in [&mut marked_one, &mut writer, &mut stranger] {
            child.wait().unwrap();
        }
    }
}
