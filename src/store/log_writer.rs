//! Appending output: raw bytes into one file for each stream, and a record into the index.
//!
//! A byte's offset is its place in what the job wrote, kept or not. What cannot be written is
//! dropped and counted, and its range becomes a record as soon as there is room: the job never
//! waits for the disk to have some.

use std::{fs::File, io, path::PathBuf};

use crate::{
    job::{OutputSize, Time},
    sys::fs,
};

use super::{
    JobDir, StoreError,
    index::{IndexRecord, Stream},
};

/// Length of one record of dropped bytes.
const DROPPED_RUN_MAX: u64 = u32::MAX as u64;

/// The one writer of a job's output.
#[derive(Debug)]
pub struct LogWriter {
    streams: [LogFile; 2],
    index: Appender,
    /// Runs that were dropped and have no record yet, at most one for each stream.
    unrecorded: [Option<IndexRecord>; 2],
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
            fault: None,
        }
    }

    /// Appends what a stream brought at `time`.
    pub fn append(&mut self, stream: Stream, bytes: &[u8], time: Time) {
        let place = stream.place();
        let offset = self.streams[place].size.size_bytes;
        let other = self.streams[1 - place].size.size_bytes;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut record = IndexRecord { time, stream, offset, length, other, is_dropped: false };
        self.streams[place].size.size_bytes += u64::from(length);
        if let Err(fault) = self.streams[place].write(bytes, offset) {
            self.fault.get_or_insert(fault);
            self.streams[place].size.dropped_bytes += u64::from(length);
            record.is_dropped = true;
        }
        self.record(record);
    }

    fn record(&mut self, record: IndexRecord) {
        if record.is_dropped {
            let waiting = &mut self.unrecorded[record.stream.place()];
            match waiting {
                Some(run) if u64::from(run.length) + u64::from(record.length) < DROPPED_RUN_MAX => {
                    run.length += record.length;
                }
                Some(_) | None => *waiting = Some(record),
            }
            return;
        }
        for place in 0..2 {
            if let Some(run) = self.unrecorded[place]
                && self.index.write(&run.encode()).is_ok()
            {
                self.unrecorded[place] = None;
            }
        }
        if let Err(fault) = self.index.write(&record.encode()) {
            // The bytes are in the log; readers find what the index does not tell.
            self.fault.get_or_insert(fault);
        }
    }

    /// Writes what is still waiting for room. Called once, before the end is told.
    pub fn finish(&mut self) {
        for place in 0..2 {
            if let Some(run) = self.unrecorded[place].take() {
                // Where there is no room to the last, the sizes in the end slot tell the loss.
                let _ = self.index.write(&run.encode());
            }
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
mod tests {
    use super::*;
    use crate::store::index::IndexFile;

    #[test]
    fn output_without_room_is_counted_and_told_and_later_output_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let dir = JobDir::at(folder.path().to_owned());
        let mut log = LogWriter::new(&dir);
        log.append(Stream::Stdout, b"kept", Time::from_nanos(1));
        // A full device in the place of the log file stands for a full disk.
        let full = File::options().write(true).open("/dev/full").unwrap();
        let log_file = log.streams[0].file.replace(full);
        log.append(Stream::Stdout, b"lo", Time::from_nanos(2));
        log.append(Stream::Stdout, b"st", Time::from_nanos(3));
        log.streams[0].file = log_file;
        log.append(Stream::Stdout, b"again", Time::from_nanos(4));
        log.finish();

        assert_eq!(log.size(Stream::Stdout), OutputSize { size_bytes: 13, dropped_bytes: 4 });
        assert!(log.fault().unwrap().is_disk_full());
        assert_eq!(std::fs::read(dir.stdout_path()).unwrap(), b"kept\0\0\0\0again");
        let index = IndexFile::new(File::open(dir.index_path()).unwrap());
        let told: Vec<_> = index
            .read(0, 10)
            .unwrap()
            .iter()
            .map(|record| (record.offset, record.end(), record.is_dropped))
            .collect();
        assert_eq!(told, [(0, 4, false), (4, 8, true), (8, 13, false)]);
    }
}
