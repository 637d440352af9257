//! How many connections there may be at once, and which has to go when one too many comes.
//!
//! The oldest on which nobody has been let in goes first, so a crowd of strangers cannot keep out
//! whoever has a token. A principal that holds more than its share of the seats loses its newest
//! ones to others that come, so it cannot keep them out either. Otherwise connections that somebody
//! uses are never cut here.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU64,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use crate::access::Admission;

/// How long a newcomer waits for the seat of one that was told to go. That takes no time unless
/// the machine is overloaded.
const LEAVE_LIMIT: Duration = Duration::from_millis(500);

/// The part of the seats that no principal is to fill when others come: a quarter.
const SHARE: usize = 4;
/// The part of the seats that strangers hold at least before they make room for each other where
/// a principal has more than its share: whoever comes then has some time to be let in.
const STRANGERS: usize = 16;

/// The seats of one address.
pub(super) struct Seats {
    most: usize,
    taken: Mutex<Taken>,
    /// A seat has become free.
    freed: Notify,
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// All connections that hold a descriptor, also those that were told to go.
    open: usize,
    /// Those that may stay, by age, the oldest first.
    staying: BTreeMap<u64, Sitting>,
}

struct Sitting {
    admission: Admission,
    /// Once it is dropped the connection has to go.
    _cut: oneshot::Sender<()>,
}

/// The seat of one connection, free again once it is dropped.
pub(super) struct Seat {
    number: u64,
    seats: Arc<Seats>,
    /// Resolves when the seat is taken away.
    pub(super) cut: oneshot::Receiver<()>,
}

/// Whether there is a seat now.
enum Found {
    Seat(Seat),
    /// One is about to be free.
    Soon,
    /// Everybody who sits was let in and has no more than its share.
    None,
}

impl Seats {
    pub(super) fn new(most: usize) -> Arc<Seats> {
        Arc::new(Seats { most, taken: Mutex::default(), freed: Notify::new() })
    }

    /// A seat for a connection that has just come; none if all are taken by admitted ones
    /// that keep to their shares. Only one task may wait at a time.
    pub(super) async fn take(self: &Arc<Seats>, admission: &Admission) -> Option<Seat> {
        loop {
            match self.find(admission) {
                Found::Seat(seat) => return Some(seat),
                Found::None => return None,
                Found::Soon => {
                    tokio::time::timeout(LEAVE_LIMIT, self.freed.notified()).await.ok()?;
                }
            }
        }
    }

    /// Cuts the connection that has to go first, if there is one.
    pub(super) fn cut_one(&self) {
        self.taken().cut_one(self.most);
    }

    fn find(self: &Arc<Seats>, admission: &Admission) -> Found {
        let mut taken = self.taken();
        if taken.open >= self.most {
            let is_one_leaving = taken.open > taken.staying.len();
            let is_soon = is_one_leaving || taken.cut_one(self.most);
            return if is_soon { Found::Soon } else { Found::None };
        }
        let number = taken.next;
        taken.next += 1;
        taken.open += 1;
        let (sender, cut) = oneshot::channel();
        let sitting = Sitting { admission: admission.clone(), _cut: sender };
        taken.staying.insert(number, sitting);
        Found::Seat(Seat { number, seats: Arc::clone(self), cut })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Cuts one of at most `most` connections; false if none has to go.
    fn cut_one(&mut self, most: usize) -> bool {
        let is_stranger = |sitting: &&Sitting| !sitting.admission.is_admitted();
        let strangers = self.staying.values().filter(is_stranger).count();
        let oldest = || self.staying.iter().find(|(_, one)| is_stranger(one)).map(|(age, _)| *age);
        let number = if strangers > most / STRANGERS {
            oldest()
        } else {
            self.newest_of_crowd((most / SHARE).max(1)).or_else(oldest)
        };
        number.and_then(|number| self.staying.remove(&number)).is_some()
    }

    /// The newest connection of the principal that has the most, if that is more than `share`.
    fn newest_of_crowd(&self, share: usize) -> Option<u64> {
        let mut crowds: HashMap<NonZeroU64, (usize, u64)> = HashMap::new();
        for (number, sitting) in &self.staying {
            if let Some(principal) = sitting.admission.principal() {
                let (count, newest) = crowds.entry(principal).or_default();
                (*count, *newest) = (*count + 1, *number);
            }
        }
        let largest = crowds.into_values().max_by_key(|(count, _)| *count);
        largest.filter(|(count, _)| *count > share).map(|(_, newest)| newest)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.staying.remove(&self.number);
        taken.open -= 1;
        drop(taken);
        self.seats.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger() -> Admission {
        Admission::default()
    }

    fn admitted(principal: &str) -> Admission {
        let admission = Admission::default();
        admission.admit(principal);
        admission
    }

    /// A seat for a stranger while `leaving` goes as soon as it is told to.
    async fn take_from(seats: &Arc<Seats>, leaving: Seat) -> Seat {
        let left = async {
            let Seat { cut, .. } = &mut { leaving };
            cut.await
        };
        let newcomer = stranger();
        let (seat, cut) = tokio::join!(seats.take(&newcomer), left);
        assert!(cut.is_err());
        seat.unwrap()
    }

    fn is_cut(seat: &mut Seat) -> bool {
        seat.cut.try_recv() != Err(oneshot::error::TryRecvError::Empty)
    }

    #[tokio::test]
    async fn the_oldest_stranger_makes_room_and_who_was_let_in_stays() {
        let seats = Seats::new(3);
        let mut guest = seats.take(&admitted("ada")).await.unwrap();
        let first = seats.take(&stranger()).await.unwrap();
        let mut second = seats.take(&stranger()).await.unwrap();
        let _third = take_from(&seats, first).await;
        assert!(!is_cut(&mut guest) && !is_cut(&mut second));
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_does_not_wait_for_ever_nor_cut_a_second_one() {
        let seats = Seats::new(2);
        let mut first = seats.take(&stranger()).await.unwrap();
        let mut second = seats.take(&stranger()).await.unwrap();
        assert!(seats.take(&stranger()).await.is_none());
        assert!(is_cut(&mut first) && !is_cut(&mut second));
        drop(first);
        assert!(seats.take(&stranger()).await.is_some());
        assert!(!is_cut(&mut second));
    }

    #[tokio::test]
    async fn when_nobody_has_to_go_the_newcomer_does_until_a_seat_is_free() {
        let seats = Seats::new(4);
        let one = seats.take(&admitted("ada")).await.unwrap();
        let mut others = Vec::new();
        for principal in ["bob", "cyd", "dan"] {
            others.push(seats.take(&admitted(principal)).await.unwrap());
        }
        assert!(seats.take(&stranger()).await.is_none());
        drop(one);
        assert!(seats.take(&stranger()).await.is_some());
        assert!(!others.iter_mut().any(is_cut));
    }

    #[tokio::test]
    async fn who_holds_more_than_its_share_loses_its_newest_to_whoever_comes() {
        let seats = Seats::new(32);
        let mut other = seats.take(&admitted("bob")).await.unwrap();
        let mut crowd = Vec::new();
        while crowd.len() < 31 {
            crowd.push(seats.take(&admitted("ada")).await.unwrap());
        }
        let mut newcomers = Vec::new();
        for _ in 0..3 {
            newcomers.push(take_from(&seats, crowd.pop().unwrap()).await);
        }
        // There are more than a few of them now: each makes room for the next.
        let oldest = newcomers.remove(0);
        newcomers.push(take_from(&seats, oldest).await);
        assert!(!is_cut(&mut other) && !crowd.iter_mut().any(is_cut));
    }

    #[tokio::test]
    async fn who_holds_no_more_than_its_share_loses_nothing() {
        let seats = Seats::new(32);
        let mut taken = Vec::new();
        for principal in ["ada", "bob", "cyd", "dan"] {
            for _ in 0..8 {
                taken.push(seats.take(&admitted(principal)).await.unwrap());
            }
        }
        assert!(seats.take(&stranger()).await.is_none());
        assert!(!taken.iter_mut().any(is_cut));
    }

    #[tokio::test]
    async fn one_can_be_cut_to_make_room_for_something_else() {
        let seats = Seats::new(2);
        let mut guest = seats.take(&admitted("ada")).await.unwrap();
        let mut alone = seats.take(&stranger()).await.unwrap();
        seats.cut_one();
        seats.cut_one();
        assert!(is_cut(&mut alone) && !is_cut(&mut guest));
    }
}
