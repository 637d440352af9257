//! What may be written about a job by whoever holds its lock: the queue, a supervisor, recovery.
//!
//! Starting a queued job and ending it unstarted are the same compare-and-set: take the lock,
//! read the state, append the next event.

use std::{fs::File, path::Path, sync::Arc};

use crate::{
    job::{Accepted, Durability, Event, KillRecord, Started, State, transition},
    sys::{fs, lock::Lock},
};

use super::{Announcement, JobDir, StoreError, layout, record, requests_record as asked, slots};

/// Events of a job for which room is set aside before it starts: an end fits on a full disk.
const STATE_SLOTS: usize = 8;
/// The room that they take.
pub(super) const STATE_BYTES: u64 = (STATE_SLOTS * slots::SLOT_BYTES) as u64;
/// The events that may follow a claim at most: starting, started, stopping, exited, ended.
const EVENTS_TO_COME: usize = 5;

/// The folder of a job together with its lock.
#[derive(Debug)]
pub struct JobRecord {
    dir: JobDir,
    accepted: Arc<Accepted>,
    state: State,
    events: usize,
    /// How many signals have been answered; read when the first is.
    kills: Option<u64>,
    /// Open between a claim and what follows it: closing is what watchers notice, and a claim
    /// alone tells them nothing.
    file: Option<File>,
    // The kernel frees it when the last process that has it is gone.
    _lock: Lock,
}

impl JobRecord {
    /// Takes the lock of the job and reads its state; `None` if another has the lock.
    pub fn try_take(dir: JobDir) -> Result<Option<Self>, StoreError> {
        let path = dir.lock_path();
        let taken = Lock::try_take(&path).map_err(StoreError::io("lock", &path))?;
        let Some(lock) = taken else { return Ok(None) };
        let accepted = Arc::new(dir.accepted()?);
        let events = dir.events()?;
        let state = dir.fold(&events)?;
        let events = events.len();
        Ok(Some(Self { dir, accepted, state, events, kills: None, file: None, _lock: lock }))
    }

    /// Does once what forks of this process would otherwise each do at their first record.
    pub fn warm_up() {
        // The checksum asks the processor what it can do, and so does the search for a byte.
        let _ = slots::parse(&slots::BLANK);
        let _ = slots::line(&serde_json::Map::from_iter([("seq".to_owned(), 1.into())]));
    }

    /// The folder.
    pub fn dir(&self) -> &JobDir {
        &self.dir
    }

    /// What was accepted.
    pub fn accepted(&self) -> &Arc<Accepted> {
        &self.accepted
    }

    /// Where the job stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Writes the next event. One that is not possible now is an error and changes nothing.
    ///
    /// With durability `power` a claim and an end are on the disk when this returns: the claim,
    /// so that no job runs twice; the end, so that one that was told stays told. The others
    /// only lead from one to the other. Closing the file is what watchers notice.
    pub fn append(&mut self, event: &Event) -> Result<(), StoreError> {
        let path = self.dir.file(layout::STATE);
        let next = transition(&self.state, event)
            .map_err(|error| StoreError::Corrupt { path: path.clone(), why: error.to_string() })?;
        let file = match self.file.take() {
            Some(file) => file,
            None => open_state(&path)?,
        };
        let slot = record::event_slot(self.events + 1, event);
        slots::write(&file, self.events, &slot).map_err(StoreError::io("write", &path))?;
        if self.needs_sync(event) {
            fs::sync_data(&file).map_err(StoreError::io("sync", &path))?;
        }
        self.state = next;
        self.events += 1;
        if let Event::Claimed(_) = event {
            self.file = Some(file);
        }
        Ok(())
    }

    /// Writes an event that the job can do without, if that leaves room for those that it cannot:
    /// false if not.
    pub fn append_if_room(&mut self, event: &Event) -> bool {
        let (room, last) = (self.events + 1 + EVENTS_TO_COME, STATE_SLOTS);
        if room > last {
            let path = self.dir.file(layout::STATE);
            let reserve = |file: File| fs::reserve(&file, (room * slots::SLOT_BYTES) as u64);
            let is_room =
                room <= slots::SLOTS_MAX && fs::open_to_write(&path).and_then(reserve).is_ok();
            if !is_room {
                return false;
            }
        }
        self.append(event).is_ok()
    }

    /// What the process that is about to be made writes itself. `started` says all of it but the
    /// process. The file stays with it until `announced`.
    pub fn announcement(&mut self, started: &Started) -> Result<Announcement, StoreError> {
        let path = self.dir.file(layout::STATE);
        let file = match self.file.take() {
            Some(file) => file,
            None => open_state(&path)?,
        };
        let why = || "the line about the start does not fit".to_owned();
        Announcement::new(file, self.events, started)
            .ok_or_else(|| StoreError::Corrupt { path, why: why() })
    }

    /// Takes in what a process has written about itself: `starting` if it runs the program, else
    /// what the folder says.
    pub fn announced(
        &mut self,
        announcement: Announcement,
        starting: Option<Started>,
    ) -> Result<(), StoreError> {
        self.file = Some(announcement.into_file());
        if let Some(started) = starting {
            let path = self.dir.file(layout::STATE);
            self.state = transition(&self.state, &Event::Starting(started))
                .map_err(|error| StoreError::Corrupt { path, why: error.to_string() })?;
            self.events += 1;
        } else {
            let events = self.dir.events()?;
            self.state = self.dir.fold(&events)?;
            self.events = events.len();
        }
        Ok(())
    }

    fn needs_sync(&self, event: &Event) -> bool {
        event.is_promise() && self.accepted.durability == Durability::Power
    }

    /// Answers a request for a signal.
    pub fn record_kill(&mut self, kill: &KillRecord) -> Result<(), StoreError> {
        let known = match self.kills {
            Some(count) => count,
            None => self.dir.control()?.1,
        };
        let count = known + 1;
        self.kills = Some(count);
        let Some((place, slot)) = asked::kill_slot(count, kill) else { return Ok(()) };
        self.write_control(place, &slot)
    }

    /// Answers the `number`th change of the time limit.
    pub fn answer_timeout(&self, number: u64, taken: bool) -> Result<(), StoreError> {
        let Some(slot) = asked::timeout_answer_slot(number, taken) else { return Ok(()) };
        self.write_control(asked::TIMEOUT_ANSWER_PLACE, &slot)
    }

    fn write_control(
        &self,
        place: usize,
        slot: &[u8; slots::SLOT_BYTES],
    ) -> Result<(), StoreError> {
        let path = self.dir.file(layout::CONTROL);
        let write = |file: File| {
            if file.metadata()?.len() == 0 {
                // Blank lines, so that a slot is never written behind a hole.
                for blank in 0..=asked::KILLS_MAX {
                    slots::write(&file, blank, &slots::BLANK)?;
                }
            }
            slots::write(&file, place, slot)
        };
        fs::open_or_create(&path).and_then(write).map_err(StoreError::io("write", &path))
    }
}

fn open_state(path: &Path) -> Result<File, StoreError> {
    match fs::open_to_write(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_reserved(path, STATE_BYTES).map_err(StoreError::io("create", path))
        }
        Err(source) => Err(StoreError::io("open", path)(source)),
    }
}
