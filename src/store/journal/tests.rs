//! What the journal promises: nothing told is lost, repeated or taken for something else.

use std::path::Path;

use super::{record::tests::job, *};
use crate::job::{Job, StateKind};
use crate::store::slots;

const LIMITS: JournalLimits =
    JournalLimits { bytes_max: 1 << 30, events_max: 1 << 30, age_max: None };

fn told(revision: u64) -> Told {
    Told {
        revision,
        kind: StateKind::Running,
        facts: 1,
        attempt: 1,
        logged: [revision, 0],
        matches: 0,
    }
}

fn event(kind: EventKind, job: &Arc<Job>) -> JobEvent {
    JobEvent {
        sequence: 0,
        kind,
        time: Time::from_nanos(5),
        previous: None,
        id: job.id(),
        revision: job.revision,
        job: Some(Arc::clone(job)),
        outline: None,
        output: None,
        matched: None,
    }
}

fn fill(journal: &mut Journal, job: &Arc<Job>, count: u64) {
    for _ in 0..count {
        let told = told(journal.head());
        journal.append(event(EventKind::Updated, job), Some(told)).unwrap();
    }
}

fn sequences(journal: &Journal, after: u64) -> Vec<u64> {
    let (mut reader, head) = (journal.reader(), journal.head());
    let mut all = Vec::new();
    loop {
        let position = all.last().copied().unwrap_or(after);
        let events = reader.read(position, head, 7).unwrap().unwrap();
        if events.is_empty() {
            return all;
        }
        all.extend(events.iter().map(|event| event.sequence));
    }
}

fn newest_file(root: &Path) -> std::path::PathBuf {
    let names = dir::names(&root.join("journal")).unwrap();
    let newest = names.into_iter().filter(|name| segment::first_of(name).is_some()).max();
    root.join("journal").join(newest.unwrap())
}

#[test]
fn every_event_is_read_back_in_order_from_any_position_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let job = Arc::new(job("true"));
    let mut epoch = String::new();
    for round in 0..4 {
        let store = Store::open(folder.path()).unwrap();
        // Small segments, so that there are many.
        let limits = JournalLimits { events_max: 160, ..LIMITS };
        let opened = Journal::open(&store, limits).unwrap();
        let mut journal = opened.journal;
        assert_eq!(opened.is_new_epoch, round == 0);
        if round == 0 {
            epoch = journal.epoch().to_owned();
        }
        assert_eq!(journal.epoch(), epoch);
        assert_eq!(journal.head(), round * 33);
        assert_eq!(journal.told(job.id()), (round > 0).then(|| told(round * 33 - 1)));
        fill(&mut journal, &job, 33);
        for after in [0, 1, 9, 10, 11, 32] {
            let expected: Vec<u64> = (after + 1..=journal.head()).collect();
            assert_eq!(sequences(&journal, after), expected);
        }
        assert!(journal.shared.lock().len() > 2);
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_its_sequence_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let job = Arc::new(job("true"));
    for cut in [1, 20, 400] {
        let head = {
            let store = Store::open(folder.path()).unwrap();
            let mut journal = Journal::open(&store, LIMITS).unwrap().journal;
            fill(&mut journal, &job, 2);
            journal.head()
        };
        let file = newest_file(folder.path());
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - cut]).unwrap();
        let store = Store::open(folder.path()).unwrap();
        let opened = Journal::open(&store, LIMITS).unwrap();
        let mut journal = opened.journal;
        assert!(!opened.is_new_epoch);
        assert_eq!(journal.head(), head - 1);
        fill(&mut journal, &job, 1);
        assert_eq!(sequences(&journal, 0), (1..=head).collect::<Vec<_>>());
    }
}

#[test]
fn damage_before_told_events_begins_a_new_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let job = Arc::new(job("true"));
    let epoch = {
        let store = Store::open(folder.path()).unwrap();
        let mut journal = Journal::open(&store, LIMITS).unwrap().journal;
        fill(&mut journal, &job, 5);
        journal.epoch().to_owned()
    };
    let file = newest_file(folder.path());
    let mut bytes = std::fs::read(&file).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let store = Store::open(folder.path()).unwrap();
    let opened = Journal::open(&store, LIMITS).unwrap();
    assert!(opened.is_new_epoch);
    assert_ne!(opened.journal.epoch(), epoch);
    assert_eq!(opened.journal.head(), EPOCH_STEP - 1);
}

#[test]
fn a_segment_that_was_only_begun_is_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let job = Arc::new(job("true"));
    {
        let store = Store::open(folder.path()).unwrap();
        fill(&mut Journal::open(&store, LIMITS).unwrap().journal, &job, 3);
    }
    let begun = segment::path(&folder.path().join("journal"), 4);
    std::fs::write(begun, b"{\"version\":1,\"ep").unwrap();
    let store = Store::open(folder.path()).unwrap();
    let opened = Journal::open(&store, LIMITS).unwrap();
    assert_eq!((opened.is_new_epoch, opened.journal.head()), (false, 3));
}

/// Makes the newest segment one of an earlier boot.
fn reboot(root: &Path) {
    let file = newest_file(root);
    let text = std::fs::read_to_string(&file).unwrap();
    let (header, rest) = text.split_once('\n').unwrap();
    let boot_id = clock::boot_id().unwrap();
    let mut header = header.replace(boot_id, "another-boot-of-the-host-0123456789a");
    header.truncate(header.rfind(",\"crc\"").unwrap());
    header.push('}');
    slots::seal_text(&mut header);
    std::fs::write(file, format!("{header}\n{rest}")).unwrap();
}

#[test]
fn after_a_boot_a_service_that_is_killed_loses_no_history() {
    for events in [0, 3] {
        let folder = tempfile::tempdir().unwrap();
        let job = Arc::new(job("true"));
        let open = || Journal::open(&Store::open(folder.path()).unwrap(), LIMITS).unwrap();
        let mut journal = open().journal;
        fill(&mut journal, &job, events);
        journal.close().unwrap();
        let epoch = journal.epoch().to_owned();
        drop(journal);
        reboot(folder.path());
        // It is not closed: that is what a kill leaves.
        fill(&mut open().journal, &job, 2);
        let opened = open();
        assert_eq!((opened.is_new_epoch, opened.journal.epoch()), (false, epoch.as_str()));
        let expected: Vec<u64> = (1..=events + 2).collect();
        assert_eq!(sequences(&opened.journal, 0), expected);
    }
}

#[test]
fn after_a_boot_history_counts_only_if_the_journal_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let job = Arc::new(job("true"));
    let open = || {
        let store = Store::open(folder.path()).unwrap();
        let opened = Journal::open(&store, LIMITS).unwrap();
        (opened, store)
    };
    let epoch = {
        let (mut opened, _store) = open();
        fill(&mut opened.journal, &job, 3);
        opened.journal.close().unwrap();
        opened.journal.epoch().to_owned()
    };
    reboot(folder.path());
    {
        let (mut opened, _store) = open();
        assert_eq!((opened.is_new_epoch, opened.journal.epoch()), (false, epoch.as_str()));
        fill(&mut opened.journal, &job, 1);
    }
    reboot(folder.path());
    let (opened, _store) = open();
    assert!(opened.is_new_epoch);
    assert_ne!(opened.journal.epoch(), epoch);
    // Nobody has ever been told such a sequence.
    assert_eq!(opened.journal.head(), EPOCH_STEP - 1);
    assert_eq!(opened.journal.oldest(), EPOCH_STEP - 1);
}

#[test]
fn history_is_kept_by_events_by_bytes_and_by_age() {
    let job = Arc::new(job("true"));
    let limits = [
        JournalLimits { events_max: 160, ..LIMITS },
        JournalLimits { bytes_max: 16 * SEGMENT_BYTES_MIN, ..LIMITS },
    ];
    for limits in limits {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut journal = Journal::open(&store, limits).unwrap().journal;
        fill(&mut journal, &job, 1000);
        let bytes: u64 = journal.shared.lock().iter().map(|segment| segment.bytes).sum();
        assert!(bytes <= limits.bytes_max + 2 * SEGMENT_BYTES_MIN);
        let kept = journal.head() - journal.oldest();
        assert!(kept <= limits.events_max + limits.events_max / SEGMENTS_OF_HISTORY);
        assert!(kept >= 100);
        let gone = journal.reader().read(0, journal.head(), 1).unwrap();
        assert_eq!(gone.unwrap_err(), HistoryGone { oldest: journal.oldest() });
        assert_eq!(sequences(&journal, journal.oldest()).len() as u64, kept);
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let age_max = Some(Duration::from_mins(1));
    let limits = JournalLimits { events_max: 160, age_max, ..LIMITS };
    let mut journal = Journal::open(&store, limits).unwrap().journal;
    fill(&mut journal, &job, 25);
    journal.trim(Time::from(clock::now()));
    assert_eq!(journal.oldest(), 0);
    journal.trim(Time::from(clock::now()).after(Duration::from_secs(61)));
    assert_eq!(journal.oldest(), 20);
}

#[test]
fn a_reader_that_history_has_overtaken_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let job = Arc::new(job("true"));
    let store = Store::open(folder.path()).unwrap();
    let limits = JournalLimits { events_max: 160, ..LIMITS };
    let mut journal = Journal::open(&store, limits).unwrap().journal;
    fill(&mut journal, &job, 10);
    let mut reader = journal.reader();
    assert_eq!(reader.read(0, journal.head(), 4).unwrap().unwrap().len(), 4);
    fill(&mut journal, &job, 1000);
    // What it has open it reads to the end; then it hears that what follows is gone.
    let head = journal.head();
    let rest = reader.read(4, head, 100).unwrap().unwrap();
    let position = 4 + rest.len() as u64;
    assert_eq!(position, 10);
    let gone = reader.read(position, head, 100).unwrap();
    assert_eq!(gone.unwrap_err(), HistoryGone { oldest: journal.oldest() });
}

#[test]
fn a_segment_that_cannot_be_understood_ends_the_epoch() {
    for damage in ["\"version\":2", "\"version\":x"] {
        let folder = tempfile::tempdir().unwrap();
        let job = Arc::new(job("true"));
        {
            let store = Store::open(folder.path()).unwrap();
            let limits = JournalLimits { events_max: 160, ..LIMITS };
            fill(&mut Journal::open(&store, limits).unwrap().journal, &job, 15);
        }
        let file = newest_file(folder.path());
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, text.replacen("\"version\":1", damage, 1)).unwrap();
        let store = Store::open(folder.path()).unwrap();
        let opened = Journal::open(&store, LIMITS).unwrap();
        assert_eq!((opened.is_new_epoch, opened.journal.head()), (true, EPOCH_STEP - 1));
    }
}

#[test]
fn what_was_told_of_active_jobs_outlives_the_segments_that_told_it() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Arc::new(job("old")), Arc::new(job("new")));
    // Two ids: the second job is the first with another id.
    let mut accepted = (*new.accepted).clone();
    accepted.id = JobId::first_of(Time::from_millis(1_790_000_009_999));
    let new = Arc::new(Job { accepted: Arc::new(accepted), ..(*new).clone() });
    let limits = JournalLimits { events_max: 160, ..LIMITS };
    {
        let store = Store::open(folder.path()).unwrap();
        let mut journal = Journal::open(&store, limits).unwrap().journal;
        journal.append(event(EventKind::Created, &old), Some(told(7))).unwrap();
        fill(&mut journal, &new, 1000);
        journal.append(event(EventKind::Ended, &new), None).unwrap();
        assert!(journal.oldest() > 0);
    }
    let store = Store::open(folder.path()).unwrap();
    let opened = Journal::open(&store, limits).unwrap();
    assert_eq!(opened.journal.told(old.id()), Some(told(7)));
    assert_eq!(opened.journal.told(new.id()), None);
    let sequence = opened.journal.head();
    let gone = Gone { sequence, revision: new.revision, is_deleted: false };
    assert_eq!(opened.gone.get(&new.id()), Some(&gone));
}

#[test]
fn a_file_with_a_sequence_that_no_store_has_reached_is_no_segment() {
    let folder = tempfile::tempdir().unwrap();
    let job = Arc::new(job("true"));
    let open = || Journal::open(&Store::open(folder.path()).unwrap(), LIMITS).unwrap();
    fill(&mut open().journal, &job, 2);
    for first in [0, u64::MAX - 1, u64::MAX] {
        let path = segment::path(&folder.path().join("journal"), first);
        std::fs::write(&path, "{}\n").unwrap();
        let opened = open();
        assert_eq!((opened.is_new_epoch, opened.journal.head()), (false, 2));
        assert_eq!(opened.journal.oldest(), 0);
        assert!(path.exists());
    }
}
