//! Who the client is taken for, and by whom it lets itself be answered.

mod fake;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use tokio::time::timeout;
use tonic::Code;

use super::{Client, CredentialError, Credentials, Error, TlsFault, Token};
use crate::api::{KillRequest, StatusRequest, TailLogRequest, WatchEventsRequest};
use fake::{Authority, Fake, Terminator};

/// Less than any repeating takes, and far more than an answer does.
const AT_ONCE: Duration = Duration::from_secs(5);

fn private(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}

fn token(text: &str) -> Credentials {
    Credentials::new().token(Token::new(text).unwrap())
}

/// What a call that fails comes to, which it must at once.
async fn refused<T>(call: impl Future<Output = Result<T, Error>>) -> Error {
    let answer = timeout(AT_ONCE, call).await.expect("a refusal is not repeated");
    match answer {
        Ok(_) => panic!("the call went well"),
        Err(error) => error,
    }
}

async fn fault(endpoint: &str, credentials: &Credentials) -> TlsFault {
    let endpoint = endpoint.parse().unwrap();
    let error = match Client::connect_with(endpoint, credentials).await {
        Ok(client) => refused(client.status(StatusRequest::default())).await,
        Err(error) => error,
    };
    match error {
        Error::Tls { fault, .. } => fault,
        other => panic!("not a fault of TLS: {other:?}"),
    }
}

#[tokio::test]
async fn every_kind_of_call_carries_the_token() {
    let fake = Fake::start("jw_right").await;
    let client = Client::connect_with(fake.endpoint(), &token("jw_right")).await.unwrap();
    client.status(StatusRequest::default()).await.unwrap();
    client.watch(WatchEventsRequest::default()).next().await.unwrap();
    for (credentials, what) in [(Credentials::new(), "none"), (token("jw_wrong"), "another")] {
        let client = Client::connect_with(fake.endpoint(), &credentials).await.unwrap();
        let before = fake.calls();
        let errors = [
            refused(client.status(StatusRequest::default())).await,
            refused(client.kill(KillRequest::default())).await,
            refused(client.watch(WatchEventsRequest::default()).next()).await,
            refused(client.follow_log(TailLogRequest::default()).next()).await,
            refused(client.wait_until_ended("a", None)).await,
        ];
        for error in &errors {
            assert!(error.is_unauthenticated() && !error.is_passing(), "{what}: {error:?}");
        }
        assert_eq!(fake.calls() - before, errors.len(), "each was sent once");
    }
}

#[tokio::test]
async fn a_call_that_is_not_permitted_is_not_repeated() {
    let fake = Fake::start("jw_right").await;
    let client = Client::connect_with(fake.endpoint(), &token("jw_right")).await.unwrap();
    let before = fake.calls();
    let error = refused(client.follow_log(TailLogRequest::default()).next()).await;
    assert_eq!(error.refusal().unwrap().code, Code::PermissionDenied);
    assert_eq!(fake.calls() - before, 1);
}

#[tokio::test]
async fn a_watch_goes_on_with_the_new_token_of_its_file_and_ends_if_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    private(&path, "jw_first\n");
    let fake = Fake::start("jw_first").await;
    let credentials = Credentials::new().token_file(&path);
    let client = Client::connect_with(fake.endpoint(), &credentials).await.unwrap();
    let mut watch = client.watch(WatchEventsRequest::default());
    watch.next().await.unwrap();
    for round in 0..5 {
        let new = format!("jw_round_{round}");
        private(&path, &new);
        fake.accept_only(&new);
        timeout(AT_ONCE, watch.next()).await.unwrap().unwrap();
        client.status(StatusRequest::default()).await.unwrap();
    }
    fake.accept_only("jw_unknown");
    let error = refused(watch.next()).await;
    assert!(error.is_unauthenticated(), "{error:?}");
}

#[tokio::test]
async fn credentials_that_cannot_be_used_are_told_before_anything_is_sent() {
    let fake = Fake::start("jw_right").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let with_file = Credentials::new().token_file(&path);
    let tried =
        async |credentials: &Credentials| match Client::connect_with(fake.endpoint(), credentials)
            .await
        {
            Err(Error::Credentials(error)) => error,
            other => panic!("{other:?}"),
        };
    assert!(matches!(tried(&with_file).await, CredentialError::Unreadable { .. }));
    private(&path, "two words");
    assert!(matches!(tried(&with_file).await, CredentialError::BadContent { .. }));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(tried(&with_file).await, CredentialError::ReadableByOthers { .. }));
    assert_eq!(fake.calls(), 0);
}

#[tokio::test]
async fn a_service_is_believed_if_its_authority_vouches_for_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "b"));
    let fake = Fake::start("jw_right").await;
    let terminator = Terminator::start(&ours.service("localhost"), None, &fake).await;
    let credentials = token("jw_right").ca_file(ours.file());
    let client = Client::connect_with(terminator.endpoint("localhost"), &credentials).await;
    client.unwrap().status(StatusRequest::default()).await.unwrap();

    let (named, numbered) = (terminator.at("localhost"), terminator.at("127.0.0.1"));
    assert_eq!(fault(&named, &token("x").ca_file(other.file())).await, TlsFault::Untrusted);
    assert_eq!(fault(&named, &token("x")).await, TlsFault::Untrusted, "the system's authorities");
    assert_eq!(fault(&numbered, &credentials).await, TlsFault::OtherName);
    let plain = format!("https://{}", fake.endpoint());
    assert_eq!(fault(&plain, &credentials).await, TlsFault::NotSpoken);

    let credentials = credentials.tls_server_name("localhost");
    let client = Client::connect_with(numbered.parse().unwrap(), &credentials).await.unwrap();
    client.status(StatusRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_client_shows_its_certificate_and_a_new_one_to_the_next_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "b"));
    let fake = Fake::start("jw_right").await;
    let terminator = Terminator::start(&ours.service("localhost"), Some(&ours), &fake).await;
    let at = terminator.at("localhost");
    let without = token("jw_right").ca_file(ours.file());
    assert_eq!(fault(&at, &without).await, TlsFault::Refused);

    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    let with = without.clone().certificate(&certificate, &key);
    other.client("x", &certificate, &key);
    assert_eq!(fault(&at, &with).await, TlsFault::Refused);
    ours.client("first", &certificate, &key);
    let client = Client::connect_with(at.parse().unwrap(), &with).await.unwrap();
    client.status(StatusRequest::default()).await.unwrap();
    assert_eq!(terminator.last_client(), Some(ours.last()));

    ours.client("second", &certificate, &key);
    terminator.cut();
    client.status(StatusRequest::default()).await.unwrap();
    assert_eq!(terminator.last_client(), Some(ours.last()), "the one in the file by now");

    // What cannot be used leaves the last in force; for a first connection it is an error.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    terminator.cut();
    client.status(StatusRequest::default()).await.unwrap();
    let refused = Client::connect_with(at.parse().unwrap(), &with).await.unwrap_err();
    assert!(
        matches!(refused, Error::Credentials(CredentialError::ReadableByOthers { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_call_that_may_not_be_repeated_is_sent_once_although_there_is_a_new_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    private(&path, "jw_first");
    let fake = Fake::start("jw_other").await;
    let credentials = Credentials::new().token_file(&path);
    let client = Client::connect_with(fake.endpoint(), &credentials).await.unwrap();
    fake.on_call(move || private(&path, "jw_other"));
    let error = refused(client.kill(KillRequest::default())).await;
    assert!(error.is_unauthenticated(), "{error:?}");
    assert_eq!(fake.calls(), 1);
    client.status(StatusRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_call_that_may_be_repeated_is_sent_again_with_the_new_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    private(&path, "jw_first");
    let fake = Fake::start("jw_other").await;
    let credentials = Credentials::new().token_file(&path);
    let client = Client::connect_with(fake.endpoint(), &credentials).await.unwrap();
    fake.on_call(move || private(&path, "jw_other"));
    client.status(StatusRequest::default()).await.unwrap();
    assert_eq!(fake.calls(), 2);
}
