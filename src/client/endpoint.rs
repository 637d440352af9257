//! Where a service is, and how to connect to it.

use std::{fmt, io, net::IpAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{self, Channel, Uri};
use tower::service_fn;

use super::{
    CredentialError, Credentials, Error,
    tls::{Dialler, Objection},
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A silent peer is asked for a sign of life this often, and given up if none comes for
/// [`KEEP_ALIVE_TIMEOUT`].
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Large frames carry a third more bytes of output for a third less work than the usual 16 KiB.
const FRAME_BYTES_MAX: u32 = 512 << 10;

/// The authority that is sent over a unix socket, where there is no host.
const LOCAL_AUTHORITY: &str = "http://localhost";

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A unix socket at this path.
    Unix(PathBuf),
    /// A host, by name or number, and its port. What is said can be read on the way.
    Tcp(String),
    /// The same, encrypted.
    Tls(String),
}

/// A way to a service, with all that is needed to go it again.
#[derive(Debug)]
pub(super) enum Way {
    Unix(PathBuf),
    Tcp(String),
    Tls(String, Arc<Dialler>),
}

impl Endpoint {
    /// Whether others can listen on the way: a network, and no encryption.
    pub(super) fn is_plaintext_network(&self) -> bool {
        match self {
            Endpoint::Unix(_) | Endpoint::Tls(_) => false,
            Endpoint::Tcp(address) => {
                let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
                let number = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
                // Any other name is what somebody's name server says it is.
                host != "localhost" && !number.is_ok_and(|number| number.is_loopback())
            }
        }
    }

    /// The way there for somebody with these credentials.
    pub(super) fn way(&self, credentials: &Credentials) -> Result<Way, CredentialError> {
        Ok(match self {
            Endpoint::Unix(path) => Way::Unix(path.clone()),
            Endpoint::Tcp(address) => Way::Tcp(address.clone()),
            Endpoint::Tls(address) => {
                Way::Tls(address.clone(), Arc::new(Dialler::new(address, &credentials.tls)?))
            }
        })
    }
}

impl Way {
    /// Where it is noted what the two sides have against each other.
    pub(super) fn objection(&self) -> Objection {
        match self {
            Way::Unix(_) | Way::Tcp(_) => Objection::default(),
            Way::Tls(_, dialler) => dialler.objection(),
        }
    }

    /// Connects; the channel connects again by itself when it has to.
    pub(super) async fn connect(self) -> Result<Channel, transport::Error> {
        match self {
            Way::Unix(path) => {
                let connector = service_fn(move |_: Uri| {
                    let path = path.clone();
                    async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
                });
                let endpoint = tuned(transport::Endpoint::from_static(LOCAL_AUTHORITY));
                endpoint.connect_with_connector(connector).await
            }
            Way::Tcp(address) => {
                tuned(transport::Endpoint::from_shared(format!("http://{address}"))?)
                    .connect()
                    .await
            }
            Way::Tls(address, dialler) => {
                let origin = transport::Endpoint::from_shared(format!("https://{address}"))?;
                let origin = origin.uri().clone();
                let connector = service_fn(move |_: Uri| {
                    let dialler = dialler.clone();
                    async move { dialler.dial().await.map(TokioIo::new) }
                });
                // The connector does the encrypting: the channel knows of it from the origin alone.
                let endpoint = transport::Endpoint::from_shared(format!("http://{address}"))?;
                tuned(endpoint).origin(origin).connect_with_connector(connector).await
            }
        }
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    /// Takes `unix:PATH`, `HOST:PORT` or `https://HOST:PORT`.
    fn from_str(text: &str) -> Result<Endpoint, Error> {
        let wrong = || Error::BadEndpoint { text: text.to_owned() };
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.contains('\0') {
                return Err(wrong());
            }
            return Ok(Endpoint::Unix(PathBuf::from(path)));
        }
        let encrypted = text.strip_prefix("https://");
        let address = encrypted.unwrap_or(text);
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
        let is_uri = format!("http://{address}").parse::<Uri>().is_ok_and(|uri| uri.path() == "/");
        let is_bare_v6 = host.contains(':') && !host.starts_with('[');
        if host.is_empty() || !is_port || !is_uri || is_bare_v6 || address.contains('@') {
            return Err(wrong());
        }
        let address = address.to_owned();
        Ok(if encrypted.is_some() { Endpoint::Tls(address) } else { Endpoint::Tcp(address) })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Endpoint::Tcp(address) => formatter.write_str(address),
            Endpoint::Tls(address) => write!(formatter, "https://{address}"),
        }
    }
}

fn tuned(endpoint: transport::Endpoint) -> transport::Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_frame_size(FRAME_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_socket_or_a_host_and_port() {
        for right in [
            "unix:/run/a.sock",
            "127.0.0.1:7420",
            "[::1]:7420",
            "build-7.example:80",
            "https://[::1]:1",
            "https://a.example:7420",
        ] {
            let endpoint: Endpoint = right.parse().unwrap();
            assert_eq!(endpoint.to_string(), right);
        }
        for wrong in [
            "",
            "unix:",
            "host",
            "host:",
            ":80",
            "host:0",
            "::1:80",
            "http://a:80",
            "a:80/b",
            "https://",
            "https://a",
            "https://a:1/b",
            "https://https://a:1",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}
