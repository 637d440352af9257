//! All processes of a job, as its supervisor finds them.

use std::{io, path::PathBuf};

use crate::{
    store::JobRecord,
    sys::{
        marks, process,
        tree::{self, Listed},
    },
};

/// The processes of a job.
#[derive(Debug)]
pub(super) enum Family {
    /// All that descends from this process.
    Own,
    /// What the supervisors before have left to others.
    Adopted {
        /// What each has in its environment.
        pair: String,
        /// What some have open.
        fifos: [PathBuf; 2],
        /// The main process.
        main: Option<Listed>,
    },
}

impl Family {
    /// The family of a job whose supervisor died.
    pub(super) fn adopted(record: &JobRecord) -> Self {
        let pair = format!("JOBWARDEN_JOB_ID={}", record.accepted().id);
        let main = record.state().running().map(|running| Listed {
            pid: running.started.process.pid,
            start_ticks: running.started.process.start_ticks,
        });
        Self::Adopted { pair, fifos: record.dir().fifo_paths(), main }
    }

    /// All that live.
    pub(super) fn list(&self) -> io::Result<Vec<Listed>> {
        match self {
            Self::Own => tree::descendants(&[process::own_pid()], false),
            Self::Adopted { pair, fifos, main } => marks::marked(pair, fifos, *main),
        }
    }

    /// Whether there is anything besides the main process, which has ended.
    pub(super) fn has_others(&self, main: i32, is_grouped: bool) -> io::Result<bool> {
        match self {
            // Its group may hold some that nothing else tells of.
            Self::Adopted { .. } if is_grouped => Ok(true),
            Self::Own => Ok(tree::own_children()?.iter().any(|pid| *pid != main)),
            Self::Adopted { .. } => Ok(!self.list()?.is_empty()),
        }
    }
}
