//! What can go wrong with the store, by what a caller can do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::record::RecordError;

/// A fault of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An operation on a file or folder failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such job.
    #[error("there is no job {0}")]
    Missing(String),
    /// A record of a job cannot be understood.
    #[error("{} is broken: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another service has the store.
    #[error("another service has the store {}: {holder}", root.display())]
    InUse {
        /// The root.
        root: PathBuf,
        /// What the other wrote about itself.
        holder: String,
    },
    /// The store has a format that this program does not read.
    #[error("{} says {found:?}, but this program reads {expected:?}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// Others may put into the store what this service would run.
    #[error("{} is not safe: {why}", root.display())]
    Exposed {
        /// The folder.
        root: PathBuf,
        /// Who may, and what to do about it.
        why: String,
    },
    /// A folder that is not empty is not a store.
    #[error("{} is not empty and has no VERSION file, so it is not a store", root.display())]
    NotAStore {
        /// The folder.
        root: PathBuf,
    },
}

impl StoreError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn corrupt(path: PathBuf) -> impl FnOnce(RecordError) -> Self {
        move |error| Self::Corrupt { path, why: error.to_string() }
    }

    /// Whether the cause is a full disk or quota.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if crate::sys::is_disk_full(source))
    }

    /// Whether the cause is that something is not there.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Missing(_) => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Corrupt { .. }
            | Self::InUse { .. }
            | Self::Version { .. }
            | Self::Exposed { .. }
            | Self::NotAStore { .. } => false,
        }
    }
}
