//! How many connections there may be at once, and which has to go when one too many comes.
//!
//! The oldest on which nobody has been let in goes first, so a crowd of strangers cannot keep out
//! whoever has a token. Connections that somebody uses are never cut here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use crate::access::Admission;

/// How long a newcomer waits for the seat of one that was told to go. That takes no time unless
/// the machine is overloaded.
const LEAVE_LIMIT: Duration = Duration::from_millis(500);

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
    /// Everybody who sits was let in.
    None,
}

impl Seats {
    pub(super) fn new(most: usize) -> Arc<Seats> {
        Arc::new(Seats { most, taken: Mutex::default(), freed: Notify::new() })
    }

    /// A seat for a connection that has just come; none if all are taken by admitted ones. Only
    /// one task may wait at a time.
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

    /// Cuts the oldest connection on which nobody was let in, if there is one.
    pub(super) fn cut_one(&self) {
        self.taken().cut_one();
    }

    fn find(self: &Arc<Seats>, admission: &Admission) -> Found {
        let mut taken = self.taken();
        if taken.open >= self.most {
            let is_one_leaving = taken.open > taken.staying.len();
            let is_soon = is_one_leaving || taken.cut_one();
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
    fn cut_one(&mut self) -> bool {
        let mut oldest_first = self.staying.iter();
        let stranger = oldest_first.find(|(_, one)| !one.admission.is_admitted());
        let number = stranger.map(|(number, _)| *number);
        number.and_then(|number| self.staying.remove(&number)).is_some()
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

    fn admitted() -> Admission {
        let admission = Admission::default();
        admission.admit();
        admission
    }

    fn is_cut(seat: &mut Seat) -> bool {
        seat.cut.try_recv() != Err(oneshot::error::TryRecvError::Empty)
    }

    #[tokio::test]
    async fn the_oldest_stranger_makes_room_and_who_was_let_in_stays() {
        let seats = Seats::new(3);
        let mut guest = seats.take(&admitted()).await.unwrap();
        let first = seats.take(&stranger()).await.unwrap();
        let mut second = seats.take(&stranger()).await.unwrap();
        let leaving = async {
            let Seat { cut, .. } = &mut { first };
            cut.await
        };
        let newcomer = stranger();
        let (third, cut) = tokio::join!(seats.take(&newcomer), leaving);
        assert!(third.is_some() && cut.is_err());
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
    async fn when_everybody_was_let_in_the_newest_goes_until_a_seat_is_free() {
        let seats = Seats::new(2);
        let one = seats.take(&admitted()).await.unwrap();
        let _other = seats.take(&admitted()).await.unwrap();
        assert!(seats.take(&stranger()).await.is_none());
        drop(one);
        assert!(seats.take(&stranger()).await.is_some());
    }

    #[tokio::test]
    async fn one_can_be_cut_to_make_room_for_something_else() {
        let seats = Seats::new(2);
        let mut guest = seats.take(&admitted()).await.unwrap();
        let mut alone = seats.take(&stranger()).await.unwrap();
        seats.cut_one();
        seats.cut_one();
        assert!(is_cut(&mut alone) && !is_cut(&mut guest));
    }
}
