//! Resume tokens: a position in the events of one store, opaque to callers.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    job::{JobId, Violation},
    service::status::Refusal,
};

/// The longest text that is looked at.
const TOKEN_BYTES_MAX: usize = 256;

/// How far a watch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// All events up to this sequence have been passed on.
    pub(super) sequence: u64,
    /// What has been passed on besides.
    pub(super) within: Within,
}

/// What has been passed on besides whole events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    /// Nothing.
    Nothing,
    /// The output that the next event tells of, up to these offsets.
    Output([u64; 2]),
    /// Of the snapshot that was begun here: the jobs from this one on, newest first; none yet.
    Snapshot(Option<JobId>),
}

/// Whose position a token is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub(super) store: &'a str,
    pub(super) epoch: &'a str,
}

impl Position {
    /// Right after an event.
    pub(super) fn after(sequence: u64) -> Self {
        Self { sequence, within: Within::Nothing }
    }

    /// The token for this position.
    pub(super) fn token(self, origin: Origin<'_>) -> String {
        let Origin { store, epoch } = origin;
        let within = match self.within {
            Within::Nothing => String::new(),
            Within::Output([stdout, stderr]) => format!(" output {stdout} {stderr}"),
            Within::Snapshot(None) => " snapshot -".to_owned(),
            Within::Snapshot(Some(id)) => format!(" snapshot {id}"),
        };
        BASE64_URL_SAFE_NO_PAD.encode(format!("2 {store} {epoch} {}{within}", self.sequence))
    }

    /// The position that a token stands for; `None` if it is of an epoch that is over.
    pub(super) fn parse(token: &str, origin: Origin<'_>) -> Result<Option<Self>, Refusal> {
        let malformed = || {
            let rule = "is no token of WatchEvents; use one as it came";
            Refusal::from(Violation::new("resume_token", rule))
        };
        if token.len() > TOKEN_BYTES_MAX {
            return Err(malformed());
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed())?;
        let text = String::from_utf8(bytes).map_err(|_| malformed())?;
        let words: Vec<&str> = text.split(' ').collect();
        let ["2", store, epoch, sequence, within @ ..] = &words[..] else {
            return Err(malformed());
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| malformed());
        let sequence = number(sequence)?;
        let within = match within {
            [] => Within::Nothing,
            ["output", stdout, stderr] => Within::Output([number(stdout)?, number(stderr)?]),
            ["snapshot", "-"] => Within::Snapshot(None),
            ["snapshot", id] => Within::Snapshot(Some(id.parse().map_err(|_| malformed())?)),
            _ => return Err(malformed()),
        };
        if *store != origin.store {
            return Err(Refusal::TokenForeign);
        }
        Ok((*epoch == origin.epoch).then_some(Self { sequence, within }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::Time;

    const ORIGIN: Origin<'_> = Origin { store: "s", epoch: "e" };

    #[test]
    fn a_position_survives_its_token_and_only_in_its_store_and_epoch() {
        let id = JobId::first_of(Time::from_millis(9));
        let places = [
            Within::Nothing,
            Within::Output([0, u64::MAX]),
            Within::Snapshot(None),
            Within::Snapshot(Some(id)),
        ];
        for within in places {
            let position = Position { sequence: 7, within };
            let token = position.token(ORIGIN);
            assert_eq!(Position::parse(&token, ORIGIN), Ok(Some(position)));
            let later = Origin { epoch: "f", ..ORIGIN };
            assert_eq!(Position::parse(&token, later), Ok(None));
            let other = Origin { store: "t", ..ORIGIN };
            assert_eq!(Position::parse(&token, other), Err(Refusal::TokenForeign));
        }
    }

    proptest! {
        #[test]
        fn no_text_is_taken_for_a_token_that_is_none(text in "\\PC{0,300}") {
            let is_refused =
                matches!(Position::parse(&text, ORIGIN), Err(Refusal::BadRequest(_)));
            prop_assert!(is_refused);
        }
    }
}
