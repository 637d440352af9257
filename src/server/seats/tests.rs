//! Who has to go, and who stays.

use super::*;

/// Sits down and is let in at once; whoever is cut for it is still there.
async fn guest(seats: &Arc<Seats>, principal: &str) -> Seat {
    let seat = stranger(seats).await;
    seat.admission.admit(principal);
    seat
}

async fn guests(seats: &Arc<Seats>, principal: &str, count: usize) -> Vec<Seat> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(guest(seats, principal).await);
    }
    taken
}

async fn stranger(seats: &Arc<Seats>) -> Seat {
    seats.take().await.unwrap()
}

/// A seat for a stranger while `leaving` goes as soon as it is told to.
async fn take_from(seats: &Arc<Seats>, leaving: Seat) -> Seat {
    let left = async {
        let Seat { cut, .. } = &mut { leaving };
        cut.await
    };
    let (seat, cut) = tokio::join!(seats.take(), left);
    assert!(cut.is_err());
    seat.unwrap()
}

fn is_cut(seat: &mut Seat) -> bool {
    seat.cut.try_recv() != Err(oneshot::error::TryRecvError::Empty)
}

/// How many seats are open, strangers' and admitted, and of how many principals.
fn counts(seats: &Seats) -> (usize, usize, usize, usize) {
    let taken = seats.taken();
    let of_principals: usize = taken.crowds.numbers.values().map(BTreeSet::len).sum();
    assert_eq!(of_principals, taken.admitted.len());
    assert_eq!(taken.crowds.numbers.len(), taken.crowds.sizes.len());
    let (strangers, admitted) = (taken.strangers.len(), taken.admitted.len());
    (taken.open, strangers, admitted, taken.crowds.numbers.len())
}

#[tokio::test]
async fn the_oldest_stranger_makes_room_and_who_was_let_in_stays() {
    let seats = Seats::new(3);
    let mut ada = guest(&seats, "ada").await;
    let first = stranger(&seats).await;
    let mut second = stranger(&seats).await;
    let _third = take_from(&seats, first).await;
    assert!(!is_cut(&mut ada) && !is_cut(&mut second));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_wait_for_ever_nor_cut_a_second_one() {
    let seats = Seats::new(2);
    let mut first = stranger(&seats).await;
    let mut second = stranger(&seats).await;
    assert!(seats.take().await.is_none());
    assert!(is_cut(&mut first) && !is_cut(&mut second));
    drop(first);
    assert!(seats.take().await.is_some());
    assert!(!is_cut(&mut second));
}

#[tokio::test]
async fn of_few_seats_all_may_be_one_principals_and_the_newcomer_is_closed() {
    for most in 1..RESERVE {
        let seats = Seats::new(most);
        let mut all = guests(&seats, "ada", most).await;
        assert!(seats.take().await.is_none());
        assert!(!all.iter_mut().any(is_cut), "of {most}");
        drop(all.pop());
        let bob = guest(&seats, "bob").await;
        assert!(!all.iter_mut().any(is_cut), "of {most}");
        drop(bob);
        assert!(seats.take().await.is_some());
    }
}

#[tokio::test]
async fn however_many_strangers_come_they_make_room_for_each_other_only() {
    let seats = Seats::new(32);
    let mut crowd = guests(&seats, "ada", 30).await;
    let mut last = stranger(&seats).await;
    let mut next = stranger(&seats).await;
    for _ in 0..100 {
        let newest = take_from(&seats, last).await;
        (last, next) = (next, newest);
    }
    assert!(!is_cut(&mut next) && !crowd.iter_mut().any(is_cut));
}

#[tokio::test]
async fn one_principal_alone_keeps_what_it_has_and_its_newest_is_turned_away() {
    let seats = Seats::new(32);
    let mut crowd = guests(&seats, "ada", 30).await;
    for _ in 0..3 {
        let mut more = stranger(&seats).await;
        assert!(!more.admission.admit("ada"));
        assert!(is_cut(&mut more));
        assert!(!more.admission.admit("ada"), "nor is another call let in");
    }
    assert!(!crowd.iter_mut().any(is_cut));
    assert!(crowd.iter().all(|seat| seat.admission.admit("ada")));
}

#[tokio::test]
async fn whoever_is_let_in_gets_the_newest_seat_of_who_has_the_most() {
    let seats = Seats::new(32);
    let mut few = guests(&seats, "bob", 9).await;
    let mut crowd = guests(&seats, "ada", 21).await;
    for _ in 0..2 {
        let mut newcomer = stranger(&seats).await;
        assert!(!crowd.iter_mut().any(is_cut), "it is only a stranger yet");
        assert!(newcomer.admission.admit("cyd"));
        let mut newest = crowd.pop().unwrap();
        assert!(is_cut(&mut newest) && !is_cut(&mut newcomer));
        assert!(!crowd.iter_mut().chain(&mut few).any(is_cut));
        drop(newest);
        few.push(newcomer);
    }
}

#[tokio::test]
async fn two_principals_do_not_take_turns_to_cut_each_other() {
    // Which of two is found first as the largest is a matter of chance.
    for (more, less) in [("ada", "bob"), ("bob", "ada")] {
        let seats = Seats::new(32);
        let mut one = guests(&seats, more, 16).await;
        let mut all = guests(&seats, less, 13).await;
        all.extend(guests(&seats, "cyd", 1).await);
        // The first of these takes a seat; for the next it would have as many as the other.
        all.push(guest(&seats, less).await);
        assert!(is_cut(&mut one.pop().unwrap()));
        for principal in [less, more, less, more] {
            assert!(is_cut(&mut guest(&seats, principal).await));
        }
        assert!(!one.iter_mut().chain(&mut all).any(is_cut));
    }
}

#[tokio::test]
async fn who_has_no_more_than_its_share_loses_nothing() {
    let seats = Seats::new(32);
    let mut taken = Vec::new();
    for (principal, count) in [("ada", 8), ("bob", 8), ("cyd", 8), ("dan", 6)] {
        taken.extend(guests(&seats, principal, count).await);
    }
    let mut newcomer = stranger(&seats).await;
    assert!(!newcomer.admission.admit("eve"));
    assert!(is_cut(&mut newcomer) && !taken.iter_mut().any(is_cut));
}

#[tokio::test]
async fn only_the_first_who_is_let_in_on_a_connection_counts() {
    let seats = Seats::new(32);
    let mut crowd = guests(&seats, "ada", 30).await;
    assert!(crowd[0].admission.admit("bob"));
    assert_eq!(counts(&seats), (30, 0, 30, 1));
    assert!(!crowd.iter_mut().any(is_cut));
}

#[tokio::test]
async fn a_seat_that_is_free_again_counts_for_nobody() {
    let seats = Seats::new(32);
    let (ada, bob) = (guests(&seats, "ada", 2).await, guest(&seats, "bob").await);
    let alone = stranger(&seats).await;
    assert_eq!(counts(&seats), (4, 1, 3, 2));
    drop(bob);
    assert_eq!(counts(&seats), (3, 1, 2, 1));
    let admission = alone.admission.clone();
    drop(alone);
    assert!(!admission.admit("cyd"), "it has no seat any more");
    assert_eq!(counts(&seats), (2, 0, 2, 1));
    drop(ada);
    assert_eq!(counts(&seats), (0, 0, 0, 0));
}

#[tokio::test]
async fn who_is_let_in_after_the_cut_cuts_nobody() {
    let seats = Seats::new(32);
    let mut crowd = guests(&seats, "ada", 30).await;
    let mut late = stranger(&seats).await;
    seats.cut_stranger();
    assert!(!late.admission.admit("bob"));
    assert!(is_cut(&mut late) && !crowd.iter_mut().any(is_cut));
    assert_eq!(counts(&seats), (31, 0, 30, 1));
}

#[tokio::test]
async fn a_stranger_can_be_cut_to_make_room_for_something_else() {
    let seats = Seats::new(2);
    let mut ada = guest(&seats, "ada").await;
    let mut alone = stranger(&seats).await;
    seats.cut_stranger();
    seats.cut_stranger();
    assert!(is_cut(&mut alone) && !is_cut(&mut ada));
}
