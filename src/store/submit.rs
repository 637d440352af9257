//! Accepting a job: its folder appears whole, and is durable before anyone is told.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest as _, Sha256};

use crate::{
    job::{Accepted, Durability, JobId, Secrets, Spec},
    sys::{faults, fs},
};

use super::{
    JobDir, Store, StoreError, job_record::STATE_BYTES, layout, requests, spec_record,
    sync::GroupSync,
};

/// A job to accept.
#[derive(Debug)]
pub struct Submission {
    /// What is accepted.
    pub accepted: Accepted,
    /// The values of its secret variables.
    pub secrets: Secrets,
    /// Its standard input.
    pub stdin: Vec<u8>,
}

/// The group syncs of the folders that many jobs share.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    groups: Mutex<HashMap<String, Arc<GroupSync>>>,
    /// The newest day whose folder is known to be on the disk.
    day: Mutex<String>,
}

/// Days whose syncs are kept: jobs are accepted into the newest, seldom into the one before.
const DAYS_KEPT: usize = 4;

impl Syncs {
    fn of(&self, key: &str, path: &Path) -> Arc<GroupSync> {
        let mut syncs = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if syncs.len() > DAYS_KEPT {
            syncs.clear();
        }
        let sync = syncs.entry(key.to_owned()).or_insert_with(|| Arc::new(GroupSync::new(path)));
        Arc::clone(sync)
    }

    fn is_day_known(&self, day: &str) -> bool {
        *self.day.lock().unwrap_or_else(PoisonError::into_inner) == day
    }

    fn note_day(&self, day: &str) {
        day.clone_into(&mut self.day.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Store {
    /// Writes the folder of a job. When this returns, the job is durable as `durability` says.
    ///
    /// After an error there is no job, or one that nobody was told of is removed.
    pub fn create(&self, submission: &Submission) -> Result<JobDir, StoreError> {
        let accepted = &submission.accepted;
        let is_synced = accepted.durability == Durability::Power;
        let dir = self.job_dir(accepted.id);
        if let Some(request_id) = &accepted.request_id {
            // First, so that a retry finds the id whatever comes to be of this call.
            requests::write(self, &accepted.owner, request_id, accepted)?;
        }
        faults::point("submit.request_noted");
        self.mark_active(accepted.id)?;
        faults::point("submit.marked");
        let made = self.write_folder(&dir, submission, is_synced);
        if made.is_err() {
            let _ = crate::sys::dir::remove_all(dir.path());
            self.unmark_active(accepted.id);
            if let Some(request_id) = &accepted.request_id {
                requests::remove(self, &accepted.owner, request_id, accepted.id);
            }
        }
        faults::point("submit.durable");
        made.map(|()| dir)
    }

    fn write_folder(
        &self,
        dir: &JobDir,
        submission: &Submission,
        is_synced: bool,
    ) -> Result<(), StoreError> {
        let Submission { accepted, secrets, stdin } = submission;
        let path = dir.path();
        let day = accepted.id.day();
        let day_path = self.layout().day(&day);
        if let Err(error) = fs::create_dir(path) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(StoreError::io("create", path)(error));
            }
            match fs::create_dir(&day_path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::io("create", &day_path)(error));
                }
                Ok(()) | Err(_) => {}
            }
            fs::create_dir(path).map_err(StoreError::io("create", path))?;
        }
        let whole = |name: &str, bytes: &[u8]| {
            fs::create_whole(path, name, bytes, is_synced)
                .map_err(StoreError::io("create", &path.join(name)))
        };
        if !stdin.is_empty() {
            whole(layout::STDIN, stdin)?;
        }
        if !secrets.0.is_empty() {
            whole(layout::SECRETS, &serde_json::to_vec(&secrets.0).unwrap_or_default())?;
        }
        faults::point("submit.folder");
        let state = dir.file(layout::STATE);
        fs::create_reserved(&state, STATE_BYTES).map_err(StoreError::io("create", &state))?;
        faults::point("submit.reserved");
        whole(layout::SPEC, &spec_record::encode(accepted))?;
        faults::point("submit.spec");
        if is_synced {
            fs::sync_dir(path).map_err(StoreError::io("sync", path))?;
            if accepted.request_id.is_some() {
                let requests = self.layout().requests();
                let sync = self.syncs().of("requests", &requests);
                sync.sync().map_err(StoreError::io("sync", &requests))?;
            }
            let sync = self.syncs().of(&day, &day_path);
            sync.sync().map_err(StoreError::io("sync", &day_path))?;
            if !self.syncs().is_day_known(&day) {
                // Whoever made it may not have come to this yet.
                let jobs = self.layout().jobs();
                let sync = self.syncs().of("jobs", &jobs);
                sync.sync().map_err(StoreError::io("sync", &jobs))?;
                self.syncs().note_day(&day);
            }
        }
        Ok(())
    }

    /// Tells specs apart, secrets and input included, without telling what is in them: a
    /// SHA-256 keyed with a secret of the store.
    pub fn digest(&self, spec: &Spec, secrets: &Secrets, stdin: &[u8]) -> String {
        let mut hash = Sha256::new();
        hash.update(self.key());
        let spec = spec_record::canonical(spec);
        let secrets = serde_json::to_vec(&secrets.0).unwrap_or_default();
        for part in [spec.as_slice(), &secrets, stdin] {
            // The length keeps the end of one part from passing for the beginning of the next.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        super::hex(&hash.finalize())
    }

    /// Notes that more may have to be told of a job: a start looks at it.
    pub fn mark_active(&self, id: JobId) -> Result<(), StoreError> {
        let path = self.layout().active().join(id.to_string());
        match fs::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map(drop).map_err(StoreError::io("create", &path)),
        }
    }

    /// Notes that a job has ended. Only a cache: a mark too many costs one look at a restart.
    pub fn unmark_active(&self, id: JobId) {
        let _ = fs::remove_if_any(&self.layout().active().join(id.to_string()));
    }
}
