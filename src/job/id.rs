//! Job ids: sortable by the order of acceptance, unguessable, one safe path component.
//!
//! An id is 128 bits in 26 lower-case characters of Crockford's base 32: 48 bits of
//! milliseconds, a 16-bit counter within the millisecond, 64 random bits. The day of a job
//! and so its folder follow from the id alone.

use std::{fmt, str::FromStr};

use super::Time;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LEN: usize = 26;
const PREFIX_LEN_MIN: usize = 4;

/// The id of one job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(u128);

/// A text is not a job id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobIdError {
    /// It does not have 26 characters.
    #[error("a job id has 26 characters, this has {0}")]
    Length(usize),
    /// It is shorter than a prefix may be.
    #[error("a prefix of a job id has at least 4 characters, this has {0}")]
    PrefixLength(usize),
    /// It holds a character that no id has.
    #[error("a job id has only digits and lower-case letters other than i, l, o and u")]
    Character,
    /// It is larger than any id.
    #[error("a job id begins with a digit from 0 to 7")]
    Range,
}

impl JobId {
    /// The smallest id.
    pub const MIN: Self = Self(0);
    /// The largest id.
    pub const MAX: Self = Self(u128::MAX);

    /// The time that the id carries, in whole milliseconds.
    pub fn time(self) -> Time {
        Time::from_millis(u64::try_from(self.0 >> 80).unwrap_or(u64::MAX))
    }

    /// The smallest id of the millisecond of `time`.
    pub fn first_of(time: Time) -> Self {
        Self(u128::from(time.millis()) << 80)
    }

    /// The day of the job in UTC, `YYYY-MM-DD`: the name of the folder above the job's.
    pub fn day(self) -> String {
        self.time().day()
    }

    fn from_parts(millis: u64, counter: u16, random: u64) -> Self {
        Self(u128::from(millis) << 80 | u128::from(counter) << 64 | u128::from(random))
    }

    fn encode(self) -> [u8; LEN] {
        let mut text = [0; LEN];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            *place = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        text
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.encode();
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for JobId {
    type Err = JobIdError;

    fn from_str(text: &str) -> Result<Self, JobIdError> {
        if text.len() != LEN {
            return Err(JobIdError::Length(text.chars().count()));
        }
        decode(text).map(Self)
    }
}

/// The beginning of an id, or a whole one: a range of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobIdPrefix {
    /// The smallest id that begins so.
    pub first: JobId,
    /// The largest id that begins so.
    pub last: JobId,
}

impl JobIdPrefix {
    /// The one id that is meant, if the prefix is a whole id.
    pub fn exact(self) -> Option<JobId> {
        (self.first == self.last).then_some(self.first)
    }
}

impl FromStr for JobIdPrefix {
    type Err = JobIdError;

    fn from_str(text: &str) -> Result<Self, JobIdError> {
        if text.len() > LEN {
            return Err(JobIdError::Length(text.chars().count()));
        }
        if text.len() < PREFIX_LEN_MIN {
            return Err(JobIdError::PrefixLength(text.chars().count()));
        }
        let bits = (LEN - text.len()) * 5;
        let first = decode(text)? << bits;
        let last = first | ((1_u128 << bits) - 1);
        Ok(Self { first: JobId(first), last: JobId(last) })
    }
}

fn decode(text: &str) -> Result<u128, JobIdError> {
    let mut value = 0_u128;
    for (place, byte) in text.bytes().enumerate() {
        let digit =
            ALPHABET.iter().position(|letter| *letter == byte).ok_or(JobIdError::Character)?;
        if place == 0 && digit > 7 {
            return Err(JobIdError::Range);
        }
        value = value << 5 | digit as u128;
    }
    Ok(value)
}

/// Makes ids that strictly increase, also while the wall clock stands still or steps back.
#[derive(Debug)]
pub struct IdClock {
    last: JobId,
}

impl IdClock {
    /// Continues after `last`, the largest id of the store (`JobId::MIN` for an empty one).
    pub fn after(last: JobId) -> Self {
        Self { last }
    }

    /// The next id at `now`, with 64 bits of `random` that nobody can guess.
    pub fn next(&mut self, now: Time, random: u64) -> JobId {
        let last_millis = self.last.time().millis();
        let id = if now.millis() > last_millis {
            JobId::from_parts(now.millis(), 0, random)
        } else {
            let [.., high, low] = ((self.last.0 >> 64) & 0xFFFF).to_be_bytes();
            let counter = u16::from_be_bytes([high, low]);
            match counter.checked_add(1) {
                Some(counter) => JobId::from_parts(last_millis, counter, random),
                None => JobId::from_parts(last_millis + 1, 0, random),
            }
        };
        self.last = id;
        id
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_survives_its_text_and_sorts_like_it(left: u128, right: u128) {
            let (left, right) = (JobId(left), JobId(right));
            prop_assert_eq!(left.to_string().parse::<JobId>(), Ok(left));
            prop_assert_eq!(left.cmp(&right), left.to_string().cmp(&right.to_string()));
        }

        #[test]
        fn every_prefix_of_an_id_holds_it(id: u128, len in PREFIX_LEN_MIN..=LEN) {
            let id = JobId(id);
            let prefix: JobIdPrefix = id.to_string()[..len].parse().unwrap();
            prop_assert!(prefix.first <= id && id <= prefix.last);
            prop_assert_eq!(prefix.exact().is_some(), len == LEN);
        }

        #[test]
        fn ids_strictly_increase_whatever_the_clock_does(
            steps in proptest::collection::vec((0..5_u64, any::<u64>()), 1..200),
        ) {
            let mut clock = IdClock::after(JobId::MIN);
            let mut last = JobId::MIN;
            for (millis, random) in steps {
                let id = clock.next(Time::from_millis(1_000 + millis), random);
                prop_assert!(id > last);
                last = id;
            }
        }

        #[test]
        fn no_text_that_leaves_its_folder_is_an_id(text in "[./\\\\0-9a-z%]{0,30}") {
            if text.parse::<JobId>().is_ok() {
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            }
        }
    }

    #[test]
    fn a_full_millisecond_runs_over_into_the_next() {
        let mut clock = IdClock::after(JobId::from_parts(7, u16::MAX, 1));
        assert_eq!(clock.next(Time::from_millis(7), 0).time().millis(), 8);
    }

    #[test]
    fn texts_that_are_no_ids_are_refused() {
        assert_eq!("../x".parse::<JobId>(), Err(JobIdError::Length(4)));
        assert_eq!("z".repeat(26).parse::<JobId>(), Err(JobIdError::Range));
        assert_eq!("0".repeat(25).as_str().parse::<JobId>(), Err(JobIdError::Length(25)));
        assert_eq!(format!("{}U", "0".repeat(25)).parse::<JobId>(), Err(JobIdError::Character));
        assert_eq!("012".parse::<JobIdPrefix>(), Err(JobIdError::PrefixLength(3)));
        assert_eq!("é".repeat(13).parse::<JobId>(), Err(JobIdError::Character));
    }
}
