//! Who asks while what runs, in every order up to a bound, against a disk that ends when it is told.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::*;

/// The longest story: asks and ends of rounds.
const STEPS_MAX: usize = 7;
/// How long anything may take to come about.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Ask,
    EndWell,
    EndBadly,
}

/// What must be: rounds one after the other, each for those who asked before it began.
#[derive(Clone, Debug, Default)]
struct Expected {
    begun: u64,
    is_running: bool,
    /// The round that each caller needs.
    wanted: Vec<u64>,
    /// What each caller was told, by the order of the asks.
    told: Vec<Option<bool>>,
}

impl Expected {
    fn take(&mut self, step: Step) {
        match step {
            Step::Ask => {
                self.wanted.push(self.begun + 1);
                self.told.push(None);
                if !self.is_running {
                    (self.is_running, self.begun) = (true, self.begun + 1);
                }
            }
            Step::EndWell | Step::EndBadly => {
                for (wanted, told) in self.wanted.iter().zip(&mut self.told) {
                    if *wanted == self.begun {
                        *told = Some(step == Step::EndWell);
                    }
                }
                self.is_running = self.told.contains(&None);
                self.begun += u64::from(self.is_running);
            }
        }
    }

    /// Callers besides the one that carries out the round.
    fn waiting(&self) -> usize {
        let untold = self.told.iter().filter(|told| told.is_none()).count();
        untold - usize::from(self.is_running)
    }
}

/// A folder whose syncs end when the test says so.
#[derive(Default)]
struct Disk {
    outcome: Mutex<Option<bool>>,
    changed: Condvar,
}

impl Disk {
    fn sync(&self) -> io::Result<()> {
        let outcome = self.outcome.lock().unwrap();
        let mut outcome = self.changed.wait_while(outcome, |it| it.is_none()).unwrap();
        match outcome.take() {
            Some(true) | None => Ok(()),
            Some(false) => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn end(&self, is_well: bool) {
        *self.outcome.lock().unwrap() = Some(is_well);
        self.changed.notify_all();
    }
}

fn play(story: &[Step]) {
    let (group, disk) = (Arc::new(GroupSync::new(Path::new("/"))), Arc::new(Disk::default()));
    let (tell, hear) = mpsc::channel();
    let (mut expected, mut told) = (Expected::default(), Vec::new());
    let mut take = |step: Step, expected: &mut Expected| {
        match step {
            Step::Ask => {
                let (group, disk, tell) = (Arc::clone(&group), Arc::clone(&disk), tell.clone());
                let caller = told.len();
                told.push(None);
                thread::spawn(move || {
                    let is_well = group.sync_by(|| disk.sync()).is_ok();
                    tell.send((caller, is_well)).unwrap();
                });
            }
            Step::EndWell => disk.end(true),
            Step::EndBadly => disk.end(false),
        }
        expected.take(step);
        let started = Instant::now();
        loop {
            for (caller, is_well) in hear.try_iter() {
                told[caller] = Some(is_well);
            }
            let (begun, is_running, waiting) = {
                let rounds = group.rounds.lock().unwrap();
                (rounds.begun, rounds.is_running, rounds.waiting)
            };
            let wanted = (expected.begun, expected.is_running, expected.waiting());
            if (begun, is_running, waiting) == wanted && told == expected.told {
                break;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{story:?}: {:?} and {told:?}, not {expected:?}",
                (begun, is_running, waiting)
            );
            thread::yield_now();
        }
    };
    for step in story {
        take(*step, &mut expected);
    }
    while expected.is_running {
        take(Step::EndWell, &mut expected);
    }
}

/// Plays every story that begins like this one and is not longer than the bound.
fn play_all(story: &mut Vec<Step>, expected: &Expected) -> usize {
    if story.len() == STEPS_MAX {
        play(story);
        return 1;
    }
    let mut played = 0;
    for step in [Step::Ask, Step::EndWell, Step::EndBadly] {
        if step == Step::Ask || expected.is_running {
            let mut next = expected.clone();
            next.take(step);
            story.push(step);
            played += play_all(story, &next);
            story.pop();
        }
    }
    played
}

#[test]
fn each_caller_is_told_of_the_first_round_that_began_after_it_asked_in_every_order() {
    let played = play_all(&mut Vec::new(), &Expected::default());
    assert_eq!(played, 165, "stories of {STEPS_MAX} steps");
}

#[test]
fn all_who_wait_are_served_and_a_failure_reaches_them() {
    let folder = tempfile::tempdir().unwrap();
    let group = Arc::new(GroupSync::new(folder.path()));
    let waiters: Vec<_> = (0..16)
        .map(|_| {
            let group = Arc::clone(&group);
            thread::spawn(move || group.sync())
        })
        .collect();
    for waiter in waiters {
        waiter.join().unwrap().unwrap();
    }
    assert!(group.rounds.lock().unwrap().begun <= 16);
    folder.close().unwrap();
    assert_eq!(group.sync().unwrap_err().kind(), io::ErrorKind::NotFound);
}
