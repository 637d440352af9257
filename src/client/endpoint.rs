//! Where a service is, and how to connect to it.

use std::{fmt, io, path::PathBuf, str::FromStr, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{self, Channel, Uri};
use tower::service_fn;

use super::Error;

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
    /// A host, by name or number, and its port.
    Tcp(String),
}

impl Endpoint {
    pub(super) async fn connect(&self) -> Result<Channel, transport::Error> {
        match self {
            Endpoint::Unix(path) => {
                let path = path.clone();
                let connector = service_fn(move |_: Uri| {
                    let path = path.clone();
                    async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
                });
                let endpoint = tuned(transport::Endpoint::from_static(LOCAL_AUTHORITY));
                endpoint.connect_with_connector(connector).await
            }
            Endpoint::Tcp(address) => {
                tuned(transport::Endpoint::from_shared(format!("http://{address}"))?)
                    .connect()
                    .await
            }
        }
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    /// Takes `unix:PATH` or `HOST:PORT`.
    fn from_str(text: &str) -> Result<Endpoint, Error> {
        let wrong = || Error::BadEndpoint { text: text.to_owned() };
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.contains('\0') {
                return Err(wrong());
            }
            return Ok(Endpoint::Unix(PathBuf::from(path)));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
        let is_uri = format!("http://{text}").parse::<Uri>().is_ok_and(|uri| uri.path() == "/");
        let is_bare_v6 = host.contains(':') && !host.starts_with('[');
        if host.is_empty() || !is_port || !is_uri || is_bare_v6 || text.contains('@') {
            return Err(wrong());
        }
        Ok(Endpoint::Tcp(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Endpoint::Tcp(address) => formatter.write_str(address),
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
        for right in ["unix:/run/a.sock", "127.0.0.1:7420", "[::1]:7420", "build-7.example:80"] {
            let endpoint: Endpoint = right.parse().unwrap();
            assert_eq!(endpoint.to_string(), right);
        }
        for wrong in
            ["", "unix:", "host", "host:", ":80", "host:0", "::1:80", "http://a:80", "a:80/b"]
        {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}
