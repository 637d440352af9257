//! Appending output: raw bytes into one file for each stream, and a record into the index.
//!
//! A byte's offset is its place in what the job wrote, kept or not. What cannot be written is
//! dropped and counted, and its range becomes a record as soon as there is room: the job never
//! waits for the disk to have some.

use std::{fs::File, io, path::PathBuf, time::Duration};

use crate::{
    job::{OutputSize, Time},
    sys::{faults, fs, pipe},
};

use super::{
    JobDir, StoreError,
    index::{IndexRecord, Loss, Stream},
    kept_tail::{Cut, KeptTail},
    log_resume::Standing,
};

/// Length of one record of dropped bytes.
const DROPPED_RUN_MAX: u64 = u32::MAX as u64;
/// How often readers hear of more bytes beyond the limit: the index must not grow with each.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The one writer of a job's output.
#[derive(Debug)]
pub struct LogWriter {
    streams: [LogFile; 2],
    index: Appender,
    /// Runs that were dropped and have no record yet, at most one for each stream.
    unrecorded: [Option<IndexRecord>; 2],
    /// Runs beyond the limit that have no record yet, at most one for each stream.
    beyond: [Option<IndexRecord>; 2],
    /// When a run beyond the limit got its record last.
    told: [Option<Time>; 2],
    /// The most bytes that are kept of one stream.
    limit: u64,
    /// Keeps the newest bytes instead of those that come first.
    tail: Option<KeptTail>,
    fault: Option<StoreError>,
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: Option<File>,
    size: OutputSize,
}

#[derive(Debug)]
struct Appender {
    path: PathBuf,
    file: Option<File>,
    offset: u64,
}

impl LogWriter {
    /// A writer for an attempt that has no output yet. Files are made at the first byte.
    pub fn new(dir: &JobDir) -> Self {
        let log = |path| LogFile { path, file: None, size: OutputSize::default() };
        Self {
            streams: [log(dir.stdout_path()), log(dir.stderr_path())],
            index: Appender { path: dir.index_path(), file: None, offset: 0 },
            unrecorded: [None, None],
            beyond: [None, None],
            told: [None, None],
            limit: u64::MAX,
            tail: None,
            fault: None,
        }
    }

    /// Keeps no more than this many bytes of each stream.
    #[must_use]
    pub fn with_limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// Keeps no more than this many bytes of each stream: half of them its first, the others its
    /// newest.
    #[must_use]
    pub fn with_kept_tail(self, dir: &JobDir, limit: u64) -> Self {
        Self { tail: Some(KeptTail::new(dir, limit)), ..self }
    }

    /// Goes on where a writer stopped that died, with the limits that it had. Tells where the last
    /// run of each stream begins that it may not have done with.
    pub fn resume(&mut self, dir: &JobDir) -> Result<[u64; 2], StoreError> {
        let standing = Standing::read(dir)?;
        for (log, (file, size)) in
            self.streams.iter_mut().zip(standing.logs.into_iter().zip(standing.sizes))
        {
            (log.file, log.size) = (file, size);
        }
        (self.index.file, self.index.offset) = (standing.index, standing.index_bytes);
        if let Some(tail) = &mut self.tail {
            tail.resume(dir, [0, 1].map(|place| self.streams[place].file.as_ref()))?;
            for stream in Stream::BOTH {
                let cut = tail.cut(stream);
                self.streams[stream.place()].size.dropped_bytes = cut.tail_start - cut.head_end;
            }
        }
        for record in standing.untold {
            self.record(record);
        }
        Ok(standing.last_runs)
    }

    /// Moves up to `length` bytes of a stream from its pipe into the log, which arrived at `time`.
    /// Whoever is killed meanwhile, each byte is in one of the two.
    ///
    /// `None` if that cannot be done: beyond a limit, or where the disk does not take them. Then
    /// the caller reads them and appends them. An empty pipe is an error (`WouldBlock`), one that
    /// nobody can write to any more brings zero bytes.
    pub fn splice(
        &mut self,
        stream: Stream,
        fifo: &File,
        length: usize,
        time: Time,
    ) -> io::Result<Option<usize>> {
        let place = stream.place();
        let offset = self.streams[place].size.size_bytes;
        let room = usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut length = length.min(room);
        if self.tail.is_some() {
            // Room is made before, so it must be known for how many.
            length = length.min(pipe::available(fifo)?);
            let is_made = self.make_room(stream, offset, length as u64).is_ok();
            let is_whole = self.tail.as_ref().is_some_and(|tail| {
                let cut = tail.cut(stream);
                offset >= cut.tail_start || cut.head_end >= cut.tail_start
            });
            if !is_made || !is_whole {
                return Ok(None);
            }
        }
        if length == 0 {
            return Ok(None);
        }
        let log = &mut self.streams[place];
        if log.file.is_none() && pipe::available(fifo)? == 0 {
            // A log is made at the first byte.
            return Ok(None);
        }
        let Ok(file) = opened(&mut log.file, &log.path) else { return Ok(None) };
        let moved = match pipe::splice(fifo, file, offset, length) {
            Ok(0) => return Ok(Some(0)),
            Ok(moved) => moved,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(_) => return Ok(None),
        };
        log.size.size_bytes += moved as u64;
        faults::point("output.moved");
        let other = self.streams[1 - place].size.size_bytes;
        let length = u32::try_from(moved).unwrap_or(u32::MAX);
        self.record(IndexRecord { time, stream, offset, length, other, loss: None });
        Ok(Some(moved))
    }

    /// What a stream brought between two offsets, from its log.
    pub fn read_back(&self, stream: Stream, offset: u64, buffer: &mut [u8]) -> usize {
        let file = self.streams[stream.place()].file.as_ref();
        file.and_then(|file| fs::read_at(file, buffer, offset).ok()).unwrap_or(0)
    }

    /// Whether a stream has brought more than is kept of it.
    pub fn is_beyond_limit(&self, stream: Stream) -> bool {
        self.streams[stream.place()].size.size_bytes > self.limit
    }

    /// Appends what a stream brought at `time`.
    pub fn append(&mut self, stream: Stream, bytes: &[u8], time: Time) {
        let room = self.limit.saturating_sub(self.streams[stream.place()].size.size_bytes);
        if bytes.len() as u64 <= room {
            self.keep(stream, bytes, time);
            return;
        }
        let (kept, rest) = bytes.split_at(usize::try_from(room).unwrap_or(bytes.len()));
        if !kept.is_empty() {
            self.keep(stream, kept, time);
        }
        self.pass_over(stream, rest.len() as u64, time);
    }

    /// Counts bytes beyond the limit, and tells of them now and then.
    fn pass_over(&mut self, stream: Stream, bytes: u64, time: Time) {
        let place = stream.place();
        let other = self.streams[1 - place].size.size_bytes;
        let size = &mut self.streams[place].size;
        let (offset, length) = (size.size_bytes, u32::try_from(bytes).unwrap_or(u32::MAX));
        size.size_bytes += u64::from(length);
        size.dropped_bytes += u64::from(length);
        let loss = Some(Loss::OutputLimit);
        let mut record = IndexRecord { time, stream, offset, length, other, loss };
        if let Some(run) = self.beyond[place] {
            match run.length.checked_add(length) {
                Some(length) => record = IndexRecord { offset: run.offset, length, ..record },
                // The next record begins where this one ends.
                None => self.tell_beyond(place),
            }
        }
        self.beyond[place] = Some(record);
        // A clock that was set back must not keep readers waiting.
        let is_recent = |told: Time| told <= time && time.since(told) < TELL_EVERY;
        if !self.told[place].is_some_and(is_recent) {
            self.told[place] = Some(time);
            self.tell_beyond(place);
        }
    }

    fn tell_beyond(&mut self, place: usize) {
        let Some(mut run) = self.beyond[place] else { return };
        // The other stream may have had records since, and sizes only grow along the index.
        run.other = self.streams[1 - place].size.size_bytes;
        self.tell_unrecorded();
        if self.index.write(&run.encode()).is_ok() {
            self.beyond[place] = None;
        }
    }

    fn keep(&mut self, stream: Stream, bytes: &[u8], time: Time) {
        let place = stream.place();
        let offset = self.streams[place].size.size_bytes;
        let other = self.streams[1 - place].size.size_bytes;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut record = IndexRecord { time, stream, offset, length, other, loss: None };
        let made = self.make_room(stream, offset, u64::from(length));
        self.streams[place].size.size_bytes += u64::from(length);
        let cut = self.tail.as_ref().map(|tail| tail.cut(stream));
        let written = made.and_then(|()| self.streams[place].write_around(bytes, offset, cut));
        if let Err(fault) = written {
            let is_full = fault.is_disk_full();
            record.loss = Some(if is_full { Loss::DiskFull } else { Loss::IoError });
            self.fault.get_or_insert(fault);
            self.streams[place].size.dropped_bytes += u64::from(length);
        }
        self.record(record);
    }

    /// With a tail that is kept: takes out what is no longer new enough.
    fn make_room(&mut self, stream: Stream, size: u64, length: u64) -> Result<(), StoreError> {
        let Some(tail) = &mut self.tail else { return Ok(()) };
        let log = &mut self.streams[stream.place()];
        let before = tail.cut(stream);
        if tail.make_room(stream, log.file.as_ref(), size, length)? {
            log.size.dropped_bytes += tail.cut(stream).tail_start - before.tail_start;
            if let Some(index) = &self.index.file {
                tail.trim_index(index, self.index.offset);
            }
        }
        Ok(())
    }

    fn record(&mut self, record: IndexRecord) {
        if record.loss.is_some() {
            let waiting = &mut self.unrecorded[record.stream.place()];
            match waiting {
                Some(run) if u64::from(run.length) + u64::from(record.length) < DROPPED_RUN_MAX => {
                    run.length += record.length;
                }
                Some(_) | None => *waiting = Some(record),
            }
            return;
        }
        self.tell_unrecorded();
        if let Err(fault) = self.index.write(&record.encode()) {
            // The bytes are in the log; readers find what the index does not tell.
            self.fault.get_or_insert(fault);
        }
    }

    fn tell_unrecorded(&mut self) {
        for place in 0..2 {
            if let Some(run) = self.unrecorded[place]
                && self.index.write(&run.encode()).is_ok()
            {
                self.unrecorded[place] = None;
            }
        }
    }

    /// Writes what is still waiting for room. Called once, before the end is told.
    pub fn finish(&mut self) {
        // Where there is no room to the last, the sizes in the end slot tell the loss.
        self.tell_unrecorded();
        for place in 0..2 {
            self.tell_beyond(place);
        }
    }

    /// How much a stream has brought and how much of it was dropped.
    pub fn size(&self, stream: Stream) -> OutputSize {
        self.streams[stream.place()].size
    }

    /// The first thing that went wrong, if anything did.
    pub fn fault(&self) -> Option<&StoreError> {
        self.fault.as_ref()
    }
}

impl LogFile {
    /// Writes what of these bytes does not lie in a hole.
    fn write_around(
        &mut self,
        bytes: &[u8],
        offset: u64,
        cut: Option<Cut>,
    ) -> Result<(), StoreError> {
        let cut = cut.filter(|cut| offset < cut.tail_start && cut.head_end < cut.tail_start);
        let Some(Cut { head_end, tail_start }) = cut else { return self.write(bytes, offset) };
        let place = |at: u64| {
            let place = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
            place.min(bytes.len())
        };
        let (head, tail) = (&bytes[..place(head_end)], &bytes[place(tail_start)..]);
        if !head.is_empty() {
            self.write(head, offset)?;
        }
        if tail.is_empty() { Ok(()) } else { self.write(tail, tail_start) }
    }

    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
        let written =
            opened(&mut self.file, &self.path).and_then(|file| fs::write_at(file, bytes, offset));
        written.map_err(StoreError::io("write", &self.path))
    }
}

impl Appender {
    fn write(&mut self, record: &[u8; 32]) -> Result<(), StoreError> {
        let written = opened(&mut self.file, &self.path)
            .and_then(|file| fs::write_at(file, record, self.offset));
        written.map_err(StoreError::io("write", &self.path))?;
        self.offset += record.len() as u64;
        Ok(())
    }
}

fn opened<'a>(file: &'a mut Option<File>, path: &std::path::Path) -> io::Result<&'a File> {
    if file.is_none() {
        *file = Some(fs::create_new(path)?);
    }
    file.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

#[cfg(test)]
mod tests;
