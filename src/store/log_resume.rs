//! Taking up the logs of an attempt whose supervisor died.
//!
//! Bytes go from the FIFO into the log in one step, so the log says where the output stands; what
//! the index does not tell yet is told to it now, with the time of the last write.

use std::{fs::File, io};

use crate::{
    job::{OutputSize, Time},
    sys::fs,
};

use super::{
    JobDir, StoreError,
    index::{IndexFile, IndexRecord, RECORD_BYTES, Stream},
};

/// Records that are read at once.
const RECORDS: usize = 4096;
/// The most bytes of one record.
const RUN_MAX: u64 = 1024 * 1024 * 1024;

/// Where the output of an attempt stands.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// What each stream brought.
    pub(super) sizes: [OutputSize; 2],
    /// Where the last run of each stream begins that the index told.
    pub(super) last_runs: [u64; 2],
    /// Where the next record of the index goes.
    pub(super) index_bytes: u64,
    /// What the index does not tell yet.
    pub(super) untold: Vec<IndexRecord>,
    /// The logs that are there.
    pub(super) logs: [Option<File>; 2],
    /// The index, if it is there.
    pub(super) index: Option<File>,
}

impl Standing {
    /// Reads it from the folder.
    pub(super) fn read(dir: &JobDir) -> Result<Self, StoreError> {
        let mut standing = Self { index: existing(&dir.index_path())?, ..Self::default() };
        if let Some(index) = &standing.index {
            let copy = fs::share(index).map_err(StoreError::io("open", &dir.index_path()))?;
            standing
                .count(&IndexFile::new(copy))
                .map_err(StoreError::io("read", &dir.index_path()))?;
        }
        for stream in Stream::BOTH {
            standing.compare(dir, stream)?;
        }
        Ok(standing)
    }

    /// Adds up what the index tells. A damaged record ends it: the next is written in its place.
    fn count(&mut self, index: &IndexFile) -> io::Result<()> {
        let mut number = 0;
        loop {
            let (records, after) = index.read(number, RECORDS)?;
            number = after;
            if records.is_empty() {
                break;
            }
            for record in records {
                let place = record.stream.place();
                self.sizes[place].size_bytes = record.end();
                self.last_runs[place] = record.offset;
                if record.loss.is_some() {
                    self.sizes[place].dropped_bytes += u64::from(record.length);
                }
            }
        }
        self.index_bytes = number * RECORD_BYTES as u64;
        Ok(())
    }

    /// Finds what is in a log and not in the index.
    fn compare(&mut self, dir: &JobDir, stream: Stream) -> Result<(), StoreError> {
        let path = match stream {
            Stream::Stdout => dir.stdout_path(),
            Stream::Stderr => dir.stderr_path(),
        };
        let place = stream.place();
        self.logs[place] = existing(&path)?;
        let Some(log) = &self.logs[place] else { return Ok(()) };
        let metadata = log.metadata().map_err(StoreError::io("look at", &path))?;
        let time = metadata.modified().map_or(Time::from_nanos(0), Time::from);
        let other = self.sizes[1 - place].size_bytes;
        while self.sizes[place].size_bytes < metadata.len() {
            let offset = self.sizes[place].size_bytes;
            let length = u32::try_from((metadata.len() - offset).min(RUN_MAX)).unwrap_or(u32::MAX);
            self.untold.push(IndexRecord { time, stream, offset, length, other, loss: None });
            self.sizes[place].size_bytes += u64::from(length);
        }
        Ok(())
    }
}

fn existing(path: &std::path::Path) -> Result<Option<File>, StoreError> {
    match fs::open_to_write(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::io("open", path)(source)),
    }
}
