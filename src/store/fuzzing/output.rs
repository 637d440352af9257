//! Fuzz targets of output: the index, the record of holes, the logs, the matches.

use std::{fs, io::Write as _};

use super::{damaged, objects};
use crate::{
    job::{
        OutputSize, Time,
        fuzzing::{number_of, parts},
    },
    store::{
        JobDir, LogReader, MATCHES_MAX, MatchWriter, Piece, Stream,
        index::{IndexFile, IndexRecord, RECORD_BYTES},
        layout, slots,
    },
};

/// Pieces that are read of one input: an index may tell of more than anybody waits for.
const PIECES_MAX: usize = 500;
/// Bytes of the record of a hole.
const CUT_BYTES: usize = 32;

/// The records of an input with their checks put right.
fn sealed_records(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let (records, _) = bytes.as_chunks_mut::<RECORD_BYTES>();
    for record in records.iter_mut().filter(|record| **record != [0; RECORD_BYTES]) {
        let crc = crc32fast::hash(&record[..30]).to_le_bytes();
        record[30..].copy_from_slice(&crc[..2]);
    }
    bytes
}

/// The records of holes of an input with their checks put right.
fn sealed_cuts(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let (cuts, _) = bytes.as_chunks_mut::<CUT_BYTES>();
    for cut in cuts.iter_mut().filter(|cut| **cut != [0; CUT_BYTES]) {
        let crc = crc32fast::hash(&cut[..CUT_BYTES - 4]).to_le_bytes();
        cut[CUT_BYTES - 4..].copy_from_slice(&crc);
    }
    bytes
}

/// A record survives; every record of a file is read once, in order, and bisection stays in it.
pub(crate) fn output_index(data: &[u8]) {
    let bytes = sealed_records(data);
    let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
    for bytes in records {
        let Some(record) = IndexRecord::decode(bytes) else { continue };
        assert_eq!(IndexRecord::decode(&record.encode()), Some(record));
        assert!(record.sizes_before()[record.stream.place()] <= record.end());
    }
    for bytes in [data, &bytes] {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("an index");
        let index = IndexFile::new(file);
        let count = index.count().expect("a size");
        let (mut number, mut read) = (0, 0);
        loop {
            let (records, after) = index.read(number, 7).expect("records");
            assert!(after >= number + records.len() as u64 && after <= count);
            read += records.len() as u64;
            number = after;
            if records.is_empty() {
                break;
            }
        }
        assert!(read <= count);
        for offset in [0, 1, 500, 1 << 40, u64::MAX] {
            assert!(index.bisect(|record| record.end() > offset).expect("a place") <= count);
            let time = Time::from_nanos(offset);
            assert!(index.bisect(|record| record.time >= time).expect("a place") <= count);
        }
    }
}

/// What is counted as taken out is never less than nothing.
pub(crate) fn output_cut(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = JobDir::at(folder.path().to_owned());
    for bytes in [data, &sealed_cuts(data)] {
        fs::write(dir.cut_path(), bytes).expect("a record of holes");
        if let Ok(counts) = dir.cut_bytes() {
            let ends = bytes.as_chunks::<CUT_BYTES>().0.iter().map(|cut| {
                let (_, end) = cut.split_at(8);
                end.first_chunk().copied().map_or(0, u64::from_le_bytes)
            });
            for (count, end) in counts.into_iter().zip(ends) {
                assert!(count <= end);
            }
        }
    }
}

/// Whatever stands in index and logs, pieces follow each other, keep their size and come to an
/// end, and bytes are those of the log.
pub(crate) fn log_reader(data: &[u8]) {
    let [control, index, cut, stdout, stderr] = parts(data);
    let folder = tempfile::tempdir().expect("a folder");
    let dir = JobDir::at(folder.path().to_owned());
    let cut = sealed_cuts(cut);
    let files = [
        (layout::INDEX, &sealed_records(index)[..]),
        (layout::CUT, &cut),
        (layout::STDOUT, stdout),
        (layout::STDERR, stderr),
    ];
    for (name, bytes) in files.into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
        fs::write(dir.file(name), bytes).expect("a file of output");
    }
    let byte = |at: usize| control.get(at).copied().map_or(0, u64::from);
    let wanted = [byte(0) & 1 == 0, byte(0) & 2 == 0];
    let bytes_max = usize::try_from(byte(1)).unwrap_or_default() * 37 + 1;
    let starts = [byte(2), byte(3)].map(|start| match start {
        254 => u64::MAX - 1000,
        255 => u64::MAX,
        near => near,
    });
    let Ok(mut reader) = LogReader::open(&dir, wanted, starts) else { return };
    let mut at = starts;
    for _ in 0..PIECES_MAX {
        let Ok(Some(piece)) = reader.next(bytes_max) else { break };
        follow(&piece, &mut at, bytes_max, [stdout, stderr]);
        assert_eq!(reader.offsets(), at);
    }
    for stream in Stream::BOTH {
        let size = byte(4) * 100;
        for lines in [0, 1, byte(5), u64::MAX] {
            let _ = reader.offset_of_last_lines(stream, size, lines);
        }
    }
    let _ = (reader.sizes(), reader.offsets_at(Time::from_nanos(byte(6))), dir.cut_bytes());
    let ended = [byte(6) * 100, u64::MAX];
    let ended = ended.map(|size_bytes| OutputSize { size_bytes, dropped_bytes: 0 });
    for _ in 0..PIECES_MAX {
        let Ok(Some(piece)) = reader.rest(ended, Time::from_nanos(1)) else { break };
        follow(&piece, &mut at, usize::MAX, [stdout, stderr]);
    }
}

/// Holds that a piece goes on where its stream was, and moves it on.
fn follow(piece: &Piece, at: &mut [u64; 2], bytes_max: usize, logs: [&[u8]; 2]) {
    match piece {
        Piece::Data { stream, offset, bytes, .. } => {
            let place = stream.place();
            assert_eq!(*offset, at[place]);
            assert!(!bytes.is_empty() && bytes.len() <= bytes_max);
            let from = usize::try_from(*offset).expect("bytes are in the log");
            assert_eq!(logs[place].get(from..from + bytes.len()), Some(&bytes[..]));
            at[place] = offset + bytes.len() as u64;
        }
        Piece::Gap { stream, from, to, .. } => {
            assert_eq!(*from, at[stream.place()]);
            assert!(to > from);
            at[stream.place()] = *to;
        }
    }
}

/// Matches survive their file; with one byte changed it is refused or ends earlier.
pub(crate) fn matches(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = JobDir::at(folder.path().to_owned());
    fs::write(dir.matches_path(), data).expect("a file of matches");
    let _ = dir.matches(0, usize::MAX);
    let lines = objects(data).into_iter().filter_map(|members| slots::seal(&members));
    let text: String = lines.map(|line| line + "\n").collect();
    fs::write(dir.matches_path(), &text).expect("a file of matches");
    let Ok(found) = dir.matches(0, usize::MAX) else { return };
    for (number, record) in (1..).zip(&found) {
        assert_eq!(record.number, number);
    }
    let middle = found.len() as u64 / 2;
    assert!(dir.matches(middle, 2).is_ok_and(|some| found[found.len() / 2..].starts_with(&some)));
    if !text.is_empty() {
        let bytes = damaged(text.as_bytes(), number_of(data));
        fs::write(dir.matches_path(), bytes).expect("a damaged file");
        if let Ok(left) = dir.matches(0, usize::MAX) {
            assert!(left.len() < found.len() && found.starts_with(&left));
        }
    }
    fs::remove_file(dir.matches_path()).expect("the file goes away");
    let mut writer = MatchWriter::new(&dir);
    writer.append(&found);
    let again = dir.matches(0, usize::MAX).expect("what was written is readable");
    assert_eq!(again.len() as u64, (found.len() as u64).min(MATCHES_MAX));
    for (again, record) in again.iter().zip(&found) {
        assert!(record.text.starts_with(&again.text));
        assert_eq!((again.offset, again.end_offset), (record.offset, record.end_offset));
    }
}
