//! The task directory: the single source of truth about all jobs.
//!
//! docs/STORAGE.md describes every file byte by byte and names its one writer. Nothing here
//! keeps what it has read: an index in memory is the business of `catalog`.

mod announcement;
mod confinement_record;
mod error;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod inbox;
mod index;
mod job_dir;
mod job_record;
mod journal;
mod kept_tail;
mod layout;
mod log_reader;
mod log_resume;
mod log_writer;
mod match_record;
mod matches;
mod output_limits_record;
#[cfg(test)]
mod power_cut;
mod record;
mod requests;
mod requests_record;
mod slots;
mod span_text;
mod spec_record;
mod submit;
mod sync;

use std::{fs::File, io, os::unix::fs::MetadataExt as _, path::Path};

use serde::{Deserialize, Serialize};

pub use announcement::Announcement;
pub use error::StoreError;
pub use inbox::Dropped;
pub use index::{Loss, Stream};
pub use job_dir::{JobDir, KillRequest, KillScope, TimeoutRequest};
pub use job_record::JobRecord;
pub use journal::{
    EventKind, Gone, HistoryGone, JobEvent, Journal, JournalLimits, JournalReader, Opened,
    OutputSpan, Told,
};
pub use layout::Layout;
pub use log_reader::{GapReason, LogReader, Piece};
pub use log_writer::LogWriter;
pub use matches::{MATCHES_MAX, MatchRecord, MatchWriter};
pub use requests::KnownRequest;
pub use submit::Submission;

use crate::{
    job::{Accepted, JobId},
    sys::{clock, dir, fs, lock::Lock, process},
};

const FORMAT: &str = "jobwarden 2\n";
/// Formats that this program goes on with: it reads all that stands in such a store.
const OLDER_FORMATS: [&str; 1] = ["jobwarden 1\n"];
/// The permission of the group and of all others to write.
const OTHERS_WRITE: u32 = 0o022;
const FILE_BYTES_MAX: usize = 4 * 1024;

/// A store that this process serves alone.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    id: String,
    key: Vec<u8>,
    syncs: submit::Syncs,
    can_make_holes: bool,
    _lock: Lock,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    store_id: String,
    digest_key: String,
}

impl Store {
    /// Opens the store at `root`, or makes one in a folder that is missing or empty.
    ///
    /// Fails with `InUse` if another service has it, with `Version` if its format is another.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let layout = Layout::new(root);
        fs::create_dir_all(root).map_err(StoreError::io("create", root))?;
        check_owner(root)?;
        check_version(root)?;
        if dir::make_private(root).map_err(StoreError::io("make private", root))? {
            tracing::warn!(root = %root.display(), "other users had access; they have none now");
        }
        let lock = take_lock(root)?;
        for path in
            [layout.jobs(), layout.inbox(), layout.requests(), layout.active(), layout.trash()]
        {
            fs::create_dir_all(&path).map_err(StoreError::io("create", &path))?;
        }
        let identity = identity(root)?;
        // Whatever is promised from here on stands in folders that are there after a power cut.
        fs::sync_dir(root).map_err(StoreError::io("sync", root))?;
        if let Some(parent) = root.parent().filter(|parent| *parent != Path::new("")) {
            fs::sync_dir(parent).map_err(StoreError::io("sync", parent))?;
        }
        // On a full disk the answer is no until the next start.
        let can_make_holes = kept_tail::can_make_holes(&layout.trash()).unwrap_or(false);
        Ok(Self {
            layout,
            id: identity.store_id,
            key: identity.digest_key.into_bytes(),
            syncs: submit::Syncs::default(),
            can_make_holes,
            _lock: lock,
        })
    }

    /// Where things are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Identifies this store among all.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether bytes can be taken out of logs again: what keeping a tail needs.
    pub fn can_make_holes(&self) -> bool {
        self.can_make_holes
    }

    fn key(&self) -> &[u8] {
        &self.key
    }

    fn syncs(&self) -> &submit::Syncs {
        &self.syncs
    }

    /// The folder of a job, whether it exists or not.
    pub fn job_dir(&self, id: JobId) -> JobDir {
        JobDir::at(self.layout.job(id))
    }

    /// Whether a folder is what a service left that died while it accepted a job: without a spec
    /// there is no job. Only to be asked of marked jobs, and before jobs are accepted.
    pub fn is_unfinished(&self, id: JobId) -> bool {
        let dir = self.job_dir(id);
        dir.path().is_dir() && !dir.lock_path().exists()
    }

    /// The days that have a folder, oldest first.
    pub fn days(&self) -> Result<Vec<String>, StoreError> {
        let path = self.layout.jobs();
        let mut days = dir::names(&path).map_err(StoreError::io("list", &path))?;
        days.retain(|day| is_day(day));
        days.sort_unstable();
        Ok(days)
    }

    /// The jobs of a day, oldest first. A folder that is no job's is left out.
    pub fn ids_of_day(&self, day: &str) -> Result<Vec<JobId>, StoreError> {
        let path = self.layout.day(day);
        let names = dir::names(&path).map_err(StoreError::io("list", &path))?;
        let mut ids: Vec<JobId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        ids.retain(|id| id.day() == day);
        ids.sort_unstable();
        Ok(ids)
    }

    /// The largest id of the store, from which the next must go on.
    pub fn last_id(&self) -> Result<JobId, StoreError> {
        for day in self.days()?.iter().rev() {
            if let Some(last) = self.ids_of_day(day)?.last() {
                return Ok(*last);
            }
        }
        Ok(JobId::MIN)
    }

    /// The jobs that had not ended when it was last noted.
    pub fn active_ids(&self) -> Result<Vec<JobId>, StoreError> {
        let path = self.layout.active();
        let names = dir::names(&path).map_err(StoreError::io("list", &path))?;
        let mut ids: Vec<JobId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Whether the host has booted since this was last asked: then the notes of active jobs,
    /// which are never synced, may be wrong.
    pub fn is_first_since_boot(&self) -> Result<bool, StoreError> {
        let path = self.layout.root().join(layout::LAST_BOOT);
        let boot = clock::boot_id().map_err(StoreError::io("read", Path::new("boot_id")))?;
        let known =
            fs::read_small_if_any(&path, FILE_BYTES_MAX).map_err(StoreError::io("read", &path))?;
        Ok(known.as_deref() != Some(boot.as_bytes()))
    }

    /// Notes that the store has been looked through since the host booted.
    pub fn note_boot(&self) -> Result<(), StoreError> {
        let path = self.layout.root().join(layout::LAST_BOOT);
        let boot = clock::boot_id().map_err(StoreError::io("read", Path::new("boot_id")))?;
        fs::replace(self.layout.root(), layout::LAST_BOOT, boot.as_bytes(), false)
            .map_err(StoreError::io("write", &path))
    }

    /// Takes the folder of a job, readable or not, out of every reader's sight, at once and for
    /// good. Its files are removed by `dispose`.
    pub fn hide(&self, id: JobId, sync: bool) -> Result<(), StoreError> {
        let (from, to) = (self.layout.job(id), self.layout.trash().join(id.to_string()));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing(id.to_string()));
            }
            renamed => renamed.map_err(StoreError::io("remove", &from))?,
        }
        if sync {
            let day = self.layout.day(&id.day());
            fs::sync_dir(&day).map_err(StoreError::io("sync", &day))?;
        }
        self.unmark_active(id);
        Ok(())
    }

    /// Removes the files of a hidden job, and its request id if `accepted` tells of one. What
    /// cannot be removed now is removed at the next start.
    pub fn dispose(&self, id: JobId, accepted: Option<&Accepted>) {
        let path = self.layout.trash().join(id.to_string());
        if let Err(error) = dir::remove_all(&path) {
            tracing::warn!(job = %id, %error, "the files of a deleted job cannot be removed yet");
        }
        if let Some(Accepted { request_id: Some(request_id), owner, .. }) = accepted {
            requests::remove(self, owner, request_id, id);
        }
    }

    /// Whether a job has been hidden and its files may still be there.
    pub fn is_hidden(&self, id: JobId) -> bool {
        self.layout.trash().join(id.to_string()).exists()
    }

    /// The folders of hidden jobs whose files may still be there.
    pub fn hidden(&self) -> Result<Vec<JobDir>, StoreError> {
        let trash = self.layout.trash();
        let names = dir::names(&trash).map_err(StoreError::io("list", &trash))?;
        let ids = names.iter().filter(|name| name.parse::<JobId>().is_ok());
        Ok(ids.map(|name| JobDir::at(trash.join(name))).collect())
    }

    /// Whether a file can be made and removed in the store now.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        let path = self.layout.trash().join(".probe");
        fs::replace(&self.layout.trash(), ".probe", b"probe\n", false)
            .and_then(|()| fs::remove_if_any(&path))
            .map_err(StoreError::io("write", &path))
    }
}

/// Whether a change of the file of this name in a job's folder may change what the folder tells
/// of the job: output and FIFOs do not. In the inbox every name may.
pub fn tells_of_state(name: &std::ffi::OsStr) -> bool {
    const SILENT: [&str; 6] = [
        layout::STDOUT,
        layout::STDERR,
        layout::INDEX,
        layout::CUT,
        layout::OUT_FIFO,
        layout::ERR_FIFO,
    ];
    !SILENT.iter().any(|silent| *silent == name)
}

/// Whoever can put a folder into the store can have commands run by this service.
fn check_owner(root: &Path) -> Result<(), StoreError> {
    let found = std::fs::metadata(root).map_err(StoreError::io("look at", root))?;
    let own_uid = process::own_uid();
    let path = root.display();
    let why = if found.uid() != own_uid {
        format!(
            "it belongs to the user number {}, who could have commands run as {own_uid}: run \
             `chown {own_uid} {path}`, or start the service as its owner",
            found.uid()
        )
    } else if found.mode() & OTHERS_WRITE != 0 {
        format!("others may write to it and have commands run: run `chmod go-w {path}`")
    } else {
        return Ok(());
    };
    Err(StoreError::Exposed { root: root.to_owned(), why })
}

fn check_version(root: &Path) -> Result<(), StoreError> {
    let path = root.join(layout::VERSION);
    let found =
        fs::read_small_if_any(&path, FILE_BYTES_MAX).map_err(StoreError::io("read", &path))?;
    match found {
        Some(bytes) if bytes == FORMAT.as_bytes() => Ok(()),
        // From here on it may hold what the older program cannot read.
        Some(bytes) if OLDER_FORMATS.iter().any(|older| bytes == older.as_bytes()) => {
            fs::replace(root, layout::VERSION, FORMAT.as_bytes(), true)
                .map_err(StoreError::io("write", &path))
        }
        Some(bytes) => {
            let found = String::from_utf8_lossy(&bytes).trim().to_owned();
            Err(StoreError::Version { path, found, expected: FORMAT.trim() })
        }
        None => {
            let names = dir::names(root).map_err(StoreError::io("list", root))?;
            // What a start that was cut short, or the program that started this one, leaves.
            let known = |name: &String| {
                name.starts_with('.')
                    || name == layout::SERVICE_LOCK
                    // Tokens may be made before the first start.
                    || name == layout::ACCESS
                    || layout::LOGS.contains(&name.as_str())
            };
            if !names.iter().all(known) {
                return Err(StoreError::NotAStore { root: root.to_owned() });
            }
            fs::replace(root, layout::VERSION, FORMAT.as_bytes(), true)
                .map_err(StoreError::io("write", &path))?;
            // Nothing may be here on a disk without power that has no VERSION.
            fs::sync_dir(root).map_err(StoreError::io("sync", root))
        }
    }
}

fn take_lock(root: &Path) -> Result<Lock, StoreError> {
    let path = root.join(layout::SERVICE_LOCK);
    let file = fs::open_or_create(&path).map_err(StoreError::io("open", &path))?;
    if let Some(lock) = Lock::try_take_file(file).map_err(StoreError::io("lock", &path))? {
        let holder = format!("process {}\n", process::own_pid());
        let write = |file: &File| {
            fs::resize(file, 0)?;
            fs::write_at(file, holder.as_bytes(), 0)
        };
        write(lock.file()).map_err(StoreError::io("write", &path))?;
        Ok(lock)
    } else {
        let holder = fs::read_small(&path, FILE_BYTES_MAX).unwrap_or_default();
        let holder = String::from_utf8_lossy(&holder).trim().to_owned();
        Err(StoreError::InUse { root: root.to_owned(), holder })
    }
}

fn identity(root: &Path) -> Result<Identity, StoreError> {
    let path = root.join(layout::IDENTITY);
    if let Some(bytes) =
        fs::read_small_if_any(&path, FILE_BYTES_MAX).map_err(StoreError::io("read", &path))?
    {
        return serde_json::from_slice(&bytes)
            .map_err(|error| StoreError::Corrupt { path, why: error.to_string() });
    }
    let mut random = [0; 48];
    clock::random(&mut random).map_err(StoreError::io("make", &path))?;
    let identity = Identity { store_id: hex(&random[..16]), digest_key: hex(&random[16..]) };
    let bytes = serde_json::to_vec(&identity).unwrap_or_default();
    fs::replace(root, layout::IDENTITY, &bytes, true).map_err(StoreError::io("write", &path))?;
    Ok(identity)
}

/// Whether a name is that of a day's folder.
pub fn is_day(name: &str) -> bool {
    name.len() == 10
        && name.bytes().enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_no_news_of_a_job_and_a_match_is() {
        assert!(!tells_of_state(layout::STDOUT.as_ref()));
        assert!(tells_of_state(layout::STATE.as_ref()));
        assert!(tells_of_state(layout::MATCHES.as_ref()));
    }
}
