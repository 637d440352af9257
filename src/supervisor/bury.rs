//! The end of a job that nobody can take up: its tree is killed and it ends as LOST.

use std::{path::Path, time::Duration};

use crate::{
    job::{OutputSize, State, Time, judge},
    store::JobRecord,
    sys::{cgroup::Group, clock, tree},
};

use super::{SupervisorError, family::Family, system, tell, tell_end};

const KILL_LIMIT: Duration = Duration::from_secs(15);

/// What people read about such a job.
const REBOOTED: &str = "The host was restarted while it ran.";
const NOT_ANNOUNCED: &str = "Its supervisor died while it was being started; whether it ran is \
    not known.";
const LOST: &str = "Its supervisors died; how the process ended is not known.";

/// Ends a job that has been claimed and has no supervisor any more, if it has not ended.
pub(super) fn bury(mut record: JobRecord) -> Result<(), SupervisorError> {
    let boot_id = clock::boot_id().map_err(system("read the boot id"))?;
    let is_this_boot =
        record.state().supervisor().is_some_and(|supervisor| supervisor.boot_id == boot_id);
    let why = match record.state() {
        State::Queued | State::Ended { .. } => return Ok(()),
        _ if !is_this_boot => REBOOTED,
        State::Claimed(_) => NOT_ANNOUNCED,
        State::Starting(_)
        | State::ExecFailed { .. }
        | State::Running(_)
        | State::Exited { .. } => LOST,
    };
    let mut end = tell::lost(why, Time::from(clock::now()));
    if is_this_boot {
        let group = recorded_group(&record)?;
        if let Some(group) = &group {
            let _ = group.kill();
        }
        let family = Family::adopted(&record);
        // Their parent reaps what dies; here there is nothing to reap.
        let survivors = tree::kill_all(|| family.list(), || {}, KILL_LIMIT)
            .map_err(system("kill leftovers"))?;
        let _ = group.map(|group| group.remove());
        if survivors > 0 {
            end.message += &format!(" {survivors} processes could not be killed.");
        }
    }
    if let State::Exited { running, exit, .. } = record.state() {
        // How the process ended is known; what is lost is output of its leftovers at most.
        (end.state, end.cause) = judge(*exit, running.stop, |_| false);
        end.exit = Some(*exit);
    }
    let [out_size, err_size] = sizes(&record);
    // Beyond a limit that keeps the head only, nobody has counted but who died.
    let [out_cut, err_cut] = record.dir().cut_bytes().unwrap_or([0, 0]);
    end.stdout = OutputSize { size_bytes: out_size, dropped_bytes: out_cut };
    end.stderr = OutputSize { size_bytes: err_size, dropped_bytes: err_cut };
    tell_end(&mut record, end)
}

/// The control group of the job, if it had one and the host has not been restarted since.
pub(super) fn recorded_group(record: &JobRecord) -> Result<Option<Group>, SupervisorError> {
    let Some(running) = record.state().running() else { return Ok(None) };
    let boot_id = clock::boot_id().map_err(system("read the boot id"))?;
    if boot_id != running.started.process.boot_id {
        return Ok(None);
    }
    Ok(running.started.cgroup.as_deref().and_then(|path| Group::recorded(Path::new(path))))
}

fn sizes(record: &JobRecord) -> [u64; 2] {
    let dir = record.dir();
    [dir.stdout_path(), dir.stderr_path()].map(|path| crate::sys::fs::size(&path).unwrap_or(0))
}
