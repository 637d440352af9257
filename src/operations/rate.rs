//! How many jobs a principal may have accepted in a minute.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

const MINUTE: Duration = Duration::from_mins(1);
/// So many principals are remembered before those are forgotten who may submit freely again.
const REMEMBERED: usize = 1024;

/// The rate of each principal.
///
/// The generic cell rate algorithm (ITU-T I.371): of each principal the time is kept at which it
/// would have submitted all it has, had it done so evenly. A minute's worth may come at once.
#[derive(Debug)]
pub(super) struct Rate {
    per_minute: Option<u32>,
    due: Mutex<HashMap<String, Duration>>,
}

impl Rate {
    pub(super) fn new(per_minute: Option<u32>) -> Self {
        Self { per_minute, due: Mutex::default() }
    }

    /// Counts a job at `now`, or tells how long to wait for the next.
    pub(super) fn take(&self, principal: &str, now: Duration) -> Result<(), (u32, Duration)> {
        let Some(per_minute) = self.per_minute else { return Ok(()) };
        let step = MINUTE / per_minute;
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.len() >= REMEMBERED {
            due.retain(|_, due| *due > now);
        }
        let mine = due.get(principal).copied().unwrap_or(now).max(now) + step;
        let too_early = mine.saturating_sub(now).saturating_sub(MINUTE);
        if !too_early.is_zero() {
            return Err((per_minute, too_early));
        }
        due.insert(principal.to_owned(), mine);
        Ok(())
    }

    /// Gives back what was taken for a job that did not come to be.
    pub(super) fn give_back(&self, principal: &str) {
        let Some(per_minute) = self.per_minute else { return };
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = due.get_mut(principal) {
            *mine = mine.saturating_sub(MINUTE / per_minute);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_one_after_the_other() {
        let rate = Rate::new(Some(6));
        for _ in 0..6 {
            assert_eq!(rate.take("ada", SECOND), Ok(()));
        }
        assert_eq!(rate.take("ada", SECOND), Err((6, 10 * SECOND)));
        assert_eq!(rate.take("bob", SECOND), Ok(()), "others are not concerned");
        assert_eq!(rate.take("ada", 10 * SECOND), Err((6, SECOND)));
        assert_eq!(rate.take("ada", 11 * SECOND), Ok(()));
        assert_eq!(rate.take("ada", 11 * SECOND), Err((6, 10 * SECOND)));
    }

    #[test]
    fn a_job_that_did_not_come_to_be_costs_nothing() {
        let rate = Rate::new(Some(2));
        for _ in 0..5 {
            assert_eq!(rate.take("ada", SECOND), Ok(()));
            rate.give_back("ada");
        }
        assert_eq!(rate.take("ada", SECOND), Ok(()));
        assert_eq!(rate.take("ada", SECOND), Ok(()));
        assert_eq!(rate.take("ada", SECOND), Err((2, 30 * SECOND)));
        rate.give_back("somebody else");
        assert_eq!(rate.take("ada", SECOND), Err((2, 30 * SECOND)));
    }

    #[test]
    fn who_may_submit_freely_again_is_forgotten() {
        let rate = Rate::new(Some(60));
        for number in 0..3 * REMEMBERED {
            let now = SECOND * u32::try_from(2 * number).unwrap();
            assert_eq!(rate.take(&number.to_string(), now), Ok(()));
        }
        assert!(rate.due.lock().unwrap().len() <= REMEMBERED);
    }
}
