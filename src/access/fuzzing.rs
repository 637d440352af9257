//! Fuzz targets of what callers bring and of the file of tokens.

use std::sync::LazyLock;

use super::{
    Role, TokenTable,
    gate::bearer,
    token::{Presented, Secret, TokenRecord},
    token_file::parse,
};
use crate::job::Time;

static TOKEN: LazyLock<Option<(TokenRecord, Secret)>> =
    LazyLock::new(|| TokenRecord::make("ci", Role::Admin, Time::from_millis(0), None).ok());

/// No header but that of a token lets anybody in, and what looks like a token is one to the letter.
pub(crate) fn authorization(header: &[u8]) {
    let Some(text) = bearer(header) else { return };
    assert!(header.len() > text.len());
    if let Some((record, secret)) = &*TOKEN {
        let table = TokenTable::new(vec![record.clone()]);
        assert_eq!(table.find(text).is_some(), text == secret.reveal());
        // The id of a token that there is, with another secret.
        let forged = format!("jw_{}_{text}", record.id);
        assert!(table.find(&forged).is_none() || forged == secret.reveal());
    }
    if let Some(presented) = Presented::parse(text) {
        assert!(presented.id.len() < text.len() && text.contains(presented.id));
    }
}

/// A list of tokens that is taken lets nobody in by its own texts.
pub(crate) fn tokens_file(data: &[u8]) {
    let Ok(tokens) = parse(data) else { return };
    let table = TokenTable::new(tokens.clone());
    for token in &tokens {
        assert!(table.find(&token.id).is_none() && table.find(&token.name).is_none());
        assert!(table.get(&token.id).is_some());
    }
}
