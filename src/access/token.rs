//! Bearer tokens: what they look like, and how they are recognised without being kept.
//!
//! A token is `jw_<id>_<secret>`. The id is no secret: it names the record. Of the secret, 256
//! random bits, a salted SHA-256 is kept; a slow hash would add nothing to so many bits.

use std::{
    fmt::{self, Write as _},
    io,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Role;
use crate::{job::Time, sys::clock};

const PREFIX: &str = "jw";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
/// The longest text that is looked at as a token.
const TOKEN_BYTES_MAX: usize = 128;
/// The longest name of a token.
pub const NAME_BYTES_MAX: usize = 64;

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// Tells it from the others; the part of it that may be shown.
    pub id: String,
    /// Who it stands for: its principal is `token:NAME`. Several tokens may have one name.
    pub name: String,
    /// What it may do.
    #[serde(with = "as_text")]
    pub role: Role,
    /// When it was made.
    #[serde(with = "as_text")]
    pub created: Time,
    /// When it ends to be good; none if never.
    #[serde(default, with = "as_text_if_any", skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    salt: String,
    hash: String,
}

/// The token itself, to be shown once. It is not shown in debug output.
pub struct Secret(String);

impl Secret {
    /// The text to hand over.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// The parts of a text that looks like a token.
pub(super) struct Presented<'a> {
    pub(super) id: &'a str,
    secret: &'a str,
}

impl<'a> Presented<'a> {
    /// Takes a text apart; none if it cannot be one of ours.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?.strip_prefix('_')?;
        let (id, secret) = rest.split_once('_')?;
        let is_hex = |part: &str, bytes: usize| {
            part.len() == 2 * bytes
                && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_whole =
            text.len() <= TOKEN_BYTES_MAX && is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES);
        is_whole.then_some(Self { id, secret })
    }
}

impl TokenRecord {
    /// Makes a token, and what is kept of it.
    pub(super) fn make(
        name: &str,
        role: Role,
        created: Time,
        expires: Option<Time>,
    ) -> io::Result<(Self, Secret)> {
        let mut random = [0; ID_BYTES + SECRET_BYTES + SALT_BYTES];
        clock::random(&mut random)?;
        let (id, rest) = random.split_at(ID_BYTES);
        let (secret, salt) = rest.split_at(SECRET_BYTES);
        let (id, secret, salt) = (hex(id), hex(secret), hex(salt));
        let hash = hash(&salt, &secret);
        let shown = Secret(format!("{PREFIX}_{id}_{secret}"));
        let name = name.to_owned();
        Ok((Self { id, name, role, created, expires, salt, hash }, shown))
    }

    /// Whether the secret is that of this token, in a time that does not depend on it.
    pub(super) fn is_proven_by(&self, presented: &Presented<'_>) -> bool {
        let hash = hash(&self.salt, presented.secret);
        hash.as_bytes().ct_eq(self.hash.as_bytes()).into()
    }

    /// Whether it is not good any more.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Whether a text may name a token: letters, digits, `.`, `_`, `-` and `@`.
pub fn is_token_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

fn hash(salt: &str, secret: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(salt.as_bytes());
    hash.update(secret.as_bytes());
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot go wrong.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

mod as_text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

mod as_text_if_any {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        super::as_text::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> (TokenRecord, Secret) {
        let expires = Some(Time::from_millis(10));
        TokenRecord::make("ci", Role::Reader, Time::from_millis(0), expires).unwrap()
    }

    #[test]
    fn a_token_is_proven_by_itself_alone() {
        let ((record, secret), (_, other)) = (token(), token());
        assert!(record.is_proven_by(&Presented::parse(secret.reveal()).unwrap()));
        assert!(!record.is_proven_by(&Presented::parse(other.reveal()).unwrap()));
        let text = secret.reveal();
        for place in text.len() - 2 * SECRET_BYTES..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(!record.is_proven_by(&Presented::parse(&changed).unwrap()));
        }
    }

    #[test]
    fn neither_the_record_nor_debug_output_holds_the_secret() {
        let (record, secret) = token();
        let shown = format!("{record:?} {secret:?} {}", serde_json::to_string(&record).unwrap());
        assert!(!shown.contains(secret.reveal().rsplit_once('_').unwrap().1));
    }

    #[test]
    fn what_is_no_token_is_not_taken_apart() {
        let (_, secret) = token();
        let text = secret.reveal();
        let (short, upper) = (&text[..text.len() - 1], text.to_uppercase());
        for wrong in ["", "jw_", "jw__", short, &upper, &format!("{text}0"), &format!(" {text}")] {
            assert!(Presented::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_good_until_the_moment_that_it_expires() {
        let (record, _) = token();
        assert!(!record.is_expired(Time::from_millis(9)));
        assert!(record.is_expired(Time::from_millis(10)));
    }

    #[test]
    fn names_are_plain_and_short() {
        for right in ["ci", "Ada.Lovelace@example", "a-b_c", &"n".repeat(64)] {
            assert!(is_token_name(right));
        }
        for wrong in ["", "a b", "a:b", "ü", "a/b", "a\n", &"n".repeat(65)] {
            assert!(!is_token_name(wrong), "{wrong:?}");
        }
    }
}
