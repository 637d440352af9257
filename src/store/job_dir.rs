//! One job's folder: what it tells, and the small files by which the job is asked for something.
//!
//! Anyone may read a folder at any moment, half-started included. Who writes which file stands
//! in docs/STORAGE.md; the parts that need the job's lock are in `job_record`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    job::{
        Accepted, Event, Job, JobId, Secrets, State, StopRequest, Time, TimeoutChange, transition,
    },
    sys::{dir, fs, is_no_plain_file},
};

use super::{StoreError, layout, record, requests_record as asked, slots, spec_record};

/// The most bytes of a `spec.json`: a spec of 1 MiB with every byte escaped.
const SPEC_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most bytes of the other small files.
const SMALL_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of standard input that any server accepts.
const STDIN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most bytes of a file of secrets.
const SECRETS_BYTES_MAX: usize = SPEC_BYTES_MAX;

/// The number of a change of the run time limit, and the limit from the start of the job.
pub type TimeoutRequest = (u64, Option<Duration>);

/// The folder of one job.
#[derive(Clone, Debug)]
pub struct JobDir {
    path: PathBuf,
}

pub use asked::{KillRequest, KillScope};

impl JobDir {
    /// The job folder at `path`.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The path of the log of standard output.
    pub fn stdout_path(&self) -> PathBuf {
        self.file(layout::STDOUT)
    }

    /// The path of the log of standard error.
    pub fn stderr_path(&self) -> PathBuf {
        self.file(layout::STDERR)
    }

    /// The path of the index of both logs.
    pub fn index_path(&self) -> PathBuf {
        self.file(layout::INDEX)
    }

    /// The paths of the FIFOs for standard output and standard error.
    pub fn fifo_paths(&self) -> [PathBuf; 2] {
        [self.file(layout::OUT_FIFO), self.file(layout::ERR_FIFO)]
    }

    /// The path of the file of standard input; it is there if the spec has input.
    pub fn stdin_path(&self) -> PathBuf {
        self.file(layout::STDIN)
    }

    /// The path of the file whose lock is the job's.
    pub fn lock_path(&self) -> PathBuf {
        self.file(layout::SPEC)
    }

    /// When something was last put into the folder or taken out of it, if that can be told.
    pub fn changed(&self) -> Option<SystemTime> {
        fs::modified(self.path())
    }

    /// All that the folder tells.
    pub fn read(&self) -> Result<Job, StoreError> {
        let accepted = self.accepted()?;
        self.read_with(Arc::new(accepted))
    }

    /// What was accepted.
    pub fn accepted(&self) -> Result<Accepted, StoreError> {
        let path = self.file(layout::SPEC);
        let bytes = match fs::read_small(&path, SPEC_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.no_spec()),
            Err(source) => return Err(unreadable("read", path, source)),
        };
        let accepted = spec_record::decode(&bytes).map_err(StoreError::corrupt(path.clone()))?;
        let name = self.path.file_name().and_then(|name| name.to_str());
        if name != Some(accepted.id.to_string().as_str()) {
            let why = format!("it belongs to the job {}", accepted.id);
            return Err(StoreError::Corrupt { path, why });
        }
        Ok(accepted)
    }

    /// A folder without a spec is broken; no folder is no job.
    fn no_spec(&self) -> StoreError {
        if self.path.exists() {
            let why = "it has no spec.json".to_owned();
            return StoreError::Corrupt { path: self.path.clone(), why };
        }
        let name = self.path.file_name().unwrap_or_default();
        StoreError::Missing(name.to_string_lossy().into_owned())
    }

    /// All that the folder tells besides what is known already.
    pub fn read_with(&self, accepted: Arc<Accepted>) -> Result<Job, StoreError> {
        let events = self.events()?;
        let state = self.fold(&events)?;
        let (labels, labels_changes) = match self.small(layout::LABELS)? {
            Some(bytes) => {
                asked::labels(&bytes).map_err(StoreError::corrupt(self.file(layout::LABELS)))?
            }
            None => (accepted.spec.labels.clone(), 0),
        };
        let cancel = self.cancel()?;
        let (kills, kill_count, answer) = self.control()?;
        let timeout_change = self.timeout_change(answer)?;
        let revision = 1
            + events.len() as u64
            + labels_changes
            + u64::from(cancel.is_some())
            + kill_count
            + timeout_change.map_or(0, |change| change.number)
            + answer.map_or(0, |(number, _)| number);
        Ok(Job { accepted, state, revision, labels, cancel, kills, timeout_change })
    }

    /// What has happened to the job, in order.
    pub fn events(&self) -> Result<Vec<Event>, StoreError> {
        let path = self.file(layout::STATE);
        let file = match fs::open_regular(&path) {
            Ok(file) => file,
            // Nothing has happened yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(unreadable("open", path, source)),
        };
        let slots = slots::read(&file).map_err(StoreError::io("read", &path))?;
        let mut events = Vec::with_capacity(slots.len());
        for (place, slot) in slots.iter().enumerate() {
            let Some(members) = slot else {
                // What a power cut left of lines that were not synced does not count; an end that
                // is there does. A claim behind it says that this line was synced: it is damage.
                let mut later = slots[place..].iter().flatten().map(record::event);
                match later.find(|event| event.as_ref().is_ok_and(Event::is_promise)) {
                    Some(Ok(end @ Event::Ended(_))) => events.push(end),
                    Some(_) => {
                        let why = format!("line {} is damaged", place + 1);
                        return Err(StoreError::Corrupt { path, why });
                    }
                    None => {}
                }
                break;
            };
            events.push(record::event(members).map_err(StoreError::corrupt(path.clone()))?);
            if let Some(Event::Ended(_)) = events.last() {
                // Nothing comes after; what stands there was there before a power cut.
                break;
            }
        }
        Ok(events)
    }

    pub(super) fn fold(&self, events: &[Event]) -> Result<State, StoreError> {
        let mut state = State::Queued;
        for event in events {
            state = match (transition(&state, event), event) {
                (Ok(next), _) => next,
                // An end stands, whatever became of the lines before it.
                (Err(_), Event::Ended(end)) => State::Ended {
                    running: state.running().cloned(),
                    attempt: state.attempt(),
                    end: end.clone(),
                },
                (Err(error), _) => {
                    let (path, why) = (self.file(layout::STATE), error.to_string());
                    return Err(StoreError::Corrupt { path, why });
                }
            };
        }
        Ok(state)
    }

    fn small(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.file(name);
        fs::read_small_if_any(&path, SMALL_BYTES_MAX).map_err(StoreError::io("read", &path))
    }

    /// The request to cancel, whoever dropped it: the marker's presence is what counts.
    pub fn cancel(&self) -> Result<Option<StopRequest>, StoreError> {
        let path = self.file(layout::CANCEL);
        let metadata = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::io("look at", &path)(source)),
        };
        let dropped = metadata.modified().map_or(Time::from_nanos(0), Time::from);
        let bytes = fs::read_small(&path, SMALL_BYTES_MAX).unwrap_or_default();
        Ok(Some(asked::stop_request(&bytes, dropped)))
    }

    /// Whether there is a request to cancel. Cheaper than reading it.
    pub fn is_cancel_requested(&self) -> bool {
        std::fs::symlink_metadata(self.file(layout::CANCEL)).is_ok()
    }

    /// Drops the marker that asks for the job to be cancelled; an earlier one stands.
    ///
    /// On a full disk the marker is dropped empty: the request counts, its details are lost.
    pub fn request_cancel(&self, request: &StopRequest, sync: bool) -> Result<(), StoreError> {
        let path = self.file(layout::CANCEL);
        let bytes = asked::stop_request_bytes(request);
        let made = match fs::create_whole(&self.path, layout::CANCEL, &bytes, sync) {
            Err(error) if crate::sys::is_disk_full(&error) => fs::create_new(&path).map(drop),
            made => made,
        };
        match made {
            Ok(()) if sync => fs::sync_dir(&self.path).map_err(StoreError::io("sync", &self.path)),
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(source) => Err(StoreError::io("create", &path)(source)),
        }
    }

    pub(super) fn control(&self) -> Result<asked::Control, StoreError> {
        let path = self.file(layout::CONTROL);
        let file = match fs::open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((vec![], 0, None)),
            Err(source) => return Err(StoreError::io("open", &path)(source)),
        };
        let slots = slots::read(&file).map_err(StoreError::io("read", &path))?;
        asked::control(&slots).map_err(StoreError::corrupt(path))
    }

    fn timeout_change(
        &self,
        answer: Option<(u64, bool)>,
    ) -> Result<Option<TimeoutChange>, StoreError> {
        let Some((number, timeout)) = self.timeout_request()? else { return Ok(None) };
        let answer = answer.filter(|(answered, _)| *answered == number).map(|(_, taken)| taken);
        Ok(Some(TimeoutChange { number, timeout, answer }))
    }

    /// The number of the last change of the run time limit, and the limit, from the start.
    pub fn timeout_request(&self) -> Result<Option<TimeoutRequest>, StoreError> {
        let Some(bytes) = self.small(layout::TIMEOUT)? else { return Ok(None) };
        let request = asked::timeout(&bytes);
        request.map(Some).map_err(StoreError::corrupt(self.file(layout::TIMEOUT)))
    }

    /// Asks for another run time limit: the `number`th change, counted from the start of the job.
    pub fn request_timeout(
        &self,
        number: u64,
        timeout: Option<Duration>,
        sync: bool,
    ) -> Result<(), StoreError> {
        let bytes = asked::timeout_bytes(number, timeout);
        self.replace(layout::TIMEOUT, &bytes, sync)
    }

    /// Replaces the labels: the `change`th change.
    pub fn replace_labels(
        &self,
        change: u64,
        labels: &std::collections::BTreeMap<String, String>,
        sync: bool,
    ) -> Result<(), StoreError> {
        let bytes = asked::labels_bytes(change, labels);
        self.replace(layout::LABELS, &bytes, sync)
    }

    /// How often the labels were changed.
    pub fn labels_changes(&self) -> Result<u64, StoreError> {
        let Some(bytes) = self.small(layout::LABELS)? else { return Ok(0) };
        let (_, changes) =
            asked::labels(&bytes).map_err(StoreError::corrupt(self.file(layout::LABELS)))?;
        Ok(changes)
    }

    fn replace(&self, name: &str, bytes: &[u8], sync: bool) -> Result<(), StoreError> {
        let path = self.file(name);
        fs::replace(&self.path, name, bytes, sync).map_err(StoreError::io("replace", &path))?;
        if sync {
            fs::sync_dir(&self.path).map_err(StoreError::io("sync", &self.path))?;
        }
        Ok(())
    }

    /// Asks for a signal; the supervisor answers with a record that names the request.
    pub fn request_kill(&self, request: &KillRequest) -> Result<(), StoreError> {
        let name = format!("{}{}", layout::KILL_PREFIX, request.name);
        let bytes = asked::kill_request_bytes(request);
        fs::create_whole(&self.path, &name, &bytes, false)
            .map_err(StoreError::io("create", &self.file(&name)))
    }

    /// The signals that are asked for and not yet answered, oldest first.
    pub fn kill_requests(&self) -> Result<Vec<KillRequest>, StoreError> {
        let names = dir::names(&self.path).map_err(StoreError::io("list", &self.path))?;
        let mut requests = Vec::new();
        for name in names.iter().filter_map(|name| name.strip_prefix(layout::KILL_PREFIX)) {
            let bytes = self.small(&format!("{}{name}", layout::KILL_PREFIX))?.unwrap_or_default();
            // What cannot be understood was not written by the service; it is left alone.
            requests.extend(asked::kill_request(name, &bytes));
        }
        requests.sort_by_key(|request| request.time);
        Ok(requests)
    }

    /// Takes back a request for a signal, answered or not.
    pub fn remove_kill_request(&self, name: &str) -> Result<(), StoreError> {
        let path = self.file(&format!("{}{name}", layout::KILL_PREFIX));
        fs::remove_if_any(&path).map_err(StoreError::io("remove", &path))
    }

    /// The values of the secret variables; empty once they have been removed.
    pub fn secrets(&self) -> Result<Secrets, StoreError> {
        let path = self.file(layout::SECRETS);
        let bytes = fs::read_small_if_any(&path, SECRETS_BYTES_MAX)
            .map_err(StoreError::io("read", &path))?;
        let Some(bytes) = bytes else { return Ok(Secrets::default()) };
        // The cause is left out: it could quote what is in the file.
        let why = || "it is not an object of strings".to_owned();
        let values =
            serde_json::from_slice(&bytes).map_err(|_| StoreError::Corrupt { path, why: why() })?;
        Ok(Secrets(values))
    }

    /// Removes the values of the secret variables: no attempt needs them any more.
    pub fn remove_secrets(&self) -> Result<(), StoreError> {
        let path = self.file(layout::SECRETS);
        fs::remove_if_any(&path).map_err(StoreError::io("remove", &path))
    }

    /// Removes the FIFOs: the attempt is over.
    pub fn remove_fifos(&self) -> Result<(), StoreError> {
        for path in self.fifo_paths() {
            fs::remove_if_any(&path).map_err(StoreError::io("remove", &path))?;
        }
        Ok(())
    }

    /// The bytes of standard input.
    pub fn stdin(&self) -> Result<Vec<u8>, StoreError> {
        let path = self.stdin_path();
        fs::read_small(&path, STDIN_BYTES_MAX).map_err(StoreError::io("read", &path))
    }

    /// The id that the name of the folder says.
    pub fn id(&self) -> Option<JobId> {
        self.path.file_name()?.to_str()?.parse().ok()
    }
}

/// What else stands in the place of a record is damage of this job, not a fault of the store that
/// may pass.
fn unreadable(action: &'static str, path: PathBuf, source: io::Error) -> StoreError {
    if is_no_plain_file(&source) {
        return StoreError::Corrupt { path, why: source.to_string() };
    }
    StoreError::Io { action, path, source }
}
