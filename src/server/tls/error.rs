//! What is wrong with the files of TLS, each with what to do about it.
//!
//! Causes stand in the texts: there may be several errors, and a list has no one source.

use std::{fmt, io, path::PathBuf};

use tokio_rustls::rustls::{self, server::VerifierBuilderError};

use super::files::TlsFiles;

/// One thing that is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("cannot read {}: {source}; name a file that this account can read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the key.
    #[error(
        "{} is a key that other users can use (mode {mode:04o}); run: chmod 600 {}",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Others can change whom clients or the service trust.
    #[error(
        "{} can be changed by other users (mode {mode:04o}); run: chmod go-w {}",
        path.display(), path.display()
    )]
    Changeable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It does not hold what it should.
    #[error("{} holds no {what} in PEM form; give the file that does", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A part of it is not what it says.
    #[error("{} holds a {what} that cannot be read: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key do not belong together.
    #[error(
        "{} is not the key of the certificate in {}; give the two that belong together",
        key.display(), cert.display()
    )]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// Certificate and key cannot be used.
    #[error("cannot use {} with {}: {source}", cert.display(), key.display())]
    Refused {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The authorities cannot be used.
    #[error("cannot use the authorities in {}: {source}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        source: VerifierBuilderError,
    },
}

impl TlsError {
    /// What the library's refusal of certificate and key means.
    pub(super) fn refused(files: &TlsFiles, source: rustls::Error) -> TlsError {
        let (cert, key) = (files.cert.clone(), files.key.clone());
        match source {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { cert, key },
            source => TlsError::Refused { cert, key, source },
        }
    }
}

/// Everything that is wrong, at least one thing.
#[derive(Debug)]
pub struct TlsErrors(pub Vec<TlsError>);

impl From<TlsError> for TlsErrors {
    fn from(error: TlsError) -> TlsErrors {
        TlsErrors(vec![error])
    }
}

impl fmt::Display for TlsErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            let gap = if at == 0 { "" } else { "; " };
            write!(formatter, "{gap}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for TlsErrors {}
