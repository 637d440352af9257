//! The files of TLS: read whole, checked for who can read the key, taken apart.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{
    TlsError, TlsErrors,
    certificate::{self, Shown},
};
use crate::{
    config::{ClientAuth, Network},
    sys::fs,
};

/// The longest file that is read: bundles of every public authority take 250 KiB.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// The bits of a mode that let others use a file, and those that let others change it.
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;

/// Where everything is.
#[derive(Clone, Debug)]
pub(in crate::server) struct TlsFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    client_ca: Option<PathBuf>,
    pub(super) is_client_required: bool,
}

impl TlsFiles {
    /// The files that the settings name, if TLS is to be spoken.
    pub(in crate::server) fn of(network: &Network) -> Option<TlsFiles> {
        Some(TlsFiles {
            cert: network.tls_cert.clone()?,
            key: network.tls_key.clone()?,
            client_ca: network.tls_client_ca.clone(),
            is_client_required: network.tls_client_auth == ClientAuth::Required,
        })
    }
}

/// What the files hold.
pub(super) struct Material {
    cert: Text,
    key: Text,
    client_ca: Option<Text>,
}

struct Text {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Material {
    /// Reads all files, and tells all that cannot be.
    pub(super) fn read(files: &TlsFiles) -> Result<Material, TlsErrors> {
        let mut errors = Vec::new();
        let mut take = |read: Result<Text, TlsError>| read.map_err(|it| errors.push(it)).ok();
        let cert = take(read(&files.cert, false));
        let key = take(read(&files.key, true));
        let client_ca = files.client_ca.as_deref().map(|path| take(read(path, false)));
        match (cert, key, client_ca) {
            (Some(cert), Some(key), None) => Ok(Material { cert, key, client_ca: None }),
            (Some(cert), Some(key), Some(Some(client_ca))) => {
                Ok(Material { cert, key, client_ca: Some(client_ca) })
            }
            _ => Err(TlsErrors(errors)),
        }
    }

    /// Changes if a byte of a file does.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for text in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()] {
            let bytes = text.map_or(&[][..], |text| &text.bytes);
            digest.update(bytes.len().to_le_bytes());
            digest.update(bytes);
        }
        digest.finalize().into()
    }

    /// The server's certificate with those above it, and its key.
    pub(super) fn pair(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsErrors> {
        let chain = certificates(&self.cert);
        let key = match PrivateKeyDer::pem_slice_iter(&self.key.bytes).next() {
            Some(Ok(key)) => Ok(key),
            Some(Err(error)) => Err(self.key.malformed("private key", &error)),
            None => Err(self.key.missing("private key")),
        };
        match (chain, key) {
            (Ok(chain), Ok(key)) => Ok((chain, key)),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error.into()),
            (Err(one), Err(other)) => Err(TlsErrors(vec![one, other])),
        }
    }

    /// The authorities of clients, with where they stand.
    pub(super) fn authorities(&self) -> Result<Option<(&Path, Arc<RootCertStore>)>, TlsErrors> {
        let Some(text) = &self.client_ca else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(text)? {
            roots
                .add(certificate)
                .map_err(|error| text.malformed("certificate of an authority", &error))?;
        }
        Ok(Some((&text.path, Arc::new(roots))))
    }

    /// What the server's own certificate says of itself.
    pub(super) fn shown(&self) -> Option<Shown> {
        let chain = certificates(&self.cert).ok()?;
        certificate::shown(chain.first()?)
    }
}

impl Text {
    fn malformed(&self, what: &'static str, why: &impl ToString) -> TlsError {
        TlsError::Malformed { path: self.path.clone(), what, why: why.to_string() }
    }

    fn missing(&self, what: &'static str) -> TlsError {
        TlsError::Missing { path: self.path.clone(), what }
    }
}

fn read(path: &Path, is_secret: bool) -> Result<Text, TlsError> {
    let (bytes, mode) = fs::read_named(path, FILE_BYTES_MAX)
        .map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
    if is_secret && mode & OTHERS != 0 {
        return Err(TlsError::Exposed { path: path.to_owned(), mode });
    }
    if mode & OTHERS_WRITE != 0 {
        return Err(TlsError::Changeable { path: path.to_owned(), mode });
    }
    Ok(Text { path: path.to_owned(), bytes })
}

fn certificates(text: &Text) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text.bytes).collect();
    let chain = read.map_err(|error| text.malformed("certificate", &error))?;
    if chain.is_empty() { Err(text.missing("certificate")) } else { Ok(chain) }
}
