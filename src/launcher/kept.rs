//! What is held for jobs whose supervisors another launcher started: if that launcher and then a
//! supervisor die, nothing of the job is lost.
//!
//! Held are the FIFOs, so that bytes in them outlive their last writer, and a handle to the main
//! process, from which the kernel tells how it ended (since 6.15).

use std::{collections::HashMap, time::Duration};

use crate::{
    job::JobId,
    store::JobDir,
    supervisor::{self, Fifos, Orphaned},
    sys::{clock, process::PidFd},
};

/// How often it is looked which jobs have ended.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The jobs for which something is held: at most those that run.
#[derive(Debug, Default)]
pub(super) struct Kept {
    jobs: HashMap<JobId, Held>,
    next_look: Option<Duration>,
}

/// What is held for one job.
#[derive(Debug)]
pub(super) struct Held {
    dir: JobDir,
    pub(super) fifos: Option<Fifos>,
    /// The job may have ended before the FIFOs were held.
    pub(super) may_lack_output: bool,
    pub(super) main: Option<PidFd>,
}

impl Kept {
    pub(super) fn add(&mut self, id: JobId, dir: JobDir) {
        // What is held already may not be there to be taken any more.
        let new = || Held { dir, fifos: None, may_lack_output: false, main: None };
        if self.jobs.entry(id).or_insert_with(new).renew() {
            self.next_look.get_or_insert(clock::since_boot() + LOOK_EVERY);
        } else {
            self.jobs.remove(&id);
        }
    }

    /// Gives up what is held for a job to who takes it up.
    pub(super) fn take(&mut self, id: JobId) -> Option<Held> {
        self.jobs.remove(&id)
    }

    /// When to call `look`, on the boot clock.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.next_look
    }

    /// Lets go of what belongs to jobs that have ended.
    pub(super) fn look(&mut self, now: Duration) {
        if self.next_look.is_none_or(|at| now < at) {
            return;
        }
        self.jobs.retain(|_, held| held.renew());
        self.next_look = (!self.jobs.is_empty()).then(|| now + LOOK_EVERY);
    }
}

impl Held {
    /// Takes hold of what is there by now; false if the job has ended.
    fn renew(&mut self) -> bool {
        let Ok(found) = supervisor::orphaned(&self.dir) else {
            // A folder that is gone is no job; one that cannot be read is looked at again.
            return self.dir.lock_path().exists();
        };
        if found == Orphaned::Ended {
            return false;
        }
        if self.fifos.is_none() {
            self.fifos = Fifos::keep(&self.dir).ok();
            // Looked at when they are held: what lives now has lost nothing.
            self.may_lack_output = !found.is_alive();
        }
        if let (None, Orphaned::Started(main)) = (&self.main, &found) {
            self.main = PidFd::open_exactly(main.pid, main.start_ticks).ok().flatten();
        }
        true
    }
}
