//! Request ids: which job a repeated call means.
//!
//! One file for each id, named by a hash of the owner and the id, so that ids of different
//! owners never meet and no id can leave the folder.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    job::{Accepted, Durability, JobId},
    sys::fs,
};

use super::{Store, StoreError};

const FILE_BYTES_MAX: usize = 4 * 1024;

/// The job that a request id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRequest {
    /// The job.
    pub id: JobId,
    /// The digest of the spec that was accepted.
    pub digest: String,
}

#[derive(Serialize, Deserialize)]
struct RequestFile {
    request_id: String,
    owner: String,
    job_id: String,
    digest: String,
}

fn path(store: &Store, owner: &str, request_id: &str) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update((owner.len() as u64).to_le_bytes());
    hash.update(owner);
    hash.update(request_id);
    store.layout().requests().join(super::hex(&hash.finalize()))
}

/// Notes that a request id stands for a job; one that stood for a job now gone is replaced.
pub(super) fn write(
    store: &Store,
    owner: &str,
    request_id: &str,
    accepted: &Accepted,
) -> Result<(), StoreError> {
    let path = path(store, owner, request_id);
    let file = RequestFile {
        request_id: request_id.to_owned(),
        owner: owner.to_owned(),
        job_id: accepted.id.to_string(),
        digest: accepted.digest.clone(),
    };
    let bytes = serde_json::to_vec(&file).unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_synced = accepted.durability == Durability::Power;
    fs::replace(&store.layout().requests(), &name, &bytes, is_synced)
        .map_err(StoreError::io("write", &path))
}

/// Forgets a request id if it stands for this job.
pub(super) fn remove(store: &Store, owner: &str, request_id: &str, id: JobId) {
    if let Ok(Some(known)) = store.known_request(owner, request_id)
        && known.id == id
    {
        // One that stays behind names a job that is gone, which counts as none.
        let _ = fs::remove_if_any(&path(store, owner, request_id));
    }
}

impl Store {
    /// The job that a request id stands for, if there is one. The job may be gone by now.
    pub fn known_request(
        &self,
        owner: &str,
        request_id: &str,
    ) -> Result<Option<KnownRequest>, StoreError> {
        let path = path(self, owner, request_id);
        let bytes =
            fs::read_small_if_any(&path, FILE_BYTES_MAX).map_err(StoreError::io("read", &path))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let corrupt = |why: String| StoreError::Corrupt { path: path.clone(), why };
        let file: RequestFile =
            serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        let id = file.job_id.parse().map_err(|_| corrupt("job_id is no job id".to_owned()))?;
        Ok(Some(KnownRequest { id, digest: file.digest }))
    }
}
