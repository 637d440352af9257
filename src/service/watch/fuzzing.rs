//! Fuzz target of resume tokens.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::token::{Origin, Position};
use crate::service::status::Refusal;

const ORIGIN: Origin<'_> = Origin { store: "s", epoch: "e" };

/// A token stands for one position, in its own store and epoch only.
pub(crate) fn resume_token(data: &[u8]) {
    let inside = BASE64_URL_SAFE_NO_PAD.encode(data);
    let given = String::from_utf8_lossy(data);
    for token in [&*inside, &*given] {
        let Ok(Some(position)) = Position::parse(token, ORIGIN) else { continue };
        let told = position.token(ORIGIN);
        assert_eq!(Position::parse(&told, ORIGIN), Ok(Some(position)));
        let later = Origin { epoch: "f", ..ORIGIN };
        assert_eq!(Position::parse(token, later), Ok(None));
        let other = Origin { store: "t", ..ORIGIN };
        assert_eq!(Position::parse(token, other), Err(Refusal::TokenForeign));
    }
}
