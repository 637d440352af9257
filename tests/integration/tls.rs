//! TLS: who may connect, with what, and what keeps the service from starting.

use std::{io, net::SocketAddr, path::Path};

use jobwarden::api::{GetServerInfoRequest, ListRequest};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use tonic::Code;

use crate::harness::{
    Daemon, Setup, serve_to_end,
    tls::{Authority, ClientSetup, Files, Pair, TlsClient, replace},
    within,
};

/// A service that speaks TLS, with `more` flags.
async fn start(pair: &Pair, more: &[&str]) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    start_in(folder, pair, more).await
}

async fn start_in(folder: TempDir, pair: &Pair, more: &[&str]) -> Daemon {
    let mut flags = Files::write(folder.path(), pair).flags();
    flags.extend(more.iter().map(ToString::to_string));
    let root = folder.path().join("root");
    // Loopback without a token goes with loopback addresses alone.
    let needs_token = more.contains(&"--listen");
    Daemon::start_on(Setup { flags, needs_token, ..Setup::default() }, root, folder).await
}

/// A service that trusts clients of `clients`.
async fn start_with_clients(pair: &Pair, clients: &Authority, how: &str) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clients.pem");
    replace(&path, &clients.pem(), 0o644);
    let path = path.display().to_string();
    let rule = ["--certificates", "CN:ada=submitter"];
    let flags = ["--tls-client-ca", &path, "--tls-client-auth", how];
    start_in(folder, pair, &[&flags[..], &rule].concat()).await
}

/// Whether a call of this client is answered.
async fn is_answered(client: &TlsClient, address: SocketAddr) -> bool {
    let calling = async {
        let Ok(mut api) = client.api(address).await else { return false };
        let answer = api.get_server_info(GetServerInfoRequest {}).await;
        // One that asks for a token is an answer too.
        answer.map_or_else(|status| status.code() == Code::Unauthenticated, |_| true)
    };
    within("an answer or a refusal", calling).await
}

#[tokio::test]
async fn calls_are_answered_over_both_versions_of_tls() {
    let authority = Authority::new("servers");
    let daemon = start(&authority.server(), &[]).await;
    for is_old in [false, true] {
        let setup = ClientSetup { is_old, ..ClientSetup::default() };
        let client = TlsClient::new(&authority, &setup);
        assert!(is_answered(&client, daemon.tcp()).await, "TLS 1.2: {is_old}");
    }
    // Who trusts another authority does not talk to it, and who speaks no TLS gets nothing.
    let other = TlsClient::new(&Authority::new("others"), &ClientSetup::default());
    assert!(!is_answered(&other, daemon.tcp()).await);
    let endpoint = format!("http://{}", daemon.tcp());
    let plain = jobwarden::api::job_service_client::JobServiceClient::connect(endpoint).await;
    if let Ok(mut plain) = plain {
        assert!(plain.list(ListRequest::default()).await.is_err());
    }
}

#[tokio::test]
async fn a_client_must_have_a_certificate_of_the_right_authority() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let daemon = start_with_clients(&servers.server(), &clients, "required").await;
    let (good, forged) = (clients.client("ada"), Authority::new("clients").client("ada"));
    for (pair, is_let_in) in [(None, false), (Some(&forged), false), (Some(&good), true)] {
        for is_old in [false, true] {
            let setup = ClientSetup { pair, is_old, ..ClientSetup::default() };
            let client = TlsClient::new(&servers, &setup);
            assert_eq!(is_answered(&client, daemon.tcp()).await, is_let_in, "TLS 1.2: {is_old}");
        }
    }
}

#[tokio::test]
async fn an_optional_certificate_may_be_missing_but_not_forged() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let daemon = start_with_clients(&servers.server(), &clients, "optional").await;
    let (good, forged) = (clients.client("ada"), Authority::new("clients").client("ada"));
    for (pair, is_let_in) in [(None, true), (Some(&forged), false), (Some(&good), true)] {
        let client = TlsClient::new(&servers, &ClientSetup { pair, ..ClientSetup::default() });
        assert_eq!(is_answered(&client, daemon.tcp()).await, is_let_in);
    }
}

#[tokio::test]
async fn a_client_that_speaks_something_else_than_http_2_is_refused() {
    let authority = Authority::new("servers");
    let daemon = start(&authority.server(), &[]).await;
    let setup = ClientSetup { protocol: Some("http/1.1"), ..ClientSetup::default() };
    assert!(TlsClient::new(&authority, &setup).shake(daemon.tcp()).await.is_err());
    let client = TlsClient::new(&authority, &ClientSetup::default());
    let stream = client.shake(daemon.tcp()).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn tls_1_1_is_refused_by_its_name() {
    let daemon = start(&Authority::new("servers").server(), &[]).await;
    // A ClientHello of TLS 1.1 (RFC 4346, 7.4.1.2) with one cipher suite and, as an extension,
    // one kind of signature: without that the answer would be about signatures.
    let mut hello = vec![0x03, 0x02];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 0x03, 0x01, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let mut stream = TcpStream::connect(daemon.tcp()).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut answer = [0; 7];
    within("an alert", stream.read_exact(&mut answer)).await.unwrap();
    let (alert, fatal, protocol_version) = (0x15, 2, 70);
    assert_eq!((answer[0], answer[5], answer[6]), (alert, fatal, protocol_version));
}

#[tokio::test]
async fn with_tls_every_address_of_the_machine_can_be_listened_on() {
    let authority = Authority::new("servers");
    let daemon = start(&authority.server(), &["--listen", "0.0.0.0:0"]).await;
    let address = network_address(&daemon).await;
    let client = TlsClient::new(&authority, &ClientSetup::default());
    assert!(is_answered(&client, address).await);
    assert!(!daemon.lines().iter().any(|line| line.contains("insecure-plaintext")));
}

#[tokio::test]
async fn without_tls_a_network_is_listened_on_only_with_a_warning() {
    let flags = ["--listen", "0.0.0.0:0", "--insecure-plaintext-network"];
    let setup = Setup { needs_token: true, ..Setup::flags(&flags) };
    let daemon = Daemon::start_with(setup).await;
    network_address(&daemon).await;
    let is_warning = |line: &String| line.contains("--insecure-plaintext-network: whoever is on");
    assert_eq!(daemon.lines().iter().filter(|line| is_warning(line)).count(), 1);
}

/// Where a service listens that was told to listen on 0.0.0.0.
async fn network_address(daemon: &Daemon) -> SocketAddr {
    let port = crate::harness::eventually("an address", || {
        let lines = daemon.lines();
        let mut ports = lines
            .iter()
            .filter_map(|line| line.strip_prefix("listening on 0.0.0.0:")?.parse().ok());
        ports.next()
    });
    SocketAddr::from(([127, 0, 0, 1], port.await))
}

#[tokio::test]
async fn a_service_that_could_not_be_trusted_does_not_start_and_says_what_to_do() {
    let authority = Authority::new("servers");
    let (one, other) = (authority.server(), authority.server());
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let put = |name: &str, text: &str, mode| replace(Path::new(&at(name)), text, mode);
    put("cert", &one.cert, 0o644);
    put("key", &one.key, 0o600);
    put("private-cert", &one.cert, 0o600);
    put("open-key", &one.key, 0o640);
    put("other-key", &other.key, 0o600);
    put("garbage", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", 0o600);
    put("empty", "", 0o600);
    put("anybodys", &authority.pem(), 0o666);
    let cases: &[(&[&str], &[&str], i32)] = &[
        (&["--tls-cert", "cert"], &["needs its key; name the file with --tls-key FILE"], 2),
        (&["--tls-key", "key"], &["needs its certificate; name the file with --tls-cert"], 2),
        (&["--tls-client-ca", "cert"], &["add --tls-cert FILE and --tls-key FILE"], 2),
        (&["--tls-client-auth", "required"], &["name them with --tls-client-ca FILE"], 2),
        (
            &["--tls-cert", "gone", "--tls-key", "open-key", "--tls-client-ca", "anybodys"],
            &["cannot read", "mode 0640); run: chmod 600", "mode 0666); run: chmod go-w"],
            70,
        ),
        (&["--tls-cert", "cert", "--tls-key", "other-key"], &["is not the key of the"], 70),
        (
            &["--tls-cert", "key", "--tls-key", "private-cert"],
            &["no certificate in", "no private key"],
            70,
        ),
        (
            &["--tls-cert", "garbage", "--tls-key", "key"],
            &["a certificate that cannot be read"],
            70,
        ),
        (
            &["--tls-cert", "cert", "--tls-key", "key", "--tls-client-ca", "empty"],
            &["holds no certificate in PEM form"],
            70,
        ),
    ];
    for (flags, texts, code) in cases {
        let flags: Vec<String> = flags
            .iter()
            .map(|flag| {
                if flag.starts_with("--") || *flag == "required" {
                    (*flag).into()
                } else {
                    at(flag)
                }
            })
            .collect();
        let root = at("root");
        let mut words = vec!["--root", &root, "--listen", "127.0.0.1:0"];
        words.extend(flags.iter().map(String::as_str));
        let (ended, text) = serve_to_end(&words).await;
        assert_eq!(ended, Some(*code), "{flags:?}: {text}");
        for expected in *texts {
            assert!(text.contains(expected), "{flags:?}: {text}");
        }
    }
    let (_, text) = serve_to_end(&["--root", &at("root"), "--listen", "0.0.0.0:0"]).await;
    assert!(text.contains("add --tls-cert FILE and --tls-key FILE, or listen on"), "{text}");
}

#[tokio::test]
async fn a_certificate_that_has_run_out_is_shown_with_a_warning() {
    let authority = Authority::new("servers");
    let daemon = start(&authority.expired(), &[]).await;
    let is_warning = |line: &String| line.contains("clients will refuse the certificate");
    assert!(daemon.lines().iter().any(is_warning), "{:?}", daemon.lines());
    let client = TlsClient::new(&authority, &ClientSetup::default());
    let error = client.shake(daemon.tcp()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}
