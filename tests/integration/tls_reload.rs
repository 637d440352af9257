//! Certificates that are replaced while the service runs.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use jobwarden::api::GetServerInfoRequest;

use crate::harness::{
    DEADLINE, Daemon, Setup, eventually,
    tls::{Authority, ClientSetup, Files, Pair, TlsClient, der, replace},
    within,
};

/// How often the certificates are replaced under load.
const REPLACEMENTS: u32 = 20;

/// A service whose certificate is `pair`, with the folder of its files.
async fn start(pair: &Pair, more: &[&str]) -> (Daemon, Arc<Path>) {
    let folder = tempfile::tempdir().unwrap();
    let path: Arc<Path> = folder.path().into();
    let mut flags = Files::write(&path, pair).flags();
    flags.extend(more.iter().map(ToString::to_string));
    let root = path.join("root");
    (Daemon::start_on(Setup { flags, ..Setup::default() }, root, folder).await, path)
}

/// Waits until new connections are shown the certificate of `pair`.
async fn shows(daemon: &Daemon, client: &TlsClient, pair: &Pair) {
    let (address, wanted) = (daemon.tcp(), der(pair));
    let looking = async {
        while client.shown(address).await.expect("every handshake works") != wanted {
            tokio::task::yield_now().await;
        }
    };
    within("the new certificate is shown", looking).await;
}

#[tokio::test]
async fn no_call_fails_while_certificates_are_replaced() {
    let authority = Authority::new("servers");
    let (daemon, folder) = start(&authority.server(), &[]).await;
    let client = TlsClient::new(&authority, &ClientSetup::default());
    let address = daemon.tcp();
    let is_over = Arc::new(AtomicBool::new(false));
    let (on_old, on_new) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));

    let mut old = client.api(address).await.unwrap();
    let (over, count) = (Arc::clone(&is_over), Arc::clone(&on_old));
    let calls_on_old = tokio::spawn(async move {
        while !over.load(Ordering::Relaxed) {
            old.get_server_info(GetServerInfoRequest {}).await.expect("the old connection works");
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (over, count, caller) = (Arc::clone(&is_over), Arc::clone(&on_new), client.clone());
    let calls_on_new = tokio::spawn(async move {
        while !over.load(Ordering::Relaxed) {
            let mut api = caller.api(address).await.expect("a new connection works");
            api.get_server_info(GetServerInfoRequest {}).await.expect("and so does its call");
            count.fetch_add(1, Ordering::Relaxed);
        }
    });

    for _ in 0..REPLACEMENTS {
        let (old, new) = (on_old.load(Ordering::Relaxed), on_new.load(Ordering::Relaxed));
        let next = authority.server();
        Files::write(&folder, &next);
        daemon.hang_up();
        shows(&daemon, &client, &next).await;
        // Both kinds of calls go on before the next one comes.
        let have_gone_on = || {
            let is_further =
                on_old.load(Ordering::Relaxed) > old && on_new.load(Ordering::Relaxed) > new;
            // What ended early says why below.
            (is_further || calls_on_old.is_finished() || calls_on_new.is_finished()).then_some(())
        };
        eventually("calls go on", have_gone_on).await;
    }
    is_over.store(true, Ordering::Relaxed);
    within("the last call", calls_on_old).await.unwrap();
    within("the last call", calls_on_new).await.unwrap();
}

#[tokio::test]
async fn a_changed_certificate_is_noticed_without_a_signal() {
    let authority = Authority::new("servers");
    let (daemon, folder) = start(&authority.server(), &[]).await;
    let client = TlsClient::new(&authority, &ClientSetup::default());
    let next = authority.server();
    Files::write(&folder, &next);
    shows(&daemon, &client, &next).await;
}

#[tokio::test]
async fn what_cannot_be_used_is_told_and_the_old_certificate_goes_on() {
    let authority = Authority::new("servers");
    let first = authority.server();
    let (daemon, folder) = start(&first, &[]).await;
    let client = TlsClient::new(&authority, &ClientSetup::default());
    // A certificate whose key has not come yet.
    let next = authority.server();
    replace(&folder.join("cert.pem"), &next.cert, 0o644);
    daemon.hang_up();
    eventually("the fault is told", || {
        let is_told = |line: &String| {
            line.contains("new connections go on with the old ones")
                && line.contains("is not the key of the certificate")
        };
        daemon.lines().iter().any(is_told).then_some(())
    })
    .await;
    shows(&daemon, &client, &first).await;
    // Once the key is there the next look finds both.
    replace(&folder.join("key.pem"), &next.key, 0o600);
    shows(&daemon, &client, &next).await;
}

#[tokio::test]
async fn new_authorities_decide_about_new_connections_only() {
    let (servers, old, new) =
        (Authority::new("servers"), Authority::new("old"), Authority::new("new"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clients.pem");
    replace(&path, &old.pem(), 0o644);
    let flag = path.display().to_string();
    let flags = ["--tls-client-ca", &flag, "--certificates", "CN:ada=reader"];
    let (daemon, _) = start(&servers.server(), &flags).await;
    let client = |authority: &Authority| {
        let pair = authority.client("ada");
        TlsClient::new(&servers, &ClientSetup { pair: Some(&pair), ..ClientSetup::default() })
    };
    let (known, unknown) = (client(&old), client(&new));
    let is_answered = async |client: &TlsClient| {
        let Ok(mut api) = client.api(daemon.tcp()).await else { return false };
        api.get_server_info(GetServerInfoRequest {}).await.is_ok()
    };
    assert!(is_answered(&known).await && !is_answered(&unknown).await);
    let mut open = known.api(daemon.tcp()).await.unwrap();
    open.get_server_info(GetServerInfoRequest {}).await.unwrap();

    replace(&path, &new.pem(), 0o644);
    daemon.hang_up();
    let begin = std::time::Instant::now();
    while !is_answered(&unknown).await {
        assert!(begin.elapsed() < DEADLINE, "the new authority is trusted");
    }
    assert!(!is_answered(&known).await);
    open.get_server_info(GetServerInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_hangup_ends_no_service_that_has_no_certificates() {
    let daemon = Daemon::start().await;
    daemon.hang_up();
    eventually("the signal was taken", || {
        daemon.lines().iter().any(|line| line.contains("SIGHUP")).then_some(())
    })
    .await;
    daemon.api().get_server_info(GetServerInfoRequest {}).await.unwrap();
}
