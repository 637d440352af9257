//! Output of which the head and the newest bytes are kept: what lies between is a hole.
//!
//! Offsets never change. `output.cut` says, for each stream, where the hole begins and ends; the
//! supervisor moves its end forward there before it takes the bytes out of the log. A reader
//! looks at it after it has read bytes, so it never takes a hole for zeros.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use crate::sys::fs;

use super::{JobDir, StoreError, Stream, index, layout};

/// Bytes of the record of one stream.
const CUT_BYTES: usize = 32;
/// The hole grows in steps of this part of the tail, so that few writes cost a call to make room.
const STEPS_OF_TAIL: u64 = 8;
/// A hole is made from a multiple of this on, so that the block of its last end goes as well.
const BLOCK_BYTES: u64 = 64 * 1024;
/// How often a record that is being written is read again.
const READS_MAX: usize = 8;

/// The hole in one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// Where it begins: the end of what is kept of the beginning.
    pub(super) head_end: u64,
    /// Where it ends.
    pub(super) tail_start: u64,
}

impl Cut {
    fn encode(self) -> [u8; CUT_BYTES] {
        let mut bytes = [0; CUT_BYTES];
        bytes[..8].copy_from_slice(&self.head_end.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.tail_start.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CUT_BYTES - 4]);
        bytes[CUT_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().map(u64::from_le_bytes).ok();
        let crc = bytes.get(CUT_BYTES - 4..CUT_BYTES)?.try_into().map(u32::from_le_bytes).ok()?;
        let cut = Self { head_end: number(0)?, tail_start: number(8)? };
        let is_good = crc == crc32fast::hash(&bytes[..CUT_BYTES - 4]);
        (is_good && cut.head_end <= cut.tail_start).then_some(cut)
    }
}

/// Reads the holes of an attempt, again and again.
#[derive(Debug)]
pub(super) struct Cuts {
    path: PathBuf,
    file: Option<File>,
}

impl Cuts {
    pub(super) fn new(dir: &JobDir) -> Self {
        Self { path: dir.cut_path(), file: None }
    }

    /// The hole in a stream as it is now; `None` if there is none.
    pub(super) fn load(&mut self, stream: Stream) -> Result<Option<Cut>, StoreError> {
        if self.file.is_none() {
            match fs::open_regular(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(StoreError::io("open", &self.path)(source)),
            }
        }
        let Some(file) = &self.file else { return Ok(None) };
        let mut bytes = [0; CUT_BYTES];
        for _ in 0..READS_MAX {
            let length = fs::read_at(file, &mut bytes, (stream.place() * CUT_BYTES) as u64)
                .map_err(StoreError::io("read", &self.path))?;
            if length < CUT_BYTES || bytes == [0; CUT_BYTES] {
                return Ok(None);
            }
            if let Some(cut) = Cut::decode(&bytes) {
                return Ok(Some(cut));
            }
        }
        let why = "the record of a hole is damaged".to_owned();
        Err(StoreError::Corrupt { path: self.path.clone(), why })
    }
}

impl JobDir {
    /// The path of the file that tells of holes in the logs.
    pub fn cut_path(&self) -> PathBuf {
        self.file(layout::CUT)
    }

    /// How many bytes of each stream have been taken out again, standard output first.
    pub fn cut_bytes(&self) -> Result<[u64; 2], StoreError> {
        let mut cuts = Cuts::new(self);
        let mut bytes = [0, 0];
        for stream in Stream::BOTH {
            let cut = cuts.load(stream)?.unwrap_or_default();
            bytes[stream.place()] = cut.tail_start - cut.head_end;
        }
        Ok(bytes)
    }
}

/// Makes room in the logs of a job, for their one writer.
#[derive(Debug)]
pub(super) struct KeptTail {
    limit: u64,
    path: PathBuf,
    file: Option<File>,
    cuts: [Cut; 2],
    /// The first block of the index that has not been looked at.
    index_block: u64,
}

impl KeptTail {
    /// Keeps at most `limit` bytes of each stream: half of them from its beginning.
    pub(super) fn new(dir: &JobDir, limit: u64) -> Self {
        let cut = Cut { head_end: limit / 2, tail_start: limit / 2 };
        let cuts = [cut, cut];
        Self { limit, path: dir.cut_path(), file: None, cuts, index_block: 0 }
    }

    /// Goes on where a writer stopped that died: what was published is taken out now.
    pub(super) fn resume(
        &mut self,
        dir: &JobDir,
        logs: [Option<&File>; 2],
    ) -> Result<(), StoreError> {
        let mut cuts = Cuts::new(dir);
        for stream in Stream::BOTH {
            let Some(cut) = cuts.load(stream)? else { continue };
            self.cuts[stream.place()] = cut;
            if let Some(log) = logs[stream.place()] {
                let size = log.metadata().map_or(0, |metadata| metadata.len());
                let _ = fs::punch_hole(log, cut.head_end, cut.tail_start.min(size));
            }
        }
        Ok(())
    }

    /// The hole in a stream; an empty one if nothing has been taken out.
    pub(super) fn cut(&self, stream: Stream) -> Cut {
        self.cuts[stream.place()]
    }

    /// Makes room for a stream of `size` bytes to grow by `length`. True if the hole has grown.
    ///
    /// `log` is the log of the stream. After an error nothing may be written.
    pub(super) fn make_room(
        &mut self,
        stream: Stream,
        log: Option<&File>,
        size: u64,
        length: u64,
    ) -> Result<bool, StoreError> {
        let old = self.cut(stream);
        let (new_size, tail_max) = (size + length, self.limit - old.head_end);
        let needed = new_size.saturating_sub(tail_max);
        if new_size <= self.limit || needed <= old.tail_start {
            return Ok(false);
        }
        let tail_start = (needed + tail_max / STEPS_OF_TAIL).min(new_size);
        let cut = Cut { tail_start, ..old };
        self.publish(stream, cut)?;
        self.cuts[stream.place()] = cut;
        if let Some(log) = log {
            let from = old.head_end.max(old.tail_start / BLOCK_BYTES * BLOCK_BYTES);
            // What cannot be taken out stays where nobody reads it.
            let _ = fs::punch_hole(log, from, tail_start.min(size));
        }
        Ok(true)
    }

    fn publish(&mut self, stream: Stream, cut: Cut) -> Result<(), StoreError> {
        let write = |file: &mut Option<File>, path: &Path| {
            let file = match file {
                Some(file) => file,
                None => file.insert(fs::open_or_create(path)?),
            };
            fs::write_at(file, &cut.encode(), (stream.place() * CUT_BYTES) as u64)
        };
        write(&mut self.file, &self.path).map_err(StoreError::io("write", &self.path))
    }

    /// Takes blocks out of the index that tell only of bytes that are gone.
    ///
    /// A block with anything that stays is left for good; at most as many bytes stay as the limit
    /// allows, so there are not many.
    pub(super) fn trim_index(&mut self, index: &File, index_bytes: u64) {
        let mut block = [0; index::BLOCK_BYTES];
        while (self.index_block + 1) * index::BLOCK_BYTES as u64 <= index_bytes {
            let at = self.index_block * index::BLOCK_BYTES as u64;
            if !fs::read_at(index, &mut block, at).is_ok_and(|length| length == block.len()) {
                return;
            }
            let (mut has_tail, mut has_kept) = (false, false);
            for record in index::records(&block) {
                let cut = self.cut(record.stream);
                let is_cut = cut.tail_start > cut.head_end;
                has_tail |= is_cut && record.end() > cut.tail_start;
                has_kept |= !is_cut || record.offset < cut.head_end;
            }
            if has_tail {
                // It will go later.
                return;
            }
            if !has_kept {
                let _ = fs::punch_hole(index, at, at + block.len() as u64);
            }
            self.index_block += 1;
        }
    }
}

/// Whether the file system of a folder can take bytes out of files.
pub(super) fn can_make_holes(folder: &Path) -> io::Result<bool> {
    let path = folder.join(".hole");
    fs::remove_if_any(&path)?;
    let file = fs::create_new(&path)?;
    let made = fs::write_at(&file, &[1; 8192], 0).and_then(|()| fs::punch_hole(&file, 0, 4096));
    fs::remove_if_any(&path)?;
    Ok(made.is_ok())
}

#[cfg(test)]
mod tests;
