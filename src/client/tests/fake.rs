//! A service that knows one token and refuses on demand, authorities, and an end of TLS before it.
//!
//! The real service is what tests/integration drives; it cannot be made to refuse in the middle of
//! a stream at a chosen moment.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::WebPkiClientVerifier,
    },
};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream, wrappers::WatchStream};
use tonic::{
    Response, Status,
    body::Body,
    codegen::{Service, http},
    server::{Grpc, NamedService},
    transport::Server,
};
use tonic_prost::ProstCodec;

use super::super::Endpoint;
use crate::api::{
    Bookmark, StatusRequest, StatusResponse, WatchEventsRequest, WatchEventsResponse,
    watch_events_response::Kind,
};

type Events = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

type Happening = Box<dyn Fn() + Send>;

/// Answers `Status` and `WatchEvents` to whoever has the token; everything else is not permitted.
#[derive(Clone)]
pub(super) struct Fake {
    address: SocketAddr,
    token: Arc<watch::Sender<String>>,
    calls: Arc<AtomicUsize>,
    on_call: Arc<Mutex<Option<Happening>>>,
}

impl Fake {
    pub(super) async fn start(token: &str) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Fake {
            address: listener.local_addr().unwrap(),
            token: Arc::new(watch::Sender::new(token.to_owned())),
            calls: Arc::default(),
            on_call: Arc::default(),
        };
        let server = Server::builder().add_service(fake.clone());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        fake
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.address.to_string().parse().unwrap()
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Has something happen when a call has come and before it is answered.
    pub(super) fn on_call(&self, happens: impl Fn() + Send + 'static) {
        *self.on_call.lock().unwrap() = Some(Box::new(happens));
    }

    /// Revokes the token: open streams are ended.
    pub(super) fn accept_only(&self, token: &str) {
        self.token.send_replace(token.to_owned());
    }

    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if let Some(happens) = &*self.on_call.lock().unwrap() {
            happens();
        }
        let shown = request.headers().get("authorization").cloned();
        let bearer = |token: &str| format!("Bearer {token}");
        let shown = shown.and_then(|value| value.to_str().map(str::to_owned).ok());
        if shown.as_deref() != Some(&bearer(&self.token.borrow())) {
            return Status::unauthenticated("who are you?").into_http();
        }
        match request.uri().path().rsplit('/').next() {
            Some("Status") => {
                let reply = tower::service_fn(async |_: tonic::Request<StatusRequest>| {
                    Ok(Response::new(StatusResponse::default()))
                });
                Grpc::new(ProstCodec::default()).unary(reply, request).await
            }
            Some("WatchEvents") => {
                let first = shown.unwrap_or_default();
                let tokens = WatchStream::new(self.token.subscribe());
                let events = tokens.map(move |token| {
                    if bearer(&token) != first {
                        return Err(Status::unauthenticated("not any more"));
                    }
                    let kind = Some(Kind::Bookmark(Bookmark::default()));
                    Ok(WatchEventsResponse { kind, ..Default::default() })
                });
                let events: Events = Box::pin(events);
                let mut events = Some(events);
                let reply = tower::service_fn(move |_: tonic::Request<WatchEventsRequest>| {
                    let events = events.take().expect("called once");
                    async move { Ok(Response::new(events)) }
                });
                Grpc::new(ProstCodec::default()).server_streaming(reply, request).await
            }
            _ => Status::permission_denied("not for you").into_http(),
        }
    }
}

impl NamedService for Fake {
    const NAME: &'static str = "jobwarden.v1.JobService";
}

impl Service<http::Request<Body>> for Fake {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let fake = self.clone();
        Box::pin(async move { Ok(fake.answer(request).await) })
    }
}

/// Makes certificates for services and clients.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    file: PathBuf,
    last: Mutex<Vec<u8>>,
}

/// A certificate with its key.
pub(super) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Authority {
    pub(super) fn new(folder: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = folder.join(format!("{name}.ca.pem"));
        fs::write(&file, certificate.pem()).unwrap();
        let certificate = certificate.der().clone();
        Authority { issuer: Issuer::new(params, key), certificate, file, last: Mutex::default() }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn service(&self, host: &str) -> Identity {
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { chain: vec![certificate.der().clone()], key }
    }

    /// Writes a certificate for a client and its key.
    pub(super) fn client(&self, name: &str, certificate: &Path, key: &Path) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let pair = KeyPair::generate().unwrap();
        let made = params.signed_by(&pair, &self.issuer).unwrap();
        fs::write(certificate, made.pem()).unwrap();
        fs::write(key, pair.serialize_pem()).unwrap();
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
        *self.last.lock().unwrap() = made.der().to_vec();
    }

    /// The certificate that was made last for a client.
    pub(super) fn last(&self) -> Vec<u8> {
        self.last.lock().unwrap().clone()
    }
}

/// Takes TLS connections and passes what they bring to a service.
pub(super) struct Terminator {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    last_client: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Terminator {
    pub(super) async fn start(
        identity: &Identity,
        clients: Option<&Authority>,
        fake: &Fake,
    ) -> Terminator {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(identity, clients)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let terminator = Terminator {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            last_client: Arc::default(),
        };
        let connections = Arc::clone(&terminator.connections);
        let (last_client, service) = (Arc::clone(&terminator.last_client), fake.address);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, last_client) = (acceptor.clone(), Arc::clone(&last_client));
                let connection = tokio::spawn(async move {
                    // A client that is refused is what some tests want.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let shown = stream.get_ref().1.peer_certificates();
                    *last_client.lock().unwrap() = shown.map(|chain| chain[0].to_vec());
                    let mut inner = tokio::net::TcpStream::connect(service).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut inner).await;
                });
                connections.lock().unwrap().push(connection);
            }
        });
        terminator
    }

    /// How to reach it by a name of this machine.
    pub(super) fn at(&self, host: &str) -> String {
        format!("https://{host}:{}", self.address.port())
    }

    pub(super) fn endpoint(&self, host: &str) -> Endpoint {
        self.at(host).parse().unwrap()
    }

    /// Cuts all connections.
    pub(super) fn cut(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }

    /// The certificate of the client that connected last.
    pub(super) fn last_client(&self) -> Option<Vec<u8>> {
        self.last_client.lock().unwrap().clone()
    }
}

fn server_config(identity: &Identity, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let mut config = builder.with_single_cert(identity.chain.clone(), key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
