//! Reading output: both streams in the order of capture, from any offset, at any moment.
//!
//! A reader keeps a position and no data. It never waits and never takes a notification's word:
//! what is in the index and the logs is what it tells.

use std::{fs::File, io, path::PathBuf, time::Duration};

use crate::{
    job::{OutputSize, Time},
    sys::fs,
};

use super::{
    JobDir, StoreError,
    index::{IndexFile, IndexRecord, Loss, Stream},
    kept_tail::{Cut, Cuts},
};

/// Records that are looked at together.
const RECORDS_AT_ONCE: usize = 256;
/// Neighbouring runs of one stream become one piece while they came this close together: the
/// piece has the time of the first.
const TOGETHER: Duration = Duration::from_millis(5);
/// Block of a backward scan for lines.
const SCAN_BYTES: usize = 64 * 1024;

/// What a reader tells next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes as they were written.
    Data {
        /// Of this stream.
        stream: Stream,
        /// From this offset on.
        offset: u64,
        /// Captured then (the first of them).
        time: Time,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Bytes that are not there.
    Gap {
        /// Of this stream.
        stream: Stream,
        /// From this offset.
        from: u64,
        /// To the one before this.
        to: u64,
        /// Why they are not there.
        reason: GapReason,
    },
}

/// Why bytes are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// They were not kept.
    Dropped(Loss),
    /// Somebody else cut the file.
    Truncated,
}

/// A position in the output of one attempt.
#[derive(Debug)]
pub struct LogReader {
    logs: [LogFile; 2],
    index_path: PathBuf,
    index: Option<IndexFile>,
    wanted: [bool; 2],
    offsets: [u64; 2],
    next_record: u64,
    records: std::collections::VecDeque<IndexRecord>,
    cuts: Cuts,
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: Option<File>,
}

impl LogReader {
    /// A reader of the wanted streams at these offsets, standard output first.
    pub fn open(dir: &JobDir, wanted: [bool; 2], offsets: [u64; 2]) -> Result<Self, StoreError> {
        let log = |path| LogFile { path, file: None };
        let mut reader = Self {
            logs: [log(dir.stdout_path()), log(dir.stderr_path())],
            index_path: dir.index_path(),
            index: None,
            wanted,
            offsets,
            next_record: 0,
            records: std::collections::VecDeque::new(),
            cuts: Cuts::new(dir),
        };
        reader.seek()?;
        Ok(reader)
    }

    fn seek(&mut self) -> Result<(), StoreError> {
        let (wanted, offsets) = (self.wanted, self.offsets);
        let is_reached = |record: &IndexRecord| {
            let sizes = record.sizes();
            (0..2).any(|place| wanted[place] && sizes[place] > offsets[place])
        };
        let path = self.index_path.clone();
        let Some(index) = self.opened_index()? else { return Ok(()) };
        self.next_record = index.bisect(is_reached).map_err(StoreError::io("read", &path))?;
        Ok(())
    }

    fn opened_index(&mut self) -> Result<Option<&IndexFile>, StoreError> {
        if self.index.is_none() {
            match fs::open_regular(&self.index_path) {
                Ok(file) => self.index = Some(IndexFile::new(file)),
                // No output yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(StoreError::io("open", &self.index_path)(source)),
            }
        }
        Ok(self.index.as_ref())
    }

    /// Where the next piece of each stream begins.
    pub fn offsets(&self) -> [u64; 2] {
        self.offsets
    }

    /// How much of each stream the index tells of now.
    pub fn sizes(&mut self) -> Result<[u64; 2], StoreError> {
        let path = self.index_path.clone();
        let Some(index) = self.opened_index()? else { return Ok([0, 0]) };
        let last = |index: &IndexFile| match index.count()? {
            0 => Ok(None),
            count => index.get(count - 1),
        };
        let last = last(index).map_err(StoreError::io("read", &path))?;
        Ok(last.map_or([0, 0], |record| record.sizes()))
    }

    /// The next piece of at most `bytes_max` bytes; `None` if there is nothing new.
    pub fn next(&mut self, bytes_max: usize) -> Result<Option<Piece>, StoreError> {
        while let Some(record) = self.next_record()? {
            let place = record.stream.place();
            let at = self.offsets[place];
            if !self.wanted[place] || record.end() <= at {
                self.records.pop_front();
                continue;
            }
            if at < record.offset {
                // The index does not tell of what lies between, or not any more.
                let end = record.offset.min(at.saturating_add(bytes_max as u64));
                return self.logged(record.stream, at, end, record.time).map(Some);
            }
            if let Some(loss) = record.loss {
                self.records.pop_front();
                let to = record.end();
                self.offsets[place] = to;
                let (stream, reason) = (record.stream, GapReason::Dropped(loss));
                return Ok(Some(Piece::Gap { stream, from: at, to, reason }));
            }
            return self.data(record, at, bytes_max).map(Some);
        }
        Ok(None)
    }

    fn next_record(&mut self) -> Result<Option<IndexRecord>, StoreError> {
        if self.records.is_empty() {
            let (path, number) = (self.index_path.clone(), self.next_record);
            let Some(index) = self.opened_index()? else { return Ok(None) };
            let (records, after) =
                index.read(number, RECORDS_AT_ONCE).map_err(StoreError::io("read", &path))?;
            self.next_record = after;
            self.records.extend(records);
        }
        Ok(self.records.front().copied())
    }

    /// The bytes from `at` on: the rest of the first record and what may be told with it.
    fn data(&mut self, first: IndexRecord, at: u64, bytes_max: usize) -> Result<Piece, StoreError> {
        let place = first.stream.place();
        let limit = at.saturating_add(bytes_max as u64);
        let mut end = first.end().min(limit);
        if first.end() <= limit {
            self.records.pop_front();
            while let Some(next) = self.records.front().copied() {
                let is_near = next.time.since(first.time) <= TOGETHER;
                let follows = next.stream == first.stream && next.offset == end;
                if !follows || next.loss.is_some() || !is_near {
                    break;
                }
                end = next.end().min(limit);
                if next.end() > limit {
                    // The rest of it begins the next piece.
                    break;
                }
                self.records.pop_front();
            }
        }
        let piece = self.logged(first.stream, at, end, first.time)?;
        // What somebody cut off, or what was taken out, is told as a gap by the next call.
        let read = self.offsets[place];
        if read < end {
            let length = u32::try_from(end - read).unwrap_or(u32::MAX);
            let rest = IndexRecord { offset: read, length, ..first };
            self.records.push_front(rest);
        }
        Ok(piece)
    }

    /// What the log has of a range, from its beginning on; the reader goes on behind it.
    fn logged(
        &mut self,
        stream: Stream,
        from: u64,
        end: u64,
        time: Time,
    ) -> Result<Piece, StoreError> {
        let place = stream.place();
        let mut bytes = self.logs[place].read(from, end)?;
        // Only now: what was taken out meanwhile has been told of before.
        if let Some(Cut { head_end, tail_start }) = self.cuts.load(stream)? {
            if from < head_end {
                bytes.truncate(usize::try_from(head_end - from).unwrap_or(usize::MAX));
            } else if from < tail_start {
                self.offsets[place] = tail_start;
                let reason = GapReason::Dropped(Loss::OutputLimit);
                return Ok(Piece::Gap { stream, from, to: tail_start, reason });
            }
        }
        if bytes.is_empty() {
            self.offsets[place] = end;
            let reason = GapReason::Truncated;
            return Ok(Piece::Gap { stream, from, to: end, reason });
        }
        self.offsets[place] = from + bytes.len() as u64;
        Ok(Piece::Data { stream, offset: from, time, bytes })
    }

    /// What the index does not tell of although the job has ended with these sizes: bytes whose
    /// record could not be written, or that were dropped without one.
    pub fn rest(
        &mut self,
        ended: [OutputSize; 2],
        time: Time,
    ) -> Result<Option<Piece>, StoreError> {
        for stream in Stream::BOTH {
            let place = stream.place();
            let (from, to) = (self.offsets[place], ended[place].size_bytes);
            if !self.wanted[place] || from >= to {
                continue;
            }
            let end = to.min(from.saturating_add(SCAN_BYTES as u64));
            let piece = self.logged(stream, from, end, time)?;
            if let Piece::Gap { reason: GapReason::Truncated, .. } = piece {
                // The index would tell of what had been written.
                self.offsets[place] = to;
                let reason = GapReason::Dropped(Loss::DiskFull);
                return Ok(Some(Piece::Gap { stream, from, to, reason }));
            }
            return Ok(Some(piece));
        }
        Ok(None)
    }

    /// The offset at which the last `lines` lines of a stream of this size begin. A last line
    /// without a newline counts as one. The cost depends on those lines, not on the log.
    pub fn offset_of_last_lines(
        &mut self,
        stream: Stream,
        size: u64,
        lines: u64,
    ) -> Result<u64, StoreError> {
        let log = &mut self.logs[stream.place()];
        if lines == 0 {
            return Ok(size);
        }
        let least = self.cuts.load(stream)?.filter(|cut| cut.tail_start > cut.head_end);
        let least = least.map_or(0, |cut| cut.tail_start);
        // Behind the end of the log is only what was dropped, however much that is.
        let size = size.min(fs::size(&log.path).map_err(StoreError::io("look at", &log.path))?);
        let (mut end, mut left) = (size, lines);
        while end > least {
            let from = end.saturating_sub(SCAN_BYTES as u64).max(least);
            let block = log.read(from, end)?;
            for (at, byte) in (from..).zip(&block).collect::<Vec<_>>().into_iter().rev() {
                // The newline that ends the last line begins no other.
                if *byte == b'\n' && at + 1 < size {
                    left -= 1;
                    if left == 0 {
                        return Ok(at + 1);
                    }
                }
            }
            end = from;
        }
        // No further back than to where bytes were taken out.
        Ok(least)
    }

    /// The sizes of both streams before the first run captured at or after `time`.
    pub fn offsets_at(&mut self, time: Time) -> Result<[u64; 2], StoreError> {
        let path = self.index_path.clone();
        let Some(index) = self.opened_index()? else { return Ok([0, 0]) };
        let find = |index: &IndexFile| {
            let number = index.bisect(|record| record.time >= time)?;
            if let Some((_, first)) = index.first_from(number)? {
                return Ok(Some(first.sizes_before()));
            }
            let last = match number.checked_sub(1) {
                Some(last) => index.get(last)?,
                None => None,
            };
            Ok(last.map(|last| last.sizes()))
        };
        let before = find(index).map_err(StoreError::io("read", &path))?;
        Ok(before.unwrap_or([0, 0]))
    }
}

impl LogFile {
    /// The bytes of a range that are there; none if there is no file.
    fn read(&mut self, from: u64, to: u64) -> Result<Vec<u8>, StoreError> {
        if self.file.is_none() {
            match fs::open_regular(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(source) => return Err(StoreError::io("open", &self.path)(source)),
            }
        }
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let length =
            fs::read_at(file, &mut bytes, from).map_err(StoreError::io("read", &self.path))?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
