//! TLS towards the service: which certificates are believed, which one is shown, and what the two
//! sides have against each other if it does not come about.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, AlertDescription, CertificateError, ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

use super::{CredentialError, secret_file};

/// The largest PEM file that is read. All authorities of a system take a quarter of it.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Where systems keep the authorities that they trust.
const SYSTEM_CA_FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The files and the name that TLS is set up with.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsFiles {
    pub(super) ca: Option<PathBuf>,
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    pub(super) server_name: Option<String>,
}

/// Makes TLS connections to one service.
#[derive(Debug)]
pub(super) struct Dialler {
    address: String,
    server_name: ServerName<'static>,
    files: TlsFiles,
    /// The settings of the last files that could be used.
    config: Mutex<Arc<ClientConfig>>,
    objection: Objection,
}

/// What one side has against the other, as far as it is known: the layers above lose it.
#[derive(Clone, Debug, Default)]
pub(super) struct Objection(Arc<Mutex<Option<rustls::Error>>>);

impl Dialler {
    /// Reads all files; `address` is HOST:PORT.
    pub(super) fn new(address: &str, files: &TlsFiles) -> Result<Dialler, CredentialError> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = files.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|_| CredentialError::BadServerName { name: name.to_owned() })?;
        Ok(Dialler {
            address: address.to_owned(),
            server_name,
            files: files.clone(),
            config: Mutex::new(Arc::new(config(files)?)),
            objection: Objection::default(),
        })
    }

    /// Where what goes wrong is noted.
    pub(super) fn objection(&self) -> Objection {
        self.objection.clone()
    }

    /// Connects and agrees on TLS, with the files as they are now if they can be used.
    pub(super) async fn dial(&self) -> io::Result<Encrypted> {
        self.objection.note(None);
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let handshake =
            TlsConnector::from(self.present()).connect(self.server_name.clone(), stream).await;
        let stream = handshake.inspect_err(|error| self.objection.note_from(error))?;
        Ok(Encrypted { stream, objection: self.objection.clone() })
    }

    fn present(&self) -> Arc<ClientConfig> {
        let mut known = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(config) = config(&self.files) {
            *known = Arc::new(config);
        }
        known.clone()
    }
}

impl Objection {
    /// What is held against this connection, if it will be held against the next as well.
    pub(super) fn lasting(&self) -> Option<(TlsFault, rustls::Error)> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        TlsFault::of(&noted).map(|fault| (fault, noted))
    }

    fn note(&self, error: Option<rustls::Error>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    fn note_from(&self, error: &io::Error) {
        let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        if let Some(error) = error {
            self.note(Some(error.clone()));
        }
    }
}

/// Why two sides will not agree on TLS however often they try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// No authority that we believe vouches for the service.
    Untrusted,
    /// The service's certificate is for another host.
    OtherName,
    /// The service's certificate is not valid at this time.
    Expired,
    /// The service wants a certificate from us, or another one.
    Refused,
    /// The two have no version or method in common, or what answers does not speak TLS.
    NotSpoken,
}

impl TlsFault {
    fn of(error: &rustls::Error) -> Option<TlsFault> {
        use AlertDescription as Alert;
        Some(match error {
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => TlsFault::OtherName,
            rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => TlsFault::Expired,
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                TlsFault::Untrusted
            }
            rustls::Error::AlertReceived(
                Alert::CertificateRequired
                | Alert::NoCertificate
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied,
            ) => TlsFault::Refused,
            rustls::Error::AlertReceived(
                Alert::ProtocolVersion
                | Alert::InsufficientSecurity
                | Alert::NoApplicationProtocol
                | Alert::HandshakeFailure,
            )
            | rustls::Error::InvalidMessage(_)
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::NoApplicationProtocol => TlsFault::NotSpoken,
            // Anything else may be an accident of this one connection.
            _ => return None,
        })
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            TlsFault::Untrusted => "no trusted authority vouches for the certificate of",
            TlsFault::OtherName => "another host is named in the certificate of",
            TlsFault::Expired => "out of its time is the certificate of",
            TlsFault::Refused => "our certificate, or the lack of one, is refused by",
            TlsFault::NotSpoken => "no common way to speak TLS was found with",
        })
    }
}

/// An encrypted connection that notes why the other side gave it up.
///
/// In TLS 1.3 a service looks at our certificate when the connection already stands for us, so
/// what it has against it comes with the first bytes that we read.
#[derive(Debug)]
pub(super) struct Encrypted {
    stream: TlsStream<TcpStream>,
    objection: Objection,
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &read {
            self.objection.note_from(error);
        }
        read
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Err(error)) = &written {
            self.objection.note_from(error);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn config(files: &TlsFiles) -> Result<ClientConfig, CredentialError> {
    let unusable = |source| CredentialError::Tls { source };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots(files.ca.as_deref())?);
    let mut config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate, "certificate file")?;
            let (pem, _) = secret_file::read("key file", key, PEM_BYTES_MAX)?;
            let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
                let why = "holds no private key in PEM without a passphrase";
                CredentialError::BadContent { path: key.clone(), why }
            })?;
            builder.with_client_auth_cert(chain, key).map_err(unusable)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The authorities in the file at `ca`, or those of the system.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, CredentialError> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = ca {
        for certificate in certificates(ca, "CA file")? {
            roots.add(certificate).map_err(|source| CredentialError::Tls { source })?;
        }
        return Ok(roots);
    }
    if let Some(ca) = SYSTEM_CA_FILES.iter().map(Path::new).find(|path| path.exists()) {
        // One odd certificate among those of a system is no reason to trust none of them.
        roots.add_parsable_certificates(certificates(ca, "CA file")?);
    }
    Ok(roots)
}

fn certificates(
    path: &Path,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let pem = secret_file::read_public(what, path, PEM_BYTES_MAX)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    certificates.ok().filter(|found| !found.is_empty()).ok_or_else(|| CredentialError::BadContent {
        path: path.to_owned(),
        why: "holds no certificate in PEM",
    })
}
