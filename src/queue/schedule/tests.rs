//! The schedule against references that look at all jobs.

use proptest::prelude::*;

use super::*;
use crate::job::Time;

fn queued(millis: u64, priority: i32) -> Queued {
    let id = JobId::first_of(Time::from_millis(millis));
    Queued { id, owner: Arc::from("ada"), priority, expires: None, bytes: 1 }
}

proptest! {
    #[test]
    fn starts_go_by_priority_then_age_and_never_beyond_the_limit(
        jobs in proptest::collection::vec((1..50_u64, -3..3_i32), 0..40),
        running_max in 1..5_usize,
    ) {
        let mut schedule = Schedule::new(QueueLimits::of_all(running_max, 100));
        let mut expected: Vec<Queued> = Vec::new();
        for (millis, priority) in jobs {
            let job = queued(millis, priority);
            if !expected.iter().any(|known| known.id == job.id) {
                expected.push(job.clone());
            }
            schedule.add(job);
        }
        expected.sort_by_key(|job| (Reverse(job.priority), job.id));
        let mut started = Vec::new();
        while schedule.waiting_count() > 0 {
            while let Some(job) = schedule.start_next() {
                started.push(job);
            }
            prop_assert!(schedule.running_count() <= running_max);
            let oldest = started[started.len() - schedule.running_count()].id;
            schedule.remove(oldest);
        }
        prop_assert_eq!(started, expected);
    }
}

#[test]
fn a_full_queue_refuses_and_a_released_place_is_free_again() {
    let mut schedule = Schedule::new(QueueLimits::of_all(1, 1));
    assert_eq!(schedule.reserve("ada"), Ok(()));
    assert_eq!(schedule.reserve("ada"), Ok(()));
    assert_eq!(schedule.reserve("ada"), Err(Full::Queue));
    schedule.release("ada");
    assert_eq!(schedule.reserve("ada"), Ok(()));
}

#[test]
fn large_jobs_fill_the_queue_before_it_has_many() {
    let mut schedule = Schedule::new(QueueLimits::of_all(1, 1000));
    schedule.add(Queued { bytes: QUEUED_BYTES_MAX, ..queued(1, 0) });
    assert_eq!(schedule.reserve("ada"), Err(Full::Queue));
}

#[test]
fn a_job_that_waited_for_too_long_is_taken_out_once() {
    let mut schedule = Schedule::new(QueueLimits::of_all(1, 10));
    let expires = Some(Duration::from_secs(5));
    schedule.add(Queued { expires, ..queued(1, 0) });
    schedule.add(queued(2, 0));
    assert_eq!(schedule.next_expiry(), expires);
    assert_eq!(schedule.expire_next(Duration::from_secs(4)), None);
    let job = schedule.expire_next(Duration::from_secs(5)).map(|job| job.id);
    assert_eq!(job, Some(queued(1, 0).id));
    assert_eq!(schedule.expire_next(Duration::from_secs(9)), None);
    assert_eq!(schedule.start_next(), Some(queued(2, 0)));
}

#[test]
fn a_job_that_waited_for_too_long_and_was_put_off_comes_again_and_never_starts() {
    let mut schedule = Schedule::new(QueueLimits::of_all(1, 10));
    let until = Duration::from_secs(5);
    schedule.put_off(queued(1, 0), until);
    assert_eq!(schedule.start_next(), None);
    assert_eq!((schedule.waiting_count(), schedule.next_expiry()), (1, Some(until)));
    assert_eq!(schedule.expire_next(until).map(|job| job.id), Some(queued(1, 0).id));
    assert_eq!((schedule.waiting_count(), schedule.bytes), (0, 0));
}

/// The share of an owner as a reference counts it: which of its jobs wait and which run.
#[derive(Default)]
struct Counted {
    waiting: Vec<Queued>,
    running: Vec<Queued>,
}

proptest! {
    #[test]
    fn nobody_runs_more_than_its_share_and_nobody_waits_for_anothers(
        steps in proptest::collection::vec((0..3_u8, 1..60_u64, 0..3_usize, -2..2_i32), 0..120),
        running_max in 1..6_usize,
        share_max in 1..4_usize,
    ) {
        let owners = ["ada", "bob", "eve"].map(Arc::<str>::from);
        let limits = QueueLimits {
            running_per_owner_max: share_max,
            ..QueueLimits::of_all(running_max, 1000)
        };
        let mut schedule = Schedule::new(limits);
        let mut counted = Counted::default();
        for (step, millis, owner, priority) in steps {
            let job = Queued { owner: Arc::clone(&owners[owner]), ..queued(millis, priority) };
            let is_known = |jobs: &[Queued]| jobs.iter().any(|known| known.id == job.id);
            match step {
                0 if !is_known(&counted.waiting) && !is_known(&counted.running) => {
                    counted.waiting.push(job.clone());
                    schedule.add(job);
                }
                1 => {
                    counted.waiting.retain(|known| known.id != job.id);
                    counted.running.retain(|known| known.id != job.id);
                    schedule.remove(job.id);
                }
                _ => {
                    let runs = |owner: &Arc<str>| {
                        counted.running.iter().filter(|known| known.owner == *owner).count()
                    };
                    let may_start = |known: &&Queued| runs(&known.owner) < share_max;
                    let next = counted.waiting.iter().filter(may_start);
                    let next = next.min_by_key(|known| (Reverse(known.priority), known.id));
                    let is_full = counted.running.len() >= running_max;
                    let next = next.filter(|_| !is_full).cloned();
                    prop_assert_eq!(schedule.start_next(), next.clone());
                    if let Some(next) = next {
                        counted.waiting.retain(|known| known.id != next.id);
                        counted.running.push(next);
                    }
                }
            }
        }
        prop_assert_eq!(schedule.waiting_count(), counted.waiting.len());
        prop_assert_eq!(schedule.running_count(), counted.running.len());
        for job in counted.waiting.into_iter().chain(counted.running) {
            schedule.remove(job.id);
        }
        prop_assert!(schedule.shares.is_empty() && schedule.firsts.is_empty());
    }
}

#[test]
fn a_full_share_refuses_its_owner_alone() {
    let limits = QueueLimits {
        running_per_owner_max: 1,
        queued_per_owner_max: 1,
        ..QueueLimits::of_all(3, 10)
    };
    let mut schedule = Schedule::new(limits);
    assert_eq!((schedule.reserve("ada"), schedule.reserve("ada")), (Ok(()), Ok(())));
    assert_eq!(schedule.reserve("ada"), Err(Full::Share));
    assert_eq!(schedule.reserve("bob"), Ok(()));
    schedule.release("ada");
    assert_eq!(schedule.reserve("ada"), Ok(()));
}
