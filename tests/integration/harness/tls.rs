//! TLS in tests: authorities, certificates, files of them, and clients that speak it.

use std::{
    fs::{self, Permissions},
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_util::rt::TokioIo;
use jobwarden::api::job_service_client::JobServiceClient;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
        version::{TLS12, TLS13},
    },
};
use tonic::transport::{Channel, Endpoint, Error};

/// The name that certificates of services are for.
const NAME: &str = "localhost";

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are fine names");
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        Authority(CertifiedIssuer::self_signed(params, key).expect("it signs itself"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of a service, another each time.
    pub(crate) fn server(&self) -> Pair {
        self.sign(&CertificateParams::new([NAME.to_owned()]).expect("it is a name"))
    }

    /// A certificate of a service that has run out.
    pub(crate) fn expired(&self) -> Pair {
        let mut params = CertificateParams::new([NAME.to_owned()]).expect("it is a name");
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        self.sign(&params)
    }

    /// A certificate of a client.
    pub(crate) fn client(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are fine names");
        params.distinguished_name = named(name);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key can be made");
        let cert = params.signed_by(&key, &self.0).expect("it can be signed");
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// Certificate and key of a service in a folder.
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Files {
    /// Writes them, each all at once.
    pub(crate) fn write(folder: &Path, pair: &Pair) -> Files {
        let files = Files { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
        replace(&files.cert, &pair.cert, 0o644);
        replace(&files.key, &pair.key, 0o600);
        files
    }

    pub(crate) fn flags(&self) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        vec!["--tls-cert".into(), text(&self.cert), "--tls-key".into(), text(&self.key)]
    }
}

/// Puts a file with this text and mode at `path`; who opens it sees the old one or the new one.
pub(crate) fn replace(path: &Path, text: &str, mode: u32) {
    let next = path.with_extension("next");
    fs::write(&next, text).expect("the file can be written");
    fs::set_permissions(&next, Permissions::from_mode(mode)).expect("it is ours");
    fs::rename(&next, path).expect("it can take its place");
}

/// A client that speaks TLS.
#[derive(Clone)]
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
}

/// What a client differs in from the usual one, which has no certificate.
#[derive(Default)]
pub(crate) struct ClientSetup<'a> {
    pub(crate) pair: Option<&'a Pair>,
    pub(crate) is_old: bool,
    pub(crate) protocol: Option<&'a str>,
}

impl TlsClient {
    /// A client that trusts what `authority` signed.
    pub(crate) fn new(authority: &Authority, setup: &ClientSetup<'_>) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).expect("it is an authority");
        let versions: &[&SupportedProtocolVersion] =
            if setup.is_old { &[&TLS12] } else { &[&TLS13] };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("the versions are supported")
            .with_root_certificates(roots);
        let mut config = match setup.pair {
            None => builder.with_no_client_auth(),
            Some(Pair { cert, key }) => {
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("it is one");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("it is one");
                builder.with_client_auth_cert(vec![cert], key).expect("they belong together")
            }
        };
        config.alpn_protocols = vec![setup.protocol.unwrap_or("h2").as_bytes().to_vec()];
        TlsClient { config: Arc::new(config) }
    }

    /// Shakes hands. With TLS 1.3 the service may refuse the client's certificate only later.
    pub(crate) async fn shake(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(NAME).expect("it is a name");
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }

    /// The certificate that the service shows now.
    pub(crate) async fn shown(&self, address: SocketAddr) -> io::Result<CertificateDer<'static>> {
        let stream = self.shake(address).await?;
        let chain = stream.get_ref().1.peer_certificates().expect("it showed one");
        Ok(chain[0].clone())
    }

    /// A client on a connection of its own.
    pub(crate) async fn api(
        &self,
        address: SocketAddr,
    ) -> Result<JobServiceClient<Channel>, Error> {
        self.channel(address).await.map(JobServiceClient::new)
    }

    /// A connection of its own.
    pub(crate) async fn channel(&self, address: SocketAddr) -> Result<Channel, Error> {
        let client = self.clone();
        let connector = tower::service_fn(move |_| {
            let client = client.clone();
            async move { client.shake(address).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        endpoint.connect_with_connector(connector).await
    }
}

/// The certificate in a pair as it is shown.
pub(crate) fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("it is one")
}
