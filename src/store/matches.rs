//! `matches.jsonl`: where output matched a pattern of the spec, one line of JSON a match.
//!
//! Only the supervisor writes it, only at its end, and only after the bytes that a line is about
//! are in the log. A line ends with a checksum, as a slot does, so a torn last one does not
//! count. Nothing here searches output.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{job::Time, sys::fs};

use super::{
    JobDir, StoreError, Stream, layout,
    record::{Record, RecordError, wrong},
    slots,
};

/// The most matches that are recorded of one job.
pub const MATCHES_MAX: u64 = 1_000;
/// The most bytes of the text of a match that are recorded.
const TEXT_BYTES_MAX: usize = 256;
/// The most bytes of the file: a line takes less than 2 KiB even with every byte escaped.
const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchRecord {
    /// Its place among the matches of the job, from 1.
    pub number: u64,
    /// When it was found.
    pub time: Time,
    /// The name of the pattern.
    pub name: String,
    /// The stream that matched.
    pub stream: Stream,
    /// The offset of its first byte in the stream.
    pub offset: u64,
    /// The offset after its last byte.
    pub end_offset: u64,
    /// What matched, as UTF-8 with replacements, at most 256 bytes.
    pub text: String,
}

impl JobDir {
    /// The path of the file of matches; missing if there are none.
    pub fn matches_path(&self) -> PathBuf {
        self.file(layout::MATCHES)
    }

    /// The matches with numbers beyond `after`, in order, at most `count`.
    pub fn matches(&self, after: u64, count: usize) -> Result<Vec<MatchRecord>, StoreError> {
        let path = self.matches_path();
        let bytes = fs::read_small_if_any(&path, FILE_BYTES_MAX)
            .map_err(StoreError::io("read", &path))?
            .unwrap_or_default();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
        let skipped = usize::try_from(after).unwrap_or(usize::MAX);
        let mut lines = bytes[..whole].split_inclusive(|byte| *byte == b'\n').skip(skipped);
        let mut records = Vec::new();
        while records.len() < count {
            let Some(line) = lines.next() else { break };
            let number = after + records.len() as u64 + 1;
            match parse(line, number).map_err(StoreError::corrupt(path.clone()))? {
                Some(record) => records.push(record),
                // As in a file of slots: what is torn can only be the last.
                None if lines.next().is_none() => break,
                None => {
                    let why = format!("line {number} is damaged");
                    return Err(StoreError::Corrupt { path, why });
                }
            }
        }
        Ok(records)
    }
}

/// The one writer of a job's matches. The file is made at the first.
#[derive(Debug)]
pub struct MatchWriter {
    path: PathBuf,
    /// Lines, and the bytes they take.
    written: (u64, u64),
    dropped: u64,
    fault: Option<StoreError>,
}

impl MatchWriter {
    /// A writer for an attempt that has no matches yet.
    pub fn new(dir: &JobDir) -> Self {
        Self { path: dir.matches_path(), written: (0, 0), dropped: 0, fault: None }
    }

    /// Goes on where a writer stopped that died; the matches that it recorded. A torn last line is
    /// written over.
    pub fn resume(&mut self, dir: &JobDir) -> Result<Vec<MatchRecord>, StoreError> {
        let records = dir.matches(0, usize::try_from(MATCHES_MAX).unwrap_or(usize::MAX))?;
        let whole: Vec<_> =
            records.iter().filter_map(|record| line(record, record.number)).collect();
        self.written = (whole.len() as u64, whole.iter().map(|line| line.len() as u64).sum());
        Ok(records)
    }

    /// Appends these matches and gives them their numbers. The file is closed after them, which
    /// is what a watch of the folder notices.
    ///
    /// One that cannot be written is dropped and counted; its number goes to the next.
    pub fn append(&mut self, found: &[MatchRecord]) {
        if found.is_empty() {
            return;
        }
        let file = match open(&self.path) {
            Ok(file) => file,
            Err(source) => {
                self.dropped += found.len() as u64;
                self.fault.get_or_insert(StoreError::io("open", &self.path)(source));
                return;
            }
        };
        for record in found {
            self.append_one(&file, record);
        }
    }

    fn append_one(&mut self, file: &File, record: &MatchRecord) {
        let (lines, bytes) = self.written;
        let Some(line) = line(record, lines + 1).filter(|_| lines < MATCHES_MAX) else {
            self.dropped += 1;
            return;
        };
        match fs::write_at(file, line.as_bytes(), bytes) {
            Ok(()) => self.written = (lines + 1, bytes + line.len() as u64),
            Err(source) => {
                // A part of the line may be there: it must not stand before a later, shorter one.
                let _ = fs::resize(file, bytes);
                self.dropped += 1;
                self.fault.get_or_insert(StoreError::io("write", &self.path)(source));
            }
        }
    }

    /// How many matches could not be recorded.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The first thing that went wrong, if anything did.
    pub fn fault(&self) -> Option<&StoreError> {
        self.fault.as_ref()
    }
}

fn open(path: &Path) -> io::Result<File> {
    match fs::open_to_write(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_new(path),
        opened => opened,
    }
}

fn line(record: &MatchRecord, number: u64) -> Option<String> {
    let mut members = members(record);
    members.insert("seq".to_owned(), Value::from(number));
    slots::seal(&members).map(|line| line + "\n")
}

/// The members of a match on disk.
pub(super) fn members(record: &MatchRecord) -> Map<String, Value> {
    let MatchRecord { number, time, name, stream, offset, end_offset, text } = record;
    Map::from_iter([
        ("seq".to_owned(), Value::from(*number)),
        ("time".to_owned(), Value::from(time.to_string())),
        ("name".to_owned(), Value::from(name.as_str())),
        ("stream".to_owned(), Value::from(stream_name(*stream))),
        ("offset".to_owned(), Value::from(*offset)),
        ("end_offset".to_owned(), Value::from(*end_offset)),
        ("text".to_owned(), Value::from(&text[..text.floor_char_boundary(TEXT_BYTES_MAX)])),
    ])
}

/// The match that these members tell of.
pub(super) fn record(record: Record<'_>) -> Result<MatchRecord, RecordError> {
    Ok(MatchRecord {
        number: record.number("seq")?,
        time: record.time("time")?,
        name: record.text("name")?.to_owned(),
        stream: stream(record.text("stream")?)
            .ok_or_else(|| wrong("stream", "is neither stdout nor stderr"))?,
        offset: record.number("offset")?,
        end_offset: record.number("end_offset")?,
        text: record.text("text")?.to_owned(),
    })
}

/// The record of a line; `None` if the line is not whole.
fn parse(line: &[u8], number: u64) -> Result<Option<MatchRecord>, RecordError> {
    let text = str::from_utf8(line).ok().and_then(|text| text.strip_suffix('\n'));
    let Some(members) = text.and_then(slots::unseal) else { return Ok(None) };
    let found = record(Record(&members))?;
    if found.number != number {
        return Err(wrong("seq", format!("is not {number}, the number of its line")));
    }
    Ok(Some(found))
}

fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

fn stream(name: &str) -> Option<Stream> {
    Stream::BOTH.into_iter().find(|stream| stream_name(*stream) == name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(number: u64, text: &str) -> MatchRecord {
        MatchRecord {
            number,
            time: Time::from_nanos(1_790_000_000_123_456_789),
            name: "ready".to_owned(),
            stream: Stream::BOTH[usize::from(number.is_multiple_of(2))],
            offset: number * 10,
            end_offset: number * 10 + 5,
            text: text.to_owned(),
        }
    }

    fn folder() -> (tempfile::TempDir, JobDir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = JobDir::at(folder.path().to_owned());
        (folder, dir)
    }

    #[test]
    fn a_job_without_matches_has_no_file_and_reads_as_none() {
        let (_folder, dir) = folder();
        MatchWriter::new(&dir).append(&[]);
        assert!(!dir.matches_path().exists());
        assert_eq!(dir.matches(0, 10).unwrap(), []);
    }

    #[test]
    fn matches_are_numbered_and_read_on_from_any_of_them() {
        let (_folder, dir) = folder();
        let all: Vec<_> = (1..=5).map(|number| found(number, "a \"b\"\n\u{1b}")).collect();
        let mut writer = MatchWriter::new(&dir);
        writer.append(&all[..2]);
        writer.append(&all[2..]);
        assert_eq!(dir.matches(0, 10).unwrap(), all);
        assert_eq!(dir.matches(2, 2).unwrap(), all[2..4]);
        assert_eq!(dir.matches(5, 10).unwrap(), []);
        assert_eq!(dir.matches(u64::MAX, 10).unwrap(), []);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let (_folder, dir) = folder();
        MatchWriter::new(&dir).append(&[found(1, &"é".repeat(200)), found(2, &"x€".repeat(99))]);
        let texts: Vec<_> = dir.matches(0, 2).unwrap().into_iter().map(|one| one.text).collect();
        assert_eq!(texts, ["é".repeat(128), "x€".repeat(64)]);
    }

    #[test]
    fn damage_before_a_whole_line_is_told() {
        let (_folder, dir) = folder();
        MatchWriter::new(&dir).append(&[found(1, "a"), found(2, "b")]);
        let bytes = std::fs::read_to_string(dir.matches_path()).unwrap();
        std::fs::write(dir.matches_path(), bytes.replace("\"a\"", "\"c\"")).unwrap();
        let told = dir.matches(0, 2).unwrap_err().to_string();
        assert!(told.ends_with("line 1 is damaged"), "{told}");
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_later_matches_are_kept() {
        let (folder, dir) = folder();
        let mut writer = MatchWriter::new(&dir);
        writer.append(&[found(1, "a")]);
        // A full device in the place of the file stands for a full disk.
        let full = File::options().write(true).open("/dev/full").unwrap();
        writer.append_one(&full, &found(2, "lost"));
        assert!(writer.fault().unwrap().is_disk_full());
        // A folder that is away stands for a file that cannot be opened.
        let away = folder.path().with_extension("away");
        std::fs::rename(folder.path(), &away).unwrap();
        writer.append(&[found(2, "lost"), found(3, "lost")]);
        std::fs::rename(&away, folder.path()).unwrap();
        writer.append(&[found(2, "b")]);
        assert_eq!(writer.dropped(), 3);
        assert_eq!(dir.matches(0, 10).unwrap(), [found(1, "a"), found(2, "b")]);
    }

    #[test]
    fn no_more_than_the_bound_is_written_and_all_of_that_is_read() {
        let (_folder, dir) = folder();
        let mut writer = MatchWriter::new(&dir);
        let largest: Vec<_> =
            (1..=MATCHES_MAX + 1).map(|number| found(number, &"\0".repeat(300))).collect();
        writer.append(&largest);
        assert_eq!(writer.dropped(), 1);
        assert_eq!(dir.matches(0, usize::MAX).unwrap().len() as u64, MATCHES_MAX);
    }

    proptest! {
        #[test]
        fn a_torn_last_line_does_not_count(cut in 0..200_usize) {
            let (_folder, dir) = folder();
            let all = [found(1, "one"), found(2, "two")];
            MatchWriter::new(&dir).append(&all);
            let bytes = std::fs::read(dir.matches_path()).unwrap();
            let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            let end = (first + cut).min(bytes.len());
            std::fs::write(dir.matches_path(), &bytes[..end]).unwrap();
            let left = if end == bytes.len() { &all[..] } else { &all[..1] };
            prop_assert_eq!(dir.matches(0, 10).unwrap(), left);
        }
    }
}
