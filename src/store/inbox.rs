//! The drop box: folders renamed into `inbox/` are submissions.
//!
//! A folder holds `spec.json` and, if it likes, a file `stdin`. It is answered by a file
//! `accepted` (the job id) or `rejected` (why) in it; who dropped it takes it away.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    job::{Draft, JobId},
    sys::{dir, foreign, fs},
};

use super::{Store, StoreError, layout, spec_record};

const SPEC_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a folder without a readable spec counts as still being filled.
const SETTLE: Duration = Duration::from_secs(2);

/// A folder in the drop box that has not been answered.
#[derive(Debug)]
pub enum Dropped {
    /// It describes a job.
    Submission {
        /// Its name, which is the request id.
        name: String,
        /// What it describes.
        draft: Box<Draft>,
        /// The user that owns the folder.
        uid: u32,
    },
    /// It does not, and has been there long enough.
    Broken {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// It may still be being filled: look again later.
    Unfinished,
}

impl Store {
    /// The names in the drop box that may be of submissions, in their order.
    pub fn dropped_names(&self) -> Result<Vec<String>, StoreError> {
        let inbox = self.layout().inbox();
        let mut names = dir::names(&inbox).map_err(StoreError::io("list", &inbox))?;
        // Names with a dot are how others write before they rename.
        names.retain(|name| !name.starts_with('.'));
        names.sort_unstable();
        Ok(names)
    }

    /// What is in the drop box under this name, unless it is answered or no folder.
    ///
    /// Of a file `stdin` with more than `stdin_bytes_max` bytes one more is read: enough for the
    /// check of the spec to refuse it.
    pub fn dropped(&self, name: String, stdin_bytes_max: u64) -> Option<Dropped> {
        let path = self.layout().inbox().join(&name);
        let metadata = std::fs::symlink_metadata(&path).ok()?;
        // A link or a plain file is not a folder; it is left alone.
        if !metadata.is_dir() || is_answered(&path) {
            return None;
        }
        match read_draft(&path, stdin_bytes_max) {
            Ok(draft) => {
                Some(Dropped::Submission { name, draft: Box::new(draft), uid: metadata.uid() })
            }
            Err(why) => {
                let age = metadata
                    .modified()
                    .map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
                match age {
                    Ok(age) if age < SETTLE => Some(Dropped::Unfinished),
                    Ok(_) | Err(_) => Some(Dropped::Broken { name, why }),
                }
            }
        }
    }

    /// Answers a folder with the job that it became.
    pub fn answer_accepted(&self, name: &str, id: JobId) -> Result<(), StoreError> {
        self.answer(name, layout::ACCEPTED, &id.to_string())
    }

    /// Empties and removes the spec of an accepted folder that held secrets: the job has them now.
    pub fn forget_dropped_secrets(&self, name: &str) -> Result<(), StoreError> {
        let path = self.layout().inbox().join(name).join(layout::SPEC);
        let emptied = foreign::empty(&path);
        match fs::remove_if_any(&path) {
            // In a sticky folder of another user even a service of root may not remove it.
            Err(error) if emptied.is_ok() => {
                tracing::debug!(?path, %error, "an emptied spec stays in the inbox");
                Ok(())
            }
            removed => removed.map_err(StoreError::io("remove", &path)),
        }
    }

    /// The same for all folders that an earlier service accepted and did not come to clean. One
    /// that cannot be cleaned does not stop the others; the first such is told.
    pub fn forget_all_dropped_secrets(&self) -> Result<(), StoreError> {
        let inbox = self.layout().inbox();
        let names = dir::names(&inbox).map_err(StoreError::io("list", &inbox))?;
        let mut all = Ok(());
        for name in names {
            let path = inbox.join(&name);
            let found = |path: &Path| std::fs::symlink_metadata(path).ok();
            let is_folder = found(&path).is_some_and(|found| found.is_dir());
            // We answer with plain files.
            let is_accepted = is_folder
                && found(&path.join(layout::ACCEPTED)).is_some_and(|found| found.is_file());
            if is_accepted && holds_secrets(&path) {
                let forgotten = self.forget_dropped_secrets(&name);
                all = all.and(forgotten);
            }
        }
        all
    }

    /// Answers a folder with the reason why it became none.
    pub fn answer_rejected(&self, name: &str, why: &str) -> Result<(), StoreError> {
        self.answer(name, layout::REJECTED, why)
    }

    fn answer(&self, name: &str, file: &str, text: &str) -> Result<(), StoreError> {
        let path = self.layout().inbox().join(name);
        match fs::create_whole(&path, file, format!("{text}\n").as_bytes(), true) {
            // Taken away, or answered before: both are what was wanted.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
                ) =>
            {
                Ok(())
            }
            made => made.map_err(StoreError::io("answer", &path)),
        }
    }
}

/// Whether something has the name of an answer, links that lead nowhere included: no other answer
/// could be written, and the job would run again each time it is deleted.
fn is_answered(path: &Path) -> bool {
    let is_there = |file| std::fs::symlink_metadata(path.join(file)).is_ok();
    is_there(layout::ACCEPTED) || is_there(layout::REJECTED)
}

/// Whether the spec in a folder has values of secrets, whatever else is right or wrong with it.
fn holds_secrets(path: &Path) -> bool {
    let Ok(bytes) = fs::read_small(&path.join(layout::SPEC), SPEC_BYTES_MAX) else { return false };
    let record = serde_json::from_slice::<Value>(&bytes).unwrap_or_default();
    let spec = record.get("spec").filter(|spec| spec.is_object()).unwrap_or(&record);
    let has = |name| spec.get(name).and_then(Value::as_object).is_some_and(|it| !it.is_empty());
    has("secret_env") || has("secretEnv")
}

fn read_draft(path: &Path, stdin_bytes_max: u64) -> Result<Draft, String> {
    let spec: PathBuf = path.join(layout::SPEC);
    let bytes = fs::read_small(&spec, SPEC_BYTES_MAX)
        .map_err(|error| format!("spec.json cannot be read: {error}"))?;
    let stdin = foreign::read_head_if_any(&path.join(layout::STDIN), stdin_bytes_max + 1)
        .map_err(|error| format!("stdin cannot be read: {error}"))?;
    spec_record::decode_dropped(&bytes, stdin).map_err(|error| error.to_string())
}
