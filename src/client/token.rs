//! The bearer token of a client: where it comes from, and how a new one takes its place.
//!
//! A token is never shown: not in `Debug`, not in an error. It is not wiped from memory either,
//! as the HTTP library below keeps copies that nobody can reach.

use std::{
    fmt,
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
};

use super::{CredentialError, secret_file};

/// The longest token that is sent.
const TOKEN_BYTES_MAX: usize = 200;

/// The largest file that is looked into for a token: one line, and room for a comment by mistake.
const TOKEN_FILE_BYTES_MAX: u64 = 4 << 10;

/// A bearer token, as `jobwarden token create` prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(MetadataValue<Ascii>);

impl Token {
    /// Takes `text` without one line break at its end.
    pub fn new(text: &str) -> Result<Token, CredentialError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let is_token = (1..=TOKEN_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        let value = format!("Bearer {text}").parse::<MetadataValue<Ascii>>();
        let Some(mut value) = value.ok().filter(|_| is_token) else {
            return Err(CredentialError::BadToken);
        };
        // Keeps it out of the tables that compress headers, and out of what libraries print.
        value.set_sensitive(true);
        Ok(Token(value))
    }

    fn read(path: &Path) -> Result<(Token, Metadata), CredentialError> {
        let (bytes, metadata) = secret_file::read("token file", path, TOKEN_FILE_BYTES_MAX)?;
        let text = str::from_utf8(&bytes).map_err(|_| CredentialError::BadToken);
        match text.and_then(Token::new) {
            Ok(token) => Ok((token, metadata)),
            Err(_) => Err(CredentialError::BadContent {
                path: path.to_owned(),
                why: "must hold one token and nothing else",
            }),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(not shown)")
    }
}

/// Where the token comes from.
#[derive(Clone, Debug, Default)]
pub(super) enum TokenSource {
    /// There is none.
    #[default]
    None,
    /// This one, for ever.
    Fixed(Token),
    /// The one that this file holds at the moment.
    File(PathBuf),
}

/// The token of a connection, which changes with its file.
#[derive(Debug)]
pub(super) struct Tokens {
    source: TokenSource,
    known: Mutex<Option<Known>>,
}

/// A token, and how its file looked when it was read.
#[derive(Clone, Debug)]
struct Known {
    token: Token,
    look: Option<Look>,
}

/// What changes with a file: inode, size, and the times of its bytes and of its mode.
type Look = (u64, u64, (i64, i64), (i64, i64));

impl Tokens {
    /// Reads the token for the first time.
    pub(super) fn load(source: TokenSource) -> Result<Tokens, CredentialError> {
        let known = match &source {
            TokenSource::None => None,
            TokenSource::Fixed(token) => Some(Known { token: token.clone(), look: None }),
            TokenSource::File(path) => Some(Known::read(path)?),
        };
        Ok(Tokens { source, known: Mutex::new(known) })
    }

    /// The token to send now: a file that has changed is read again.
    ///
    /// A file that cannot be used for the moment leaves the old token in force.
    pub(super) fn present(&self) -> Option<Token> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let (TokenSource::File(path), Some(Known { look: Some(look), .. })) =
            (&self.source, &*known)
            && std::fs::metadata(path).is_ok_and(|metadata| look_of(&metadata) != *look)
            && let Ok(new) = Known::read(path)
        {
            *known = Some(new);
        }
        known.as_ref().map(|known| known.token.clone())
    }

    /// The token to send after `refused` was, if the file holds another by now.
    pub(super) fn renewed(&self, refused: Option<&Token>) -> Option<Token> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // The look does not matter here: a file may change twice within one tick of its clock.
        if let (TokenSource::File(path), Some(Known { look: Some(_), .. })) =
            (&self.source, &*known)
            && let Ok(new) = Known::read(path)
        {
            *known = Some(new);
        }
        let token = known.as_ref()?.token.clone();
        (refused != Some(&token)).then_some(token)
    }
}

impl Known {
    fn read(path: &Path) -> Result<Known, CredentialError> {
        let (token, metadata) = Token::read(path)?;
        // A pipe gives its token once, and reading it again would wait for ever.
        let look = metadata.is_file().then(|| look_of(&metadata));
        Ok(Known { token, look })
    }
}

/// A request for `message` that carries `token`.
pub(super) fn signed<Q>(message: Q, token: Option<&Token>) -> Request<Q> {
    let mut request = Request::new(message);
    if let Some(Token(value)) = token {
        request.metadata_mut().insert("authorization", value.clone());
    }
    request
}

fn look_of(metadata: &Metadata) -> Look {
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    (metadata.ino(), metadata.size(), (metadata.mtime(), metadata.mtime_nsec()), changed)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn a_token_is_one_printable_word_and_loses_its_line_break() {
        let token = Token::new("jw_a_b").unwrap();
        for text in ["jw_a_b\n", "jw_a_b\r\n"] {
            assert_eq!(Token::new(text).unwrap(), token);
        }
        let (longest, too_long) = ("x".repeat(TOKEN_BYTES_MAX), "x".repeat(TOKEN_BYTES_MAX + 1));
        assert!(Token::new(&longest).is_ok());
        for wrong in ["", "\n", "a b", "a\nb", "a\n\n", "a\u{e9}", "a\u{1b}", &too_long] {
            assert!(matches!(Token::new(wrong), Err(CredentialError::BadToken)), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_is_sent_as_a_bearer_and_never_shown() {
        let token = Token::new("jw_name_secret").unwrap();
        let request = signed((), Some(&token));
        let sent = request.metadata().get("authorization").unwrap();
        assert_eq!(sent.to_str().unwrap(), "Bearer jw_name_secret");
        assert!(sent.is_sensitive());
        let source = TokenSource::Fixed(token.clone());
        let tokens = Tokens::load(source.clone()).unwrap();
        let shown = format!("{token:?} {source:?} {tokens:?} {request:?}");
        assert!(!shown.contains("secret"), "{shown}");
        assert!(signed((), None).metadata().is_empty());
    }

    #[test]
    fn a_new_token_in_the_file_is_the_next_one_sent_and_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, "first\n");
        let tokens = Tokens::load(TokenSource::File(path.clone())).unwrap();
        let first = Token::new("first").unwrap();
        assert_eq!(tokens.present(), Some(first.clone()));
        assert_eq!(tokens.renewed(Some(&first)), None);
        write(&path, "the second\n");
        assert_eq!(tokens.present(), Some(first.clone()), "two words are no token");
        write(&path, "second\n");
        assert_eq!(tokens.present(), Token::new("second").ok());
        fs::remove_file(&path).unwrap();
        assert_eq!(tokens.present(), Token::new("second").ok());
    }

    #[test]
    fn a_refused_token_is_looked_up_again_even_if_its_file_looks_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, "first");
        let tokens = Tokens::load(TokenSource::File(path.clone())).unwrap();
        let first = tokens.present().unwrap();
        write(&path, "other");
        let look = look_of(&fs::metadata(&path).unwrap());
        tokens.known.lock().unwrap().as_mut().unwrap().look = Some(look);
        assert_eq!(tokens.present(), Some(first.clone()));
        assert_eq!(tokens.renewed(Some(&first)), Token::new("other").ok());
        assert_eq!(tokens.present(), Token::new("other").ok());
    }
}
