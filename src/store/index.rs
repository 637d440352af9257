//! `output.index`: which bytes of which stream came when, in the order of capture.
//!
//! Records of 32 bytes, little endian: wall-clock time in nanoseconds (8), offset in
//! the own stream (8), size of the other stream then (8), length (4), stream (1), flags (1) and
//! a check (2): the low half of the CRC-32 of the 30 bytes before it. A record tells the sizes
//! of both streams, so any offset of either is found by bisection.

use std::{fs::File, io};

use crate::{job::Time, sys::fs};

/// Bytes of a record.
pub(super) const RECORD_BYTES: usize = 32;
/// Bytes of a block: what is taken out of the index at once.
pub(super) const BLOCK_BYTES: usize = 4096;
/// The bytes were not kept: the disk was full, if no other flag says why.
const FLAG_DROPPED: u8 = 1;
/// Beside `FLAG_DROPPED`: the disk was failing.
const FLAG_IO_ERROR: u8 = 2;
/// Beside `FLAG_DROPPED`: the limit of the job on its output.
const FLAG_OUTPUT_LIMIT: u8 = 4;

/// Why bytes were not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The disk was full.
    DiskFull,
    /// The disk was failing.
    IoError,
    /// The job has a limit on its output.
    OutputLimit,
}

/// One of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both, in the order of their numbers.
    pub const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// 0 for standard output, 1 for standard error.
    pub const fn place(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }
}

/// One run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexRecord {
    /// When it was captured.
    pub time: Time,
    /// Which stream.
    pub stream: Stream,
    /// The offset of its first byte.
    pub offset: u64,
    /// Its length.
    pub length: u32,
    /// The size of the other stream when it was captured.
    pub other: u64,
    /// Why the bytes were lost, if they were.
    pub loss: Option<Loss>,
}

impl IndexRecord {
    /// The offset after its last byte.
    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }

    /// The sizes of both streams before it.
    pub(super) fn sizes_before(&self) -> [u64; 2] {
        match self.stream {
            Stream::Stdout => [self.offset, self.other],
            Stream::Stderr => [self.other, self.offset],
        }
    }

    /// The sizes of both streams after it.
    pub(super) fn sizes(&self) -> [u64; 2] {
        match self.stream {
            Stream::Stdout => [self.end(), self.other],
            Stream::Stderr => [self.other, self.end()],
        }
    }

    /// Its form on disk.
    pub(super) fn encode(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.time.nanos().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.other.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_le_bytes());
        bytes[28] = match self.stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        };
        bytes[29] = match self.loss {
            None => 0,
            Some(Loss::DiskFull) => FLAG_DROPPED,
            Some(Loss::IoError) => FLAG_DROPPED | FLAG_IO_ERROR,
            Some(Loss::OutputLimit) => FLAG_DROPPED | FLAG_OUTPUT_LIMIT,
        };
        let check = check(&bytes);
        bytes[30..].copy_from_slice(&check);
        bytes
    }

    /// Reads the form on disk; `None` if it is damaged.
    pub(super) fn decode(bytes: &[u8; 32]) -> Option<Self> {
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        if bytes[30..] != check(bytes) {
            return None;
        }
        let stream = match bytes[28] {
            0 => Stream::Stdout,
            1 => Stream::Stderr,
            _ => return None,
        };
        let record = Self {
            time: Time::from_nanos(number(0)?),
            stream,
            offset: number(8)?,
            other: number(16)?,
            length: u32::from_le_bytes(bytes[24..28].try_into().ok()?),
            loss: loss(bytes[29]),
        };
        record.offset.checked_add(u64::from(record.length))?;
        Some(record)
    }
}

fn loss(flags: u8) -> Option<Loss> {
    let has = |flag| flags & flag != 0;
    match (has(FLAG_DROPPED), has(FLAG_OUTPUT_LIMIT), has(FLAG_IO_ERROR)) {
        (false, _, _) => None,
        (true, true, _) => Some(Loss::OutputLimit),
        (true, false, true) => Some(Loss::IoError),
        (true, false, false) => Some(Loss::DiskFull),
    }
}

/// The low half of the CRC-32 of what comes before the check.
fn check(bytes: &[u8; 32]) -> [u8; 2] {
    let [low, high, ..] = crc32fast::hash(&bytes[..30]).to_le_bytes();
    [low, high]
}

/// The whole records of an index file: how many, and each by its number.
#[derive(Debug)]
pub(super) struct IndexFile {
    file: File,
}

impl IndexFile {
    /// The index in an open file.
    pub(super) fn new(file: File) -> Self {
        Self { file }
    }

    /// How many whole records there are now.
    pub(super) fn count(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len() / RECORD_BYTES as u64)
    }

    /// The record with this number, from 0; `None` past the end or if it is damaged or gone.
    pub(super) fn get(&self, number: u64) -> io::Result<Option<IndexRecord>> {
        let mut bytes = [0; RECORD_BYTES];
        let length = fs::read_at(&self.file, &mut bytes, number * RECORD_BYTES as u64)?;
        Ok(if length == RECORD_BYTES { IndexRecord::decode(&bytes) } else { None })
    }

    /// The first record from this number on that is there, and its number.
    pub(super) fn first_from(&self, number: u64) -> io::Result<Option<(u64, IndexRecord)>> {
        let (records, after) = self.read(number, 1)?;
        Ok(records.first().map(|record| (after - records.len() as u64, *record)))
    }

    /// Up to `count` whole records from this number on, and the number after the last. Steps over
    /// what has been taken out; ends before a damaged one.
    pub(super) fn read(
        &self,
        mut number: u64,
        count: usize,
    ) -> io::Result<(Vec<IndexRecord>, u64)> {
        let mut bytes = vec![0; count.max(1) * RECORD_BYTES];
        loop {
            let at = number * RECORD_BYTES as u64;
            let length = fs::read_at(&self.file, &mut bytes, at)?;
            let (whole, _) = bytes[..length].as_chunks::<RECORD_BYTES>();
            let gone = whole.iter().take_while(|record| is_gone(record)).count();
            number += gone as u64;
            if gone < whole.len() || whole.is_empty() {
                let there = whole[gone..].iter().map_while(IndexRecord::decode);
                let records: Vec<_> = there.collect();
                let after = number + records.len() as u64;
                return Ok((records, after));
            }
            match fs::next_data(&self.file, number * RECORD_BYTES as u64)? {
                // Holes are whole blocks, so bytes begin with a record.
                Some(next) => number = number.max(next / RECORD_BYTES as u64),
                None => return Ok((Vec::new(), number)),
            }
        }
    }

    /// The number of the first record for which `is_reached` holds, or the count. It must hold
    /// for every record after one for which it does. One that is gone counts as the next.
    pub(super) fn bisect(&self, is_reached: impl Fn(&IndexRecord) -> bool) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.count()?);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_from(middle)? {
                Some((number, record)) if number < high && !is_reached(&record) => low = number + 1,
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }
}

fn is_gone(record: &[u8; RECORD_BYTES]) -> bool {
    *record == [0; RECORD_BYTES]
}

/// The whole records of a block.
pub(super) fn records(block: &[u8]) -> impl Iterator<Item = IndexRecord> {
    let (whole, _) = block.as_chunks::<RECORD_BYTES>();
    whole.iter().filter_map(IndexRecord::decode)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_survives_and_a_damaged_one_does_not_count(
            nanos: u64, offset in 0..u64::MAX / 2, length: u32, other: u64, loss in 0..4_usize,
            is_error: bool, place in 0..32_usize, flip in 1..=255_u8,
        ) {
            let stream = Stream::BOTH[usize::from(is_error)];
            let time = Time::from_nanos(nanos);
            let losses = [None, Some(Loss::DiskFull), Some(Loss::IoError), Some(Loss::OutputLimit)];
            let loss = losses[loss];
            let record = IndexRecord { time, stream, offset, length, other, loss };
            let mut bytes = record.encode();
            prop_assert_eq!(IndexRecord::decode(&bytes), Some(record));
            bytes[place] ^= flip;
            prop_assert_ne!(IndexRecord::decode(&bytes), Some(record));
        }
    }

    #[test]
    fn bisection_finds_the_first_record_past_an_offset() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let mut bytes = Vec::new();
        for number in 0..100_u64 {
            let time = Time::from_nanos(number);
            let (stream, offset) = (Stream::Stdout, number * 10);
            let record = IndexRecord { time, stream, offset, length: 10, other: 0, loss: None };
            bytes.extend(record.encode());
        }
        bytes.extend([1, 2, 3]);
        std::fs::write(&path, bytes).unwrap();
        let index = IndexFile::new(File::open(&path).unwrap());
        assert_eq!(index.count().unwrap(), 100);
        assert_eq!(index.bisect(|record| record.end() > 0).unwrap(), 0);
        assert_eq!(index.bisect(|record| record.end() > 555).unwrap(), 55);
        assert_eq!(index.bisect(|record| record.end() > 10_000).unwrap(), 100);
    }
}
