//! How many connections there may be at once, and which has to go when one too many comes.
//!
//! Strangers, on whose connections nobody was let in yet, make room for each other only: however
//! many come, nobody who was let in goes for them. A part of the seats is theirs alone, so whoever
//! has a token has some time to be let in. Who is let in when the other seats are all taken gets
//! one of the principal that has most of them, if that has more than its share. With few seats
//! there is no such part, and who was let in is never cut.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU64,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use crate::access::Admission;

/// How long a newcomer waits for the seat of one that was told to go. That takes no time unless
/// the machine is overloaded.
const LEAVE_LIMIT: Duration = Duration::from_millis(500);

/// The part of the seats that no principal is to exceed when others are let in: a quarter.
const SHARE: usize = 4;
/// The part of the seats that is for strangers alone: a sixteenth, and none of fewer than sixteen.
const RESERVE: usize = 16;

/// The seats of one address.
pub(super) struct Seats {
    most: usize,
    taken: Mutex<Taken>,
    /// A seat has become free.
    freed: Notify,
}

/// Once it is dropped the connection has to go. Its task wakes up, so nobody drops it who has
/// locked the seats.
type Cut = oneshot::Sender<()>;

#[derive(Default)]
struct Taken {
    next: u64,
    /// All connections that hold a descriptor, also those that were told to go.
    open: usize,
    /// Those that may stay and on which nobody was let in, by age, the oldest first.
    strangers: BTreeMap<u64, Cut>,
    /// Those that may stay and on which somebody was let in, and who.
    admitted: BTreeMap<u64, (NonZeroU64, Cut)>,
    crowds: Crowds,
}

/// The connections of each principal that was let in and may stay.
#[derive(Default)]
struct Crowds {
    numbers: HashMap<NonZeroU64, BTreeSet<u64>>,
    /// All principals, by how many each has.
    sizes: BTreeSet<(usize, NonZeroU64)>,
}

/// The seat of one connection, free again once it is dropped.
pub(super) struct Seat {
    number: u64,
    seats: Arc<Seats>,
    /// Who is let in on the connection; the seats hear of it.
    pub(super) admission: Admission,
    /// Resolves when the seat is taken away.
    pub(super) cut: oneshot::Receiver<()>,
}

/// Whether there is a seat now.
enum Found {
    Seat(Seat),
    /// One is about to be free.
    Soon,
    /// On each connection somebody was let in.
    None,
}

impl Seats {
    pub(super) fn new(most: usize) -> Arc<Seats> {
        Arc::new(Seats { most, taken: Mutex::default(), freed: Notify::new() })
    }

    /// A seat for a connection that has just come; none if no stranger can make room for it. Only
    /// one task may wait at a time.
    pub(super) async fn take(self: &Arc<Seats>) -> Option<Seat> {
        loop {
            match self.find() {
                Found::Seat(seat) => return Some(seat),
                Found::None => return None,
                Found::Soon => {
                    tokio::time::timeout(LEAVE_LIMIT, self.freed.notified()).await.ok()?;
                }
            }
        }
    }

    /// Cuts the oldest connection on which nobody was let in, if there is one.
    pub(super) fn cut_stranger(&self) {
        let cut = self.taken().strangers.pop_first();
        drop(cut);
    }

    fn find(self: &Arc<Seats>) -> Found {
        let mut taken = self.taken();
        if taken.open >= self.most {
            let is_one_leaving = taken.open > taken.strangers.len() + taken.admitted.len();
            let cut = if is_one_leaving { None } else { taken.strangers.pop_first() };
            drop(taken);
            let is_soon = is_one_leaving || cut.is_some();
            return if is_soon { Found::Soon } else { Found::None };
        }
        let number = taken.next;
        taken.next += 1;
        taken.open += 1;
        let (sender, cut) = oneshot::channel();
        taken.strangers.insert(number, sender);
        let seats = Arc::downgrade(self);
        let admission = Admission::new(move |principal| {
            seats.upgrade().is_some_and(|seats| seats.let_in(number, principal))
        });
        Found::Seat(Seat { number, seats: Arc::clone(self), admission, cut })
    }

    /// Notes that a principal was let in on a connection, and cuts one if there are too many such
    /// now. Returns whether this one has kept its seat.
    fn let_in(&self, number: u64, principal: NonZeroU64) -> bool {
        let mut taken = self.taken();
        let cut = taken.let_in(number, principal, self.most);
        let is_kept = taken.admitted.contains_key(&number);
        drop(taken);
        drop(cut);
        is_kept
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Moves a stranger to those who were let in. Returns the one that has to go for it: itself
    /// unless another principal has more than its share and more than this one.
    fn let_in(&mut self, number: u64, principal: NonZeroU64, most: usize) -> Option<Cut> {
        let cut = self.strangers.remove(&number)?;
        self.admitted.insert(number, (principal, cut));
        self.crowds.change(principal, |numbers| numbers.insert(number));
        if self.admitted.len() <= most - most / RESERVE {
            return None;
        }
        let floor = self.crowds.size(principal).max(most / SHARE);
        let newest = self.crowds.newest_of_largest(floor);
        self.leave(newest.unwrap_or(number))
    }

    /// Takes one out of those that may stay, if it is still there.
    fn leave(&mut self, number: u64) -> Option<Cut> {
        if let Some((principal, cut)) = self.admitted.remove(&number) {
            self.crowds.change(principal, |numbers| numbers.remove(&number));
            return Some(cut);
        }
        self.strangers.remove(&number)
    }
}

impl Crowds {
    /// Changes which connections a principal has.
    fn change(&mut self, principal: NonZeroU64, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let numbers = self.numbers.entry(principal).or_default();
        self.sizes.remove(&(numbers.len(), principal));
        change(numbers);
        if numbers.is_empty() {
            self.numbers.remove(&principal);
        } else {
            self.sizes.insert((numbers.len(), principal));
        }
    }

    fn size(&self, principal: NonZeroU64) -> usize {
        self.numbers.get(&principal).map_or(0, BTreeSet::len)
    }

    /// The newest connection of the principal that has the most, if those are more than `floor`.
    fn newest_of_largest(&self, floor: usize) -> Option<u64> {
        let (size, principal) = self.sizes.last()?;
        let numbers = self.numbers.get(principal).filter(|_| *size > floor)?;
        numbers.last().copied()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        let cut = taken.leave(self.number);
        taken.open -= 1;
        drop(taken);
        drop(cut);
        self.seats.freed.notify_one();
    }
}

#[cfg(test)]
mod tests;
