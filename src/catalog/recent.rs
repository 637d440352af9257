//! Ended jobs that were read or ended not long ago, within a bound of bytes.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::job::{Command, Job, JobId};

/// The most bytes that are kept, roughly.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a job takes besides its texts, roughly.
const JOB_BYTES: usize = 1024;

/// A cache in the order of insertion.
#[derive(Debug, Default)]
pub(super) struct Recent {
    jobs: HashMap<JobId, Arc<Job>>,
    order: VecDeque<JobId>,
    bytes: usize,
}

impl Recent {
    pub(super) fn get(&self, id: JobId) -> Option<Arc<Job>> {
        self.jobs.get(&id).cloned()
    }

    pub(super) fn insert(&mut self, job: Arc<Job>) {
        let (id, bytes) = (job.id(), weight(&job));
        match self.jobs.insert(id, job) {
            Some(old) => self.bytes -= weight(&old),
            None => self.order.push_back(id),
        }
        self.bytes += bytes;
        while self.bytes > BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(oldest);
        }
    }

    pub(super) fn remove(&mut self, id: JobId) {
        self.forget(id);
        self.order.retain(|kept| *kept != id);
    }

    fn forget(&mut self, id: JobId) {
        if let Some(job) = self.jobs.remove(&id) {
            self.bytes -= weight(&job);
        }
    }
}

/// How many bytes a job takes in memory, roughly.
pub fn weight(job: &Job) -> usize {
    let spec = &job.accepted.spec;
    let command = match &spec.command {
        Command::Argv(argv) => argv.iter().map(String::len).sum(),
        Command::Shell(script) => script.len(),
    };
    let pairs = spec.env.iter().chain(&spec.labels).chain(&job.labels);
    let texts: usize = pairs.map(|(key, value)| key.len() + value.len()).sum();
    JOB_BYTES + command + texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::job_of;

    #[test]
    fn the_cache_stays_within_its_bytes_and_keeps_the_newest() {
        let mut recent = Recent::default();
        let count = BYTES_MAX / JOB_BYTES * 2;
        for number in 0..count {
            recent.insert(job_of(number as u64 + 1));
        }
        assert!(recent.bytes <= BYTES_MAX);
        assert!(recent.get(job_of(1).id()).is_none());
        assert!(recent.get(job_of(count as u64).id()).is_some());
        assert_eq!(recent.jobs.len(), recent.order.len());
    }
}
