//! One file of the journal: a line that says what it is, then a line for each event.
//!
//! The first line holds what had been told of every active job, so that a start needs the last
//! files only. A line counts once it is whole; what comes after the last whole one is cut off.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    event::{EventKind, Gone, Told},
    record::{self, Summary, ToldText},
};
use crate::{
    job::{JobId, Time},
    store::{StoreError, layout, slots},
    sys::{clock, fs},
};

/// The format of the files.
const FORMAT_VERSION: u32 = 1;
/// Room that is set aside beyond the size of a segment, so that the events of jobs that end can
/// still be written on a full disk.
const RESERVE_BYTES: u64 = 1024 * 1024;
/// The largest sequence that a segment may begin with; they count from 1.
const SEQUENCE_MAX: u64 = 1 << 62;
/// The most that is read of one segment: what was written while no next one could be made.
const READ_BYTES_MAX: u64 = 1 << 30;

/// What all readers and the writer know of a segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// The sequence of its first event.
    pub(super) first: u64,
    /// Where its first event begins; zero if that is not known.
    pub(super) header_bytes: u64,
    /// Its size.
    pub(super) bytes: u64,
    /// When its newest event was written.
    pub(super) newest: Time,
}

/// The first line of a segment.
#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    version: u32,
    /// The run of sequences without a gap that it belongs to.
    pub(super) epoch: String,
    pub(super) first: u64,
    pub(super) boot_id: String,
    time: String,
    active: Vec<(String, ToldText)>,
}

/// What follows the last whole line of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing.
    Clean,
    /// The beginning of a line that nobody was told of.
    Torn,
    /// Lines that were whole once: they were told, and one before them is damaged.
    Damaged,
}

/// What a scan found.
pub(super) struct Scanned {
    pub(super) header: Header,
    pub(super) segment: Segment,
    /// The sequence after the last event.
    pub(super) next: u64,
    /// What had been told of active jobs at its end.
    pub(super) told: HashMap<JobId, Told>,
    /// The jobs that ended or went in it.
    pub(super) gone: HashMap<JobId, Gone>,
    /// What followed the last whole line.
    pub(super) tail: Tail,
}

pub(super) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}{}", layout::JOURNAL_SUFFIX))
}

/// The sequence in the name of a segment; none if no store can have come so far, which leaves room
/// to count on from any that there is.
pub(super) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(layout::JOURNAL_SUFFIX)?;
    let first = if digits.len() == 20 { digits.parse().ok() } else { None };
    first.filter(|first| (1..=SEQUENCE_MAX).contains(first))
}

impl Header {
    /// The first line of a segment that begins now with the event `first`.
    pub(super) fn new(epoch: &str, first: u64, boot_id: &str, told: &HashMap<JobId, Told>) -> Self {
        let active = told.iter().map(|(id, told)| (id.to_string(), ToldText::of(told))).collect();
        let time = Time::from(clock::now()).to_string();
        let (epoch, boot_id) = (epoch.to_owned(), boot_id.to_owned());
        Self { version: FORMAT_VERSION, epoch, first, boot_id, time, active }
    }
}

/// Makes a segment with room for `bytes` of events.
pub(super) fn create(
    dir: &Path,
    header: &Header,
    bytes: u64,
) -> Result<(File, Segment), StoreError> {
    let first = header.first;
    let path = path(dir, first);
    let mut line = serde_json::to_string(header).unwrap_or_default();
    slots::seal_text(&mut line);
    line.push('\n');
    // What an earlier try left of it holds no event.
    fs::remove_if_any(&path).map_err(StoreError::io("remove", &path))?;
    let header_bytes = line.len() as u64;
    let made = fs::create_reserved(&path, header_bytes + bytes + RESERVE_BYTES)
        .and_then(|file| fs::write_at(&file, line.as_bytes(), 0).map(|()| file));
    match made {
        Ok(file) => {
            let newest = Time::from(clock::now());
            Ok((file, Segment { first, header_bytes, bytes: header_bytes, newest }))
        }
        Err(source) => {
            let _ = fs::remove_if_any(&path);
            Err(StoreError::io("create", &path)(source))
        }
    }
}

/// An older segment by its file, unread.
pub(super) fn of_file(dir: &Path, first: u64) -> Result<Segment, StoreError> {
    let path = path(dir, first);
    let metadata = std::fs::metadata(&path).map_err(StoreError::io("look at", &path))?;
    let newest = metadata.modified().map_or(Time::from_nanos(0), Time::from);
    Ok(Segment { first, header_bytes: 0, bytes: metadata.len(), newest })
}

/// What a segment turned out to be.
pub(super) enum Found {
    /// It holds events, or may.
    Whole(Box<Scanned>),
    /// It was only begun: not even its first line is whole.
    Begun,
    /// It has whole lines, but the first says nothing that this program understands.
    Unreadable,
}

/// Reads the whole of a segment.
pub(super) fn scan(dir: &Path, first: u64) -> Result<Found, StoreError> {
    let path = path(dir, first);
    let mut bytes = Vec::new();
    let read =
        fs::open_regular(&path).and_then(|file| Ok((file.metadata()?.modified()?, file))).and_then(
            |(modified, file)| file.take(READ_BYTES_MAX).read_to_end(&mut bytes).map(|_| modified),
        );
    let modified = read.map_err(StoreError::io("read", &path))?;
    let mut lines = Lines { bytes: &bytes, at: 0 };
    let header: Option<Header> = lines
        .next()
        .filter(|line| slots::is_sealed(line))
        .and_then(|line| serde_json::from_str(line).ok())
        .filter(|header: &Header| header.version == FORMAT_VERSION && header.first == first);
    let Some(header) = header else {
        return Ok(if lines.at == 0 { Found::Begun } else { Found::Unreadable });
    };
    let mut told = HashMap::new();
    for (id, text) in &header.active {
        if let (Ok(id), Some(then)) = (id.parse(), text.told()) {
            told.insert(id, then);
        }
    }
    let header_bytes = lines.at as u64;
    let (mut next, mut whole, mut gone) = (first, header_bytes, HashMap::new());
    while let Some(line) = lines.next() {
        let Some(summary) = record::summary(line).filter(|summary| summary.sequence == next) else {
            break;
        };
        note(&summary, &mut told, &mut gone);
        next += 1;
        whole = lines.at as u64;
    }
    let segment = Segment { first, header_bytes, bytes: whole, newest: modified.into() };
    let tail = match lines.bytes.len() as u64 {
        length if length == whole => Tail::Clean,
        _ if lines.any_whole() => Tail::Damaged,
        _ => Tail::Torn,
    };
    Ok(Found::Whole(Box::new(Scanned { header, segment, next, told, gone, tail })))
}

fn note(summary: &Summary, told: &mut HashMap<JobId, Told>, gone: &mut HashMap<JobId, Gone>) {
    let Ok(id) = summary.id.parse::<JobId>() else { return };
    if let Some(then) = summary.told.as_ref().and_then(ToldText::told) {
        told.insert(id, then);
    } else {
        told.remove(&id);
        let is_deleted = EventKind::of_name(&summary.kind) == Some(EventKind::Deleted);
        let Summary { sequence, revision, .. } = *summary;
        gone.insert(id, Gone { sequence, revision, is_deleted });
    }
}

/// Opens a segment for further events: what follows its last whole line is cut off.
pub(super) fn reopen(dir: &Path, segment: &Segment) -> Result<File, StoreError> {
    let path = path(dir, segment.first);
    let open = || -> io::Result<File> {
        let file = fs::open_to_write(&path)?;
        fs::resize(&file, segment.bytes)?;
        Ok(file)
    };
    open().map_err(StoreError::io("open", &path))
}

/// Whole lines of bytes, without their newlines.
pub(super) struct Lines<'a> {
    pub(super) bytes: &'a [u8],
    /// Where the next line begins.
    pub(super) at: usize,
}

impl<'a> Lines<'a> {
    /// Whether any line from here on is whole and has its checksum.
    fn any_whole(&mut self) -> bool {
        while let Some(line) = self.next() {
            if slots::is_sealed(line) {
                return true;
            }
        }
        false
    }

    /// The next whole line; one that is no UTF-8 is empty.
    pub(super) fn next(&mut self) -> Option<&'a str> {
        let rest = self.bytes.get(self.at..)?;
        let length = rest.iter().position(|byte| *byte == b'\n')?;
        self.at += length + 1;
        Some(str::from_utf8(&rest[..length]).unwrap_or_default())
    }
}
