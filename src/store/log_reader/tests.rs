//! Every byte once, from anywhere, and what is missing told.

use proptest::prelude::*;

use super::*;
use crate::store::LogWriter;

fn written(runs: &[(bool, Vec<u8>)]) -> (tempfile::TempDir, JobDir, [Vec<u8>; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let dir = JobDir::at(folder.path().to_owned());
    let mut log = LogWriter::new(&dir);
    let mut whole = [Vec::new(), Vec::new()];
    for (number, (is_error, bytes)) in (0..).zip(runs) {
        let stream = Stream::BOTH[usize::from(*is_error)];
        log.append(stream, bytes, Time::from_millis(number * 3));
        whole[stream.place()].extend(bytes);
    }
    log.finish();
    (folder, dir, whole)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_byte_comes_once_in_order_from_any_offsets(
        runs in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 1..300)), 0..30),
        starts in any::<[u16; 2]>(),
        piece_max in 1..700_usize,
    ) {
        let (_folder, dir, whole) = written(&runs);
        let starts = [0, 1].map(|place| u64::from(starts[place]) % (whole[place].len() as u64 + 1));
        let mut reader = LogReader::open(&dir, [true, true], starts).unwrap();
        let mut got = [Vec::new(), Vec::new()];
        while let Some(piece) = reader.next(piece_max).unwrap() {
            let Piece::Data { stream, offset, bytes, .. } = piece else { panic!("a gap") };
            let place = stream.place();
            prop_assert_eq!(offset, starts[place] + got[place].len() as u64);
            prop_assert!(bytes.len() <= piece_max);
            got[place].extend(bytes);
        }
        for place in 0..2 {
            prop_assert_eq!(&got[place][..], whole[place].split_at(usize::try_from(starts[place]).unwrap()).1);
        }
    }
}

#[test]
fn the_last_lines_are_found_from_the_end() {
    let text = "one\ntwo\nthree\nfour".repeat(20_000);
    let runs: Vec<_> = text.as_bytes().chunks(50_000).map(|run| (false, run.to_vec())).collect();
    let (_folder, dir, _) = written(&runs);
    let mut reader = LogReader::open(&dir, [true, true], [0, 0]).unwrap();
    let size = text.len() as u64;
    for lines in [1, 2, 50, 40_000] {
        let expected: usize = text.split_inclusive('\n').rev().take(lines).map(str::len).sum();
        let at = reader.offset_of_last_lines(Stream::Stdout, size, lines as u64).unwrap();
        assert_eq!(at, size - expected as u64, "{lines}");
    }
    assert_eq!(reader.offset_of_last_lines(Stream::Stdout, size, 0).unwrap(), size);
    assert_eq!(reader.offset_of_last_lines(Stream::Stdout, size, 1 << 40).unwrap(), 0);
}

#[test]
fn what_somebody_cut_off_is_a_gap() {
    let (_folder, dir, _) = written(&[(false, b"0123456789".to_vec())]);
    std::fs::write(dir.stdout_path(), b"01234").unwrap();
    let mut reader = LogReader::open(&dir, [true, true], [0, 0]).unwrap();
    let first = reader.next(100).unwrap().unwrap();
    assert!(matches!(first, Piece::Data { bytes, .. } if bytes == b"01234"));
    let (stream, reason) = (Stream::Stdout, GapReason::Truncated);
    let second = reader.next(100).unwrap().unwrap();
    assert_eq!(second, Piece::Gap { stream, from: 5, to: 10, reason });
    assert_eq!(reader.next(100).unwrap(), None);
}

#[test]
fn offsets_near_the_largest_are_read_like_others() {
    let (_folder, dir, _) = written(&[(false, b"0123".to_vec())]);
    let (stream, time) = (Stream::Stdout, Time::from_nanos(1));
    let record = |offset, length| {
        IndexRecord { time, stream, offset, length, other: 0, loss: None }.encode()
    };
    let records = [record(u64::MAX - 9, 2), record(u64::MAX - 5, 2)].concat();
    std::fs::write(dir.index_path(), records).unwrap();
    let from = u64::MAX - 9;
    // Where a log cannot have bytes is an error; it is no panic.
    let mut reader = LogReader::open(&dir, [true, true], [from, 0]).unwrap();
    assert!(reader.next(100).is_err());
    let sizes = [u64::MAX, 0].map(|size_bytes| OutputSize { size_bytes, dropped_bytes: 0 });
    assert!(reader.rest(sizes, time).is_err());
}

#[test]
fn output_without_an_index_is_told_at_the_end() {
    let (_folder, dir, _) = written(&[(true, b"lost record".to_vec())]);
    std::fs::remove_file(dir.index_path()).unwrap();
    let mut reader = LogReader::open(&dir, [true, true], [0, 0]).unwrap();
    assert_eq!(reader.next(100).unwrap(), None);
    let sizes = [0, 13].map(|size_bytes| OutputSize { size_bytes, dropped_bytes: 0 });
    let piece = reader.rest(sizes, Time::from_nanos(1)).unwrap().unwrap();
    assert!(matches!(piece, Piece::Data { bytes, .. } if bytes == b"lost record"));
    let gap = reader.rest(sizes, Time::from_nanos(1)).unwrap().unwrap();
    assert!(matches!(gap, Piece::Gap { from: 11, to: 13, .. }));
    assert_eq!(reader.rest(sizes, Time::from_nanos(1)).unwrap(), None);
}
