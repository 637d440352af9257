//! The file of tokens below the root: `access/tokens.json`, private to the account.
//!
//! Writers (`jobwarden token`) go one after the other by a lock and replace the file whole; the
//! service only reads it, again whenever it has been replaced.

use std::{
    collections::HashMap,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Role,
    token::{Presented, Secret, TokenRecord, is_token_name},
};
use crate::{
    job::Time,
    sys::{clock, fs, lock::Lock, process},
};

/// The folder of all that is about access, below the root.
pub const FOLDER: &str = "access";
const TOKENS: &str = "tokens.json";
const LOCK: &str = "tokens.lock";
/// The form of the file.
const FORMAT: u32 = 1;
/// The most tokens.
pub const TOKENS_MAX: usize = 10_000;
const FILE_BYTES_MAX: usize = TOKENS_MAX * 512;
/// How often and how long a writer waits for another.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
const LOCK_TRIES: u32 = 500;

/// Why tokens cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The name is none.
    #[error("a name has 1 to 64 letters, digits or any of . _ - @")]
    Name,
    /// There are too many.
    #[error("there are {TOKENS_MAX} tokens already; revoke some that are not needed")]
    TooMany,
    /// No token has this id or name.
    #[error("no token has the id or the name {0:?}; `jobwarden token list` shows them")]
    Unknown(String),
    /// The task directory is somebody else's.
    #[error(
        "{} belongs to the user {uid}, whose service reads the tokens; run this as that user, for \
         example with `sudo -u '#{uid}'`",
        root.display()
    )]
    NotOwner {
        /// The task directory.
        root: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Another process is writing for too long.
    #[error("another process is changing the tokens; try again")]
    Busy,
    /// The file is not what we write.
    #[error("{} is no list of tokens; repair or remove it: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The disk failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    tokens: Vec<TokenRecord>,
}

/// Which of its versions a file is: a replaced file has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64, u64, i64, i64, u64);

/// Where the tokens are.
#[derive(Clone, Debug)]
pub struct TokenFile {
    folder: PathBuf,
}

impl TokenFile {
    /// The tokens of the task directory `root`.
    pub fn of(root: &Path) -> Self {
        Self { folder: root.join(FOLDER) }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(TOKENS)
    }

    /// Which version of the file is there; none if there is none.
    pub fn version(&self) -> Option<Version> {
        let it = std::fs::symlink_metadata(self.path()).ok()?;
        Some(Version(it.dev(), it.ino(), it.ctime(), it.ctime_nsec(), it.size()))
    }

    /// All tokens, oldest first; none if there is no file.
    pub fn read(&self) -> Result<Vec<TokenRecord>, TokenError> {
        let path = self.path();
        let read = fs::read_small_if_any(&path, FILE_BYTES_MAX);
        let Some(bytes) = read.map_err(failed("read", &path))? else { return Ok(Vec::new()) };
        parse(&bytes).map_err(|why| TokenError::Corrupt { path, why })
    }

    /// Makes a token. What is returned is nowhere else.
    pub fn create(
        &self,
        name: &str,
        role: Role,
        expires_after: Option<Duration>,
    ) -> Result<(TokenRecord, Secret), TokenError> {
        if !is_token_name(name) {
            return Err(TokenError::Name);
        }
        let created = Time::from(clock::now());
        let expires = expires_after.map(|span| created.after(span));
        let path = self.path();
        self.change(|tokens| {
            if tokens.len() >= TOKENS_MAX {
                return Err(TokenError::TooMany);
            }
            let (record, secret) = TokenRecord::make(name, role, created, expires)
                .map_err(failed("make a token for", &path))?;
            tokens.push(record.clone());
            Ok((record, secret))
        })
    }

    /// Removes the token with this id, or all with this name; those that were removed.
    pub fn revoke(&self, id_or_name: &str) -> Result<Vec<TokenRecord>, TokenError> {
        self.change(|tokens| {
            let is_id = tokens.iter().any(|token| token.id == id_or_name);
            let is_meant = |token: &mut TokenRecord| {
                if is_id { token.id == id_or_name } else { token.name == id_or_name }
            };
            let revoked: Vec<_> = tokens.extract_if(.., is_meant).collect();
            if revoked.is_empty() {
                return Err(TokenError::Unknown(id_or_name.to_owned()));
            }
            Ok(revoked)
        })
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<TokenRecord>) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        self.check_owner()?;
        fs::create_dir_all(&self.folder).map_err(failed("make", &self.folder))?;
        let _lock = self.lock()?;
        let mut tokens = self.read()?;
        let changed = change(&mut tokens)?;
        let stored = Stored { format: FORMAT, tokens };
        let path = self.path();
        let bytes = serde_json::to_vec_pretty(&stored)
            .map_err(|error| failed("write", &path)(error.into()))?;
        fs::replace(&self.folder, TOKENS, &bytes, true).map_err(failed("write", &path))?;
        fs::sync_dir(&self.folder).map_err(failed("sync", &self.folder))?;
        Ok(changed)
    }

    /// What another user writes here the service could not read, and then nobody would be let in.
    fn check_owner(&self) -> Result<(), TokenError> {
        let root = self.folder.parent().unwrap_or(&self.folder);
        match std::fs::metadata(root) {
            Ok(found) if found.uid() != process::own_uid() => {
                Err(TokenError::NotOwner { root: root.to_owned(), uid: found.uid() })
            }
            // One that is not there yet will be ours.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn lock(&self) -> Result<Lock, TokenError> {
        let path = self.folder.join(LOCK);
        for _ in 0..LOCK_TRIES {
            let file = fs::open_or_create(&path).map_err(failed("open", &path))?;
            if let Some(lock) = Lock::try_take_file(file).map_err(failed("lock", &path))? {
                return Ok(lock);
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        Err(TokenError::Busy)
    }
}

/// The tokens in the bytes of a file, or what is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<TokenRecord>, String> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if stored.format != FORMAT {
        return Err(format!("its format is {}, not {FORMAT}", stored.format));
    }
    Ok(stored.tokens)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TokenError {
    let path = path.to_owned();
    move |source| TokenError::Io { action, path, source }
}

/// The tokens by id, as they were when the file was read.
#[derive(Clone, Debug, Default)]
pub struct TokenTable(HashMap<String, TokenRecord>);

impl TokenTable {
    /// The table of these tokens.
    pub fn new(tokens: Vec<TokenRecord>) -> Self {
        Self(tokens.into_iter().map(|token| (token.id.clone(), token)).collect())
    }

    /// The token that a text is, expired or not; none if it is none of ours.
    pub fn find(&self, text: &str) -> Option<&TokenRecord> {
        let presented = Presented::parse(text)?;
        self.0.get(presented.id).filter(|token| token.is_proven_by(&presented))
    }

    /// The token with this id.
    pub fn get(&self, id: &str) -> Option<&TokenRecord> {
        self.0.get(id)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_found_until_it_is_revoked_and_the_file_is_private() {
        let root = tempfile::tempdir().unwrap();
        let file = TokenFile::of(root.path());
        assert_eq!((file.read().unwrap(), file.version()), (Vec::new(), None));
        let (first, secret) = file.create("ci", Role::Submitter, None).unwrap();
        let before = file.version().unwrap();
        let (second, _) = file.create("ci", Role::Reader, Some(Duration::from_secs(9))).unwrap();
        assert_ne!(file.version().unwrap(), before);
        assert_eq!(file.read().unwrap(), [first.clone(), second.clone()]);
        let table = TokenTable::new(file.read().unwrap());
        assert_eq!(table.find(secret.reveal()), Some(&first));
        let mode = file.path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);

        assert_eq!(file.revoke(&first.id).unwrap(), [first]);
        assert!(TokenTable::new(file.read().unwrap()).find(secret.reveal()).is_none());
        assert_eq!(file.revoke("ci").unwrap(), [second]);
        assert!(matches!(file.revoke("ci"), Err(TokenError::Unknown(_))));
    }

    #[test]
    fn what_is_no_list_of_tokens_is_refused_and_never_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let file = TokenFile::of(root.path());
        std::fs::create_dir(root.path().join(FOLDER)).unwrap();
        for text in ["", "{}", r#"{"format":2,"tokens":[]}"#, r#"{"format":1,"tokens":[{}]}"#] {
            std::fs::write(file.path(), text).unwrap();
            assert!(matches!(file.create("a", Role::Admin, None), Err(TokenError::Corrupt { .. })));
            assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text);
        }
        assert!(matches!(file.create("a b", Role::Admin, None), Err(TokenError::Name)));
    }
}
