//! What is told, when, and once.

use super::*;
use crate::{
    catalog::tests::{job_of, journal},
    job::{Claim, ExitStatus, ProcessIdentity, Running, Started, State, StopCause},
};

#[test]
fn a_reader_gets_every_event_after_its_position_or_is_sent_to_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let events = Events::new(journal(folder.path()));
    let count = EVENTS_MAX as u64 + 10;
    for millis in 0..count {
        events.tell(&job_of(millis + 1), &[]);
    }
    assert_eq!(events.after(0, 5).unwrap_err(), NotKept);
    let sequences = |position| {
        let events = events.after(position, 3).unwrap();
        events.iter().map(|event| event.sequence).collect::<Vec<_>>()
    };
    let head = *events.head().borrow();
    assert_eq!(head, count);
    let first = events.lock().ring.front().unwrap().sequence;
    assert_eq!(sequences(first - 1), [first, first + 1, first + 2]);
    assert_eq!(sequences(head - 1), [head]);
    assert!(sequences(head).is_empty());
    let stored = events.reader().read(0, head, 3).unwrap().unwrap();
    assert_eq!(stored[2].sequence, 3);
    assert_eq!(stored[2].job.as_deref(), Some(&*job_of(3)));
}

#[test]
fn a_job_is_told_once_whatever_is_seen_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let events = Events::new(journal(folder.path()));
    let job = job_of(1);
    events.tell(&job, &[]);
    events.tell(&job, &[]);
    let mut labelled = Job::clone(&job);
    labelled.labels.insert("a".to_owned(), "b".to_owned());
    labelled.revision = 2;
    events.tell(&Arc::new(labelled), &[]);
    events.tell(&job, &[]);
    let kinds: Vec<_> = events.after(0, 9).unwrap().iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Created, EventKind::Updated]);
}

#[test]
fn a_stop_is_told_of_a_job_whose_process_had_ended_when_its_start_was_seen() {
    let folder = tempfile::tempdir().unwrap();
    let events = Events::new(journal(folder.path()));
    let time = Time::from_nanos(5);
    let process = ProcessIdentity { pid: 7, start_ticks: 9, boot_id: "b".to_owned() };
    let claim = Claim { attempt: 1, supervisor: process.clone(), time, announces: true };
    let started = Started { process, time, cgroup: None };
    let running = Running { claim, started, stop: Some(StopCause::Cancel) };
    let state = State::Exited { running, exit: ExitStatus::Code(0), time };
    let job = Arc::new(Job { state, revision: 5, ..Job::clone(&job_of(1)) });
    events.tell(&job, &[]);
    events.tell(&job, &[]);
    let kinds: Vec<_> = events.after(0, 9).unwrap().iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Created, EventKind::Started, EventKind::Updated]);
}

#[test]
fn output_is_told_from_where_it_was_told_last() {
    let folder = tempfile::tempdir().unwrap();
    let events = Events::new(journal(folder.path()));
    let job = job_of(1);
    events.tell_output(&job, 1, [1, 1]);
    events.tell(&job, &[]);
    events.tell_output(&job, 1, [3, 0]);
    events.tell_output(&job, 1, [3, 0]);
    events.tell_output(&job, 1, [5, 2]);
    let spans: Vec<_> =
        events.after(1, 9).unwrap().iter().filter_map(|event| event.output).collect();
    let span = |from, to| OutputSpan { attempt: 1, from, to };
    assert_eq!(spans, [span([0, 0], [3, 0]), span([3, 0], [5, 2])]);
}

#[test]
fn what_could_not_be_told_is_told_once_there_is_room_and_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let events = Events::new(journal(folder.path()));
    let (first, second, third) = (job_of(1), job_of(2), job_of(3));
    let labelled = |job: &Arc<Job>| {
        let mut labelled = Job::clone(job);
        labelled.labels.insert("a".to_owned(), "b".to_owned());
        labelled.revision += 1;
        Arc::new(labelled)
    };
    let file = events.lock().journal.replace_file(std::fs::File::create("/dev/full").unwrap());
    assert!(!events.tell(&first, &[]));
    assert!(!events.tell(&labelled(&second), &[]));
    assert!(!events.tell(&second, &[]));
    events.tell_removed(&third);
    assert_eq!(*events.head().borrow(), 0, "nobody is told what is not written");
    events.lock().journal.replace_file(file);
    // One comes with its next change, the others when nothing else is to be done.
    assert!(events.tell(&labelled(&first), &[]));
    events.tell_removed(&first);
    assert_eq!(events.tend(), [third.id()]);
    assert_eq!(events.tend(), []);
    let told = events.after(0, 20).unwrap();
    let told: Vec<_> = told.iter().map(|event| (event.id, event.kind)).collect();
    let expected = [
        (first.id(), EventKind::Created),
        (first.id(), EventKind::Updated),
        (first.id(), EventKind::Deleted),
        (second.id(), EventKind::Created),
        (second.id(), EventKind::Updated),
        (third.id(), EventKind::Deleted),
    ];
    assert_eq!(told, expected);
}

/// Follows the events from the beginning as a watcher does: from memory, or from the files.
fn follow(events: &Events, last: u64, pause: std::time::Duration) -> Vec<u64> {
    let mut head = events.head();
    let (mut reader, mut read, mut known) = (events.reader(), Vec::new(), 0);
    let begin = std::time::Instant::now();
    while read.last().is_none_or(|sequence| *sequence < last) {
        assert!(begin.elapsed().as_secs() < 60, "{} of {last} events came", read.len());
        let position = read.last().copied().unwrap_or(0);
        let newest = *head.borrow_and_update();
        assert!(newest >= known, "the head went back from {known} to {newest}");
        known = newest;
        if position >= newest {
            std::thread::yield_now();
            continue;
        }
        if let Ok(events) = events.after(position, 7) {
            assert!(!events.is_empty(), "nothing comes after {position}, and {newest} is told");
            read.extend(events.iter().map(|event| event.sequence));
        } else {
            let stored = reader.read(position, newest, 7).unwrap().unwrap();
            read.extend(stored.iter().map(|event| event.sequence));
        }
        std::thread::sleep(pause);
    }
    read
}

#[test]
fn every_follower_gets_each_event_once_while_many_tell_and_memory_is_short() {
    const WRITERS: u64 = 4;
    const JOBS: u64 = 150;
    let folder = tempfile::tempdir().unwrap();
    let events = Events::new(journal(folder.path()));
    let last = WRITERS * JOBS * 2;
    std::thread::scope(|scope| {
        let events = &events;
        let pauses = [0, 0, 300].map(std::time::Duration::from_micros);
        let followers = pauses.map(|pause| scope.spawn(move || follow(events, last, pause)));
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for job in 0..JOBS {
                    let job = job_of(1 + writer + job * WRITERS);
                    events.tell(&job, &[]);
                    events.tell_removed(&job);
                    // What a full memory does, long before it is full.
                    let mut inner = events.lock();
                    while inner.ring.len() > 20 {
                        inner.ring.pop_front();
                    }
                }
            });
        }
        for follower in followers {
            assert_eq!(follower.join().unwrap(), (1..=last).collect::<Vec<_>>());
        }
    });
    assert_eq!((*events.head().borrow(), events.told_head()), (last, last));
}
