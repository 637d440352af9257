//! The end of a job whose supervisor died: its tree is killed and it ends as LOST.

use std::{io, path::Path, time::Duration};

use crate::{
    job::{OutputSize, State, Time},
    store::{JobDir, JobRecord},
    sys::{
        cgroup::Group,
        clock, process,
        tree::{self, Listed},
    },
};

use super::{SupervisorError, system, tell, tell_end};

const KILL_LIMIT: Duration = Duration::from_secs(15);

/// Ends a job that has been claimed and has no supervisor any more.
///
/// `launcher` is the process that inherits what a dead supervisor leaves. A job that has a
/// supervisor, has ended or was never claimed is left alone.
pub fn bury(dir: JobDir, launcher: i32, why: &str) -> Result<(), SupervisorError> {
    let Some(mut record) = JobRecord::try_take(dir)? else { return Ok(()) };
    match record.state() {
        State::Queued | State::Ended { .. } => return Ok(()),
        State::Claimed(_) | State::Running(_) | State::Exited { .. } => {}
    }
    let group = recorded_group(&record)?;
    if let Some(group) = &group {
        let _ = group.kill();
    }
    let list = || leftovers(&record, launcher);
    // The launcher reaps what dies; here there is nothing to reap.
    let survivors = tree::kill_all(list, || {}, KILL_LIMIT).map_err(system("kill leftovers"))?;
    let _ = group.map(|group| group.remove());
    let now = Time::from(clock::now());
    let mut end = tell::lost(why, now);
    if survivors > 0 {
        end.message += &format!(" {survivors} processes could not be killed.");
    }
    match record.state() {
        State::Exited { running, exit, .. } => {
            // How the process ended is known; what is lost is output of its leftovers at most.
            let sent = |_| false;
            (end.state, end.cause) = crate::job::judge(*exit, running.stop, sent);
            end.exit = Some(*exit);
        }
        State::Queued | State::Claimed(_) | State::Running(_) | State::Ended { .. } => {}
    }
    let [out_size, err_size] = sizes(&record);
    // Beyond a limit that keeps the head only, nobody has counted but who died.
    let [out_cut, err_cut] = record.dir().cut_bytes().unwrap_or([0, 0]);
    end.stdout = OutputSize { size_bytes: out_size, dropped_bytes: out_cut };
    end.stderr = OutputSize { size_bytes: err_size, dropped_bytes: err_cut };
    tell_end(&mut record, end)
}

/// The control group of the job, if it had one and the host has not been restarted since.
fn recorded_group(record: &JobRecord) -> Result<Option<Group>, SupervisorError> {
    let Some(running) = record.state().running() else { return Ok(None) };
    let boot_id = clock::boot_id().map_err(system("read the boot id"))?;
    if boot_id != running.started.process.boot_id {
        return Ok(None);
    }
    Ok(running.started.cgroup.as_deref().and_then(|path| Group::recorded(Path::new(path))))
}

/// What is left of the job: children of the launcher that are no supervisors, the recorded main
/// process, all their descendants, and whatever carries the job's id in its environment.
///
/// A child of the launcher that has executed another program was handed to it by the death of a
/// supervisor, this job's or another's that died too and is being buried as well.
fn leftovers(record: &JobRecord, launcher: i32) -> io::Result<Vec<Listed>> {
    let mut roots: Vec<i32> = tree::children_of(launcher)?
        .into_iter()
        .filter(|pid| !process::is_copy_of(*pid, launcher))
        .collect();
    if let Some(running) = record.state().running() {
        let known = &running.started.process;
        let is_same = clock::boot_id()? == known.boot_id
            && process::start_ticks_of(known.pid)? == Some(known.start_ticks);
        if is_same {
            roots.push(known.pid);
        }
    }
    let pair = format!("JOBWARDEN_JOB_ID={}", record.accepted().id);
    roots.extend(tree::with_environment(&pair)?.iter().map(|listed| listed.pid));
    roots.sort_unstable();
    roots.dedup();
    tree::descendants(&roots, true)
}

fn sizes(record: &JobRecord) -> [u64; 2] {
    let dir = record.dir();
    [dir.stdout_path(), dir.stderr_path()].map(|path| crate::sys::fs::size(&path).unwrap_or(0))
}
