//! TLS of the TCP addresses: made from the files that the settings name, and made again when they
//! change.
//!
//! A connection keeps what it began with. Nothing is resumed: each connection proves anew who is
//! at its ends, so no ticket outlives a certificate or an authority.

mod certificate;
mod error;
mod files;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::signal::unix::Signal;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        server::{NoServerSessionStorage, WebPkiClientVerifier},
        version::{TLS12, TLS13},
    },
};

pub(super) use certificate::facts;
pub use error::{TlsError, TlsErrors};
use files::Material;
pub(super) use files::TlsFiles;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The only protocol that is spoken inside TLS.
const PROTOCOL: &[u8] = b"h2";

/// What new connections are given, and what it was made from.
pub(super) struct Tls {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    digest: [u8; 32],
    /// What was last told to be wrong, so that it is told once.
    told: Option<String>,
}

impl Tls {
    /// Reads the files; tells everything that is wrong with them.
    pub(super) fn load(files: TlsFiles) -> Result<Arc<Tls>, TlsErrors> {
        let material = Material::read(&files)?;
        let config = configure(&files, &material)?;
        tell("TLS is on", &material);
        let current = Mutex::new(Current { config, digest: material.digest(), told: None });
        Ok(Arc::new(Tls { files, current }))
    }

    /// What the next connection is given.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current.config))
    }

    /// Reads the files again and uses them if they have changed and are right. What is wrong is
    /// told once for each change, or each time if `is_asked`.
    fn look(&self, is_asked: bool) {
        let read = Material::read(&self.files).and_then(|material| {
            let is_new = {
                let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
                material.digest() != current.digest
            };
            let config = is_new.then(|| configure(&self.files, &material)).transpose()?;
            Ok((material, config))
        });
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok((material, Some(config))) => {
                let digest = material.digest();
                *current = Current { config, digest, told: None };
                tell("new connections use the changed certificates", &material);
            }
            Ok((_, None)) => {
                current.told = None;
                if is_asked {
                    tracing::info!("the certificates have not changed");
                }
            }
            Err(errors) => {
                let text = errors.to_string();
                if is_asked || current.told.as_ref() != Some(&text) {
                    tracing::error!(errors = %text, "the certificates cannot be used; new connections go on with the old ones");
                }
                current.told = Some(text);
            }
        }
    }
}

/// Looks at the files from time to time and on each SIGHUP. Without TLS the signal only does not
/// end the service.
pub(super) async fn watch(tls: Option<Arc<Tls>>, mut hangups: Signal) {
    let Some(tls) = tls else {
        while hangups.recv().await.is_some() {
            tracing::info!("SIGHUP: there is no certificate to read again");
        }
        return std::future::pending().await;
    };
    loop {
        let is_asked = tokio::select! {
            hangup = hangups.recv() => hangup.is_some(),
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        let tls = Arc::clone(&tls);
        // A file system that hangs must not hold up a worker; the next look waits for this one.
        let _ = tokio::task::spawn_blocking(move || tls.look(is_asked)).await;
    }
}

fn configure(files: &TlsFiles, material: &Material) -> Result<Arc<ServerConfig>, TlsErrors> {
    let provider = Arc::new(ring::default_provider());
    let refused = |source| TlsError::refused(files, source);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(refused)?;
    let builder = match material.authorities()? {
        None => builder.with_no_client_auth(),
        Some((path, roots)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier =
                if files.is_client_required { verifier } else { verifier.allow_unauthenticated() };
            let verifier = verifier
                .build()
                .map_err(|source| TlsError::Authorities { path: path.to_owned(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (chain, key) = material.pair()?;
    let mut config = builder.with_single_cert(chain, key).map_err(refused)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Says which certificate is shown from now on, with a warning if clients will not take it.
fn tell(what: &str, material: &Material) {
    let Some(shown) = material.shown() else { return };
    let serial = &shown.facts.serial;
    tracing::info!(serial, ends = %shown.ends, "{what}");
    if !shown.is_valid_at(SystemTime::now()) {
        tracing::warn!(
            serial,
            begins = %shown.begins,
            ends = %shown.ends,
            "clients will refuse the certificate: it is not valid now; replace the files"
        );
    }
}
