//! What is kept is right, what is not is told, and nothing is taken for what it is not.

use std::{
    os::unix::fs::MetadataExt as _,
    sync::atomic::{AtomicBool, Ordering},
};

use proptest::prelude::*;

use super::*;
use crate::{
    job::{OutputSize, Time},
    store::{GapReason, LogReader, LogWriter, Piece, index::Loss},
};

/// The byte that belongs at an offset; never what a hole reads as.
fn byte_at(stream: Stream, offset: u64) -> u8 {
    let salt = if stream == Stream::Stdout { 0 } else { 101 };
    u8::try_from((offset / 7 + offset + salt) % 251).unwrap() + 1
}

fn run(stream: Stream, from: u64, length: u64) -> Vec<u8> {
    (from..from + length).map(|offset| byte_at(stream, offset)).collect()
}

/// Takes a piece that a reader told; checks it, and that it begins where the last one ended.
fn take(piece: &Piece, at: &mut [u64; 2], gaps: &mut u64) {
    match piece {
        Piece::Data { stream, offset, bytes, .. } => {
            assert_eq!(*offset, at[stream.place()]);
            assert_eq!(*bytes, run(*stream, *offset, bytes.len() as u64));
            at[stream.place()] += bytes.len() as u64;
        }
        Piece::Gap { stream, from, to, reason } => {
            assert_eq!(*reason, GapReason::Dropped(Loss::OutputLimit));
            assert_eq!(*from, at[stream.place()]);
            assert!(to > from);
            *gaps += to - from;
            at[stream.place()] = *to;
        }
    }
}

fn room_on_disk(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_kept_is_right_and_the_rest_is_one_gap(
        limit in 1..40_000_u64,
        runs in proptest::collection::vec((any::<bool>(), 1..9000_u64), 1..60),
        starts in any::<[u16; 2]>(),
        piece_max in 1..9000_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let dir = JobDir::at(folder.path().to_owned());
        let mut log = LogWriter::new(&dir).with_kept_tail(&dir, limit);
        let mut sizes = [0, 0];
        for (number, (is_error, length)) in (0..).zip(runs) {
            let stream = Stream::BOTH[usize::from(is_error)];
            let size = &mut sizes[stream.place()];
            log.append(stream, &run(stream, *size, length), Time::from_millis(number));
            *size += length;
        }
        log.finish();
        let dropped = Stream::BOTH.map(|stream| log.size(stream).dropped_bytes);
        prop_assert_eq!(dir.cut_bytes().unwrap(), dropped);
        for (place, size) in sizes.into_iter().enumerate() {
            prop_assert!(size - dropped[place] <= limit);
            let least = limit - (limit - limit / 2) / STEPS_OF_TAIL;
            prop_assert!(size - dropped[place] >= least.min(size));
        }

        let starts = [0, 1].map(|place| u64::from(starts[place]) % (sizes[place] + 1));
        let mut reader = LogReader::open(&dir, [true, true], starts).unwrap();
        let (mut at, mut gaps) = (starts, 0);
        while let Some(piece) = reader.next(piece_max).unwrap() {
            take(&piece, &mut at, &mut gaps);
        }
        let ended = sizes.map(|size_bytes| OutputSize { size_bytes, dropped_bytes: 0 });
        while let Some(piece) = reader.rest(ended, Time::from_nanos(0)).unwrap() {
            take(&piece, &mut at, &mut gaps);
        }
        prop_assert_eq!(at, sizes);
        if starts == [0, 0] {
            prop_assert_eq!(gaps, dropped[0] + dropped[1]);
        }
    }
}

#[test]
fn a_reader_beside_the_writer_never_takes_a_hole_for_bytes() {
    const LIMIT: u64 = 96 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let dir = JobDir::at(folder.path().to_owned());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = LogWriter::new(&dir).with_kept_tail(&dir, LIMIT);
            let mut size = 0;
            for number in 0..4000_u64 {
                let length = 1 + number * 37 % 5000;
                log.append(
                    Stream::Stdout,
                    &run(Stream::Stdout, size, length),
                    Time::from_millis(number),
                );
                size += length;
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let mut rounds = 0;
        while !is_over.load(Ordering::Relaxed) || rounds == 0 {
            rounds += 1;
            let mut reader = LogReader::open(&dir, [true, true], [0, 0]).unwrap();
            let (mut at, mut gaps) = ([0, 0], 0);
            while let Some(piece) = reader.next(10_000).unwrap() {
                take(&piece, &mut at, &mut gaps);
            }
        }
    });
}

#[test]
fn the_room_on_disk_does_not_grow_with_the_output() {
    const LIMIT: u64 = 64 * 1024;
    let folder = tempfile::tempdir().unwrap();
    if !can_make_holes(folder.path()).unwrap() {
        eprintln!("not checked: the file system of {:?} cannot make holes", folder.path());
        return;
    }
    let dir = JobDir::at(folder.path().to_owned());
    let mut log = LogWriter::new(&dir).with_kept_tail(&dir, LIMIT);
    log.append(Stream::Stderr, &run(Stream::Stderr, 0, 50), Time::from_millis(0));
    let mut size = 0;
    for number in 0..60_000 {
        log.append(Stream::Stdout, &run(Stream::Stdout, size, 100), Time::from_millis(number));
        size += 100;
        if number % 5000 == 0 {
            assert!(room_on_disk(&dir.stdout_path()) <= LIMIT + 3 * 4096);
        }
    }
    assert!(room_on_disk(&dir.stdout_path()) <= LIMIT + 3 * 4096);
    // 60,000 records of 32 bytes; those of 64 KiB in runs of 100 bytes take 20 KiB.
    let index = room_on_disk(&dir.index_path());
    assert!(index <= 64 * 1024, "{index}");
    let mut reader = LogReader::open(&dir, [true, true], [size - 150, 0]).unwrap();
    let (mut at, mut gaps) = ([size - 150, 0], 0);
    while let Some(piece) = reader.next(1000).unwrap() {
        take(&piece, &mut at, &mut gaps);
    }
    assert_eq!(at, [size, 50]);
    let late = Time::from_millis(59_990);
    assert_eq!(reader.offsets_at(late).unwrap(), [size - 1000, 50]);
}

#[test]
fn a_torn_record_of_a_hole_does_not_count() {
    let cut = Cut { head_end: 5, tail_start: 1 << 40 };
    let mut bytes = cut.encode();
    assert_eq!(Cut::decode(&bytes), Some(cut));
    for place in 0..CUT_BYTES {
        bytes[place] ^= 1;
        assert_eq!(Cut::decode(&bytes), None);
        bytes[place] ^= 1;
    }
}

#[test]
fn a_hole_that_ends_before_it_begins_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let dir = JobDir::at(folder.path().to_owned());
    std::fs::write(dir.cut_path(), Cut { head_end: 9, tail_start: 8 }.encode()).unwrap();
    assert!(matches!(dir.cut_bytes(), Err(StoreError::Corrupt { .. })));
}
