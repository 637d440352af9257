//! Plain connections to a service, over TCP or its unix socket.

use std::{net::SocketAddr, path::Path};

use tonic::transport::{Channel, Endpoint};

pub(super) async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("it is an address");
    endpoint.connect().await.expect("the service answers")
}

pub(super) async fn connect_to_socket(root: &Path) -> Channel {
    let path = root.join("jobwarden.sock");
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.expect("the socket answers")
}
