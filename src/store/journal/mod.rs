//! The journal: what has happened to jobs, in one order, for those who resume.
//!
//! Written by the service alone, after the job's folder tells it and before anybody is told.
//! Nothing here decides what happened: that is worked out by comparing the folders with what has
//! been told, which a start reads back from the last files. Events are not synced one by one:
//! after a power cut that may have taken some, a new epoch begins and old positions are gone.

mod event;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod reader;
mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use event::{EventKind, Gone, JobEvent, OutputSpan, Told};
pub use reader::{HistoryGone, JournalReader};

use self::segment::{Found, Scanned, Segment, Tail};
use super::{Layout, Store, StoreError, hex, layout};
use crate::{
    job::{JobId, Time},
    sys::{clock, dir, faults, fs},
};

/// The largest size at which a segment is followed by the next.
const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The smallest.
const SEGMENT_BYTES_MIN: u64 = 16 * 1024;
/// History goes a segment at a time; this many make the whole.
const SEGMENTS_OF_HISTORY: u64 = 16;
/// A new epoch begins at the next multiple: beyond everything that may have been told before.
const EPOCH_STEP: u64 = 1 << 32;
const CLOSED_BYTES_MAX: usize = 4096;

/// How much history is kept. What exceeds any of these goes, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct JournalLimits {
    /// Bytes of all segments.
    pub bytes_max: u64,
    /// Events.
    pub events_max: u64,
    /// How long ago the newest event of a segment may be.
    pub age_max: Option<Duration>,
}

/// Where the segments are, shared with readers.
#[derive(Debug)]
struct Shared {
    layout: Layout,
    segments: Mutex<VecDeque<Segment>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Segment>> {
        // A panic elsewhere leaves a list of files that are all there.
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one writer of the journal.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    limits: JournalLimits,
    epoch: String,
    boot_id: String,
    file: File,
    next: u64,
    told: HashMap<JobId, Told>,
}

/// A journal that was opened, and what is to be compared with the folders now.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// The jobs that ended or went lately.
    pub gone: HashMap<JobId, Gone>,
    /// Whether nothing has been told yet that anybody could go on from.
    pub is_new_epoch: bool,
}

/// Written when the service ends as it should: nothing of the journal can be lost any more.
#[derive(Serialize, Deserialize)]
struct Closed {
    epoch: String,
    next: u64,
}

impl Journal {
    /// Opens the journal of a store, or makes one. The newest two segments are read.
    ///
    /// History that may have lost its end with the power is dropped and a new epoch begun.
    pub fn open(store: &Store, limits: JournalLimits) -> Result<Opened, StoreError> {
        let layout = store.layout().clone();
        let dir = layout.journal();
        fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
        let boot_id = clock::boot_id().map_err(StoreError::io("read", "boot_id".as_ref()))?;
        let closed = take_closed(&layout)?;
        let Some(mut found) = find(&layout)? else {
            return Self::begin_anew(layout, limits, boot_id);
        };
        let Some(last) = found.pop() else { return Self::begin(layout, limits, boot_id, 1) };
        let is_whole = last.header.boot_id == boot_id
            || closed.is_some_and(|it| it.epoch == last.header.epoch && it.next == last.next);
        let follows = found.last().is_none_or(|before| {
            before.header.epoch == last.header.epoch
                && before.next == last.header.first
                && before.tail == Tail::Clean
        });
        if !is_whole || !follows || last.tail == Tail::Damaged {
            return Self::begin_anew(layout, limits, boot_id);
        }
        if last.tail == Tail::Torn {
            tracing::info!("an event that was being written when the service died is cut off");
        }
        let mut gone = found.pop().map(|before| before.gone).unwrap_or_default();
        gone.extend(&last.gone);
        gone.retain(|id, _| !last.told.contains_key(id));
        let file = segment::reopen(&dir, &last.segment)?;
        let segments = known_segments(&layout, &last.segment)?;
        let shared = Arc::new(Shared { layout, segments: Mutex::new(segments) });
        let mut journal = Self {
            shared,
            limits,
            epoch: last.header.epoch,
            boot_id: boot_id.to_owned(),
            file,
            next: last.next,
            told: last.told,
        };
        // What is told from now on is of this boot, and its file has to say so: the next start
        // may come without a boot and without `closed.json`.
        if last.header.boot_id != boot_id
            && let Err(error) = journal.go_on()
        {
            if journal.next == last.header.first {
                // The new file has the name of the old one, which is gone.
                return Err(error);
            }
            tracing::warn!(%error, "the journal cannot go on to its next file");
        }
        Ok(Opened { journal, gone, is_new_epoch: false })
    }

    /// Begins a new epoch, beyond everything that may have been told, and drops the old ones.
    fn begin_anew(
        layout: Layout,
        limits: JournalLimits,
        boot_id: &str,
    ) -> Result<Opened, StoreError> {
        tracing::warn!("events may have been lost: a new epoch of the journal begins");
        let newest = firsts(&layout)?.pop().unwrap_or(0);
        // No segment has as many events as lie between two epochs.
        let first = (newest / EPOCH_STEP + 1) * EPOCH_STEP;
        remove_before(&layout, first)?;
        Self::begin(layout, limits, boot_id, first)
    }

    fn begin(
        layout: Layout,
        limits: JournalLimits,
        boot_id: &str,
        first: u64,
    ) -> Result<Opened, StoreError> {
        let dir = layout.journal();
        let mut random = [0; 8];
        clock::random(&mut random).map_err(StoreError::io("name", &dir))?;
        let epoch = hex(&random);
        let shared = Arc::new(Shared { layout, segments: Mutex::default() });
        let told = HashMap::new();
        let header = segment::Header::new(&epoch, first, boot_id, &told);
        let (file, segment) = segment::create(&dir, &header, segment_bytes(&limits))?;
        shared.lock().push_back(segment);
        let boot_id = boot_id.to_owned();
        let journal = Self { shared, limits, epoch, boot_id, file, next: first, told };
        Ok(Opened { journal, gone: HashMap::new(), is_new_epoch: true })
    }

    /// Names the run of sequences without a gap that new events belong to.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The sequence of the newest event, or the one before the first.
    pub fn head(&self) -> u64 {
        self.next - 1
    }

    /// The oldest position that can be read from.
    pub fn oldest(&self) -> u64 {
        self.shared.lock().front().map_or(self.head(), |segment| segment.first - 1)
    }

    /// What has been told of a job that had not ended then.
    pub fn told(&self, id: JobId) -> Option<Told> {
        self.told.get(&id).copied()
    }

    /// The jobs of which more may have to be told.
    pub fn unended(&self) -> Vec<JobId> {
        self.told.keys().copied().collect()
    }

    /// Takes it that this much has been told of a job, without an event.
    pub fn assume(&mut self, id: JobId, told: Told) {
        self.told.insert(id, told);
    }

    /// Lets a test have writes fail, and go well again.
    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    /// A reader of what has been and will be written.
    pub fn reader(&self) -> JournalReader {
        JournalReader::new(Arc::clone(&self.shared))
    }

    /// Appends an event and gives it its sequence; `told` is what has been told of its job then,
    /// none if nothing more will be. After an error nothing was appended.
    pub fn append(
        &mut self,
        mut event: JobEvent,
        told: Option<Told>,
    ) -> Result<JobEvent, StoreError> {
        self.follow_up();
        event.sequence = self.next;
        let line = record::encode(&event, told.as_ref());
        let mut segments = self.shared.lock();
        let Some(segment) = segments.back_mut() else { return Ok(event) };
        let path = segment::path(&self.shared.layout.journal(), segment.first);
        fs::write_at(&self.file, line.as_bytes(), segment.bytes)
            .map_err(StoreError::io("write", &path))?;
        segment.bytes += line.len() as u64;
        segment.newest = Time::from(clock::now());
        drop(segments);
        self.next += 1;
        match told {
            Some(told) => self.told.insert(event.id, told),
            None => self.told.remove(&event.id),
        };
        Ok(event)
    }

    /// Begins the next segment if the present one is full. If that cannot be, the present one
    /// goes on growing and it is tried again with the next event.
    fn follow_up(&mut self) {
        let events_max = (self.limits.events_max / SEGMENTS_OF_HISTORY).max(1);
        let is_full = self.shared.lock().back().is_none_or(|segment| {
            let bytes = segment.bytes - segment.header_bytes;
            bytes >= segment_bytes(&self.limits) || self.next - segment.first >= events_max
        });
        if !is_full {
            return;
        }
        match self.go_on() {
            Ok(()) => self.trim(Time::from(clock::now())),
            Err(error) => tracing::warn!(%error, "the journal cannot go on to its next file"),
        }
    }

    /// Begins the next segment.
    fn go_on(&mut self) -> Result<(), StoreError> {
        let dir = self.shared.layout.journal();
        let header = segment::Header::new(&self.epoch, self.next, &self.boot_id, &self.told);
        faults::point("journal.full");
        let (file, segment) = segment::create(&dir, &header, segment_bytes(&self.limits))?;
        let old = std::mem::replace(&mut self.file, file);
        let mut segments = self.shared.lock();
        match segments.back() {
            // One without events gives way to the new one, which has its name.
            Some(empty) if empty.first == segment.first => drop(segments.pop_back()),
            Some(full) => {
                // Gives back what was set aside and not needed.
                let _ = fs::resize(&old, full.bytes);
            }
            None => {}
        }
        segments.push_back(segment);
        Ok(())
    }

    /// Drops the history that the limits do not cover any more.
    pub fn trim(&mut self, now: Time) {
        let mut segments = self.shared.lock();
        loop {
            let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
            let (Some(oldest), Some(second)) = (segments.front(), segments.get(1)) else { return };
            let is_old = self.limits.age_max.is_some_and(|age| oldest.newest.after(age) < now);
            // The newest segment counts as empty: what is kept is at least what is promised.
            let is_more = self.next - second.first >= self.limits.events_max
                || bytes - oldest.bytes >= self.limits.bytes_max;
            if !is_old && !is_more {
                return;
            }
            let path = segment::path(&self.shared.layout.journal(), oldest.first);
            if let Err(error) = fs::remove_if_any(&path) {
                tracing::warn!(%error, path = %path.display(), "old events cannot be removed");
            }
            segments.pop_front();
        }
    }

    /// Makes what was written last as long as the disk, and says so: the next start needs no new
    /// epoch, even if the host boots before it.
    pub fn close(&mut self) -> Result<(), StoreError> {
        let dir = self.shared.layout.journal();
        fs::sync_data(&self.file).map_err(StoreError::io("sync", &dir))?;
        let closed = Closed { epoch: self.epoch.clone(), next: self.next };
        let bytes = serde_json::to_vec(&closed).unwrap_or_default();
        let path = dir.join(layout::JOURNAL_CLOSED);
        fs::replace(&dir, layout::JOURNAL_CLOSED, &bytes, true)
            .map_err(StoreError::io("write", &path))?;
        fs::sync_dir(&dir).map_err(StoreError::io("sync", &dir))
    }
}

fn segment_bytes(limits: &JournalLimits) -> u64 {
    (limits.bytes_max / SEGMENTS_OF_HISTORY).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
}

/// How the service ended before, if it ended as it should. Good for one start only.
fn take_closed(layout: &Layout) -> Result<Option<Closed>, StoreError> {
    let path = layout.journal().join(layout::JOURNAL_CLOSED);
    let bytes =
        fs::read_small_if_any(&path, CLOSED_BYTES_MAX).map_err(StoreError::io("read", &path))?;
    fs::remove_if_any(&path).map_err(StoreError::io("remove", &path))?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn firsts(layout: &Layout) -> Result<Vec<u64>, StoreError> {
    let dir = layout.journal();
    let names = dir::names(&dir).map_err(StoreError::io("list", &dir))?;
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

/// The newest two segments that hold anything, oldest first; `None` if the newest cannot be read.
fn find(layout: &Layout) -> Result<Option<Vec<Scanned>>, StoreError> {
    let dir = layout.journal();
    let mut found = Vec::new();
    for first in firsts(layout)?.into_iter().rev() {
        match segment::scan(&dir, first)? {
            Found::Whole(scanned) => found.push(*scanned),
            // Made, but the service died before its first line was whole.
            Found::Begun if found.is_empty() => {
                let path = segment::path(&dir, first);
                fs::remove_if_any(&path).map_err(StoreError::io("remove", &path))?;
            }
            Found::Unreadable if found.is_empty() => return Ok(None),
            Found::Begun | Found::Unreadable => break,
        }
        if found.len() == 2 {
            break;
        }
    }
    found.reverse();
    Ok(Some(found))
}

/// All segments up to the last, which was scanned; the others are taken by their files.
fn known_segments(layout: &Layout, last: &Segment) -> Result<VecDeque<Segment>, StoreError> {
    let dir = layout.journal();
    let mut segments = VecDeque::new();
    for first in firsts(layout)? {
        if first < last.first {
            segments.push_back(segment::of_file(&dir, first)?);
        }
    }
    segments.push_back(last.clone());
    Ok(segments)
}

fn remove_before(layout: &Layout, first: u64) -> Result<(), StoreError> {
    for old in firsts(layout)? {
        let path = segment::path(&layout.journal(), old);
        if old < first {
            fs::remove_if_any(&path).map_err(StoreError::io("remove", &path))?;
        }
    }
    Ok(())
}
