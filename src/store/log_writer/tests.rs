//! What is written, what is counted, and what is taken up again.

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
        .0
        .iter()
        .map(|record| (record.offset, record.end(), record.loss))
        .collect();
    assert_eq!(told, [(0, 4, None), (4, 8, Some(Loss::DiskFull)), (8, 13, None)]);
}

#[test]
fn a_limit_keeps_the_head_of_each_stream_and_tells_of_the_rest_once_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let dir = JobDir::at(folder.path().to_owned());
    let mut log = LogWriter::new(&dir).with_limit(10);
    for number in 0..300 {
        log.append(Stream::Stdout, b"1234567", Time::from_millis(1_000 + number * 10));
    }
    log.append(Stream::Stderr, b"0123456789", Time::from_millis(4_000));
    log.finish();

    let out = OutputSize { size_bytes: 2_100, dropped_bytes: 2_090 };
    assert_eq!(log.size(Stream::Stdout), out);
    assert_eq!(log.size(Stream::Stderr), OutputSize { size_bytes: 10, dropped_bytes: 0 });
    let beyond = Stream::BOTH.map(|stream| log.is_beyond_limit(stream));
    assert_eq!((beyond, log.fault().is_none()), ([true, false], true));
    assert_eq!(std::fs::read(dir.stdout_path()).unwrap(), b"1234567123");
    assert_eq!(std::fs::read(dir.stderr_path()).unwrap(), b"0123456789");
    let index = IndexFile::new(File::open(dir.index_path()).unwrap());
    let (records, _) = index.read(0, 100).unwrap();
    let lost: Vec<_> = records.iter().filter(|record| record.loss.is_some()).collect();
    assert_eq!(lost.len(), 4, "the first at once, one a second, one at the end");
    assert!(lost.iter().all(|record| record.loss == Some(Loss::OutputLimit)));
    assert_eq!((lost[0].offset, lost[3].end()), (10, 2_100));
    assert!(lost.windows(2).all(|pair| pair[0].end() == pair[1].offset));
    let sizes: Vec<_> = records.iter().map(IndexRecord::sizes).collect();
    assert!(sizes.windows(2).all(|pair| (0..2).all(|at| pair[0][at] <= pair[1][at])));
}
