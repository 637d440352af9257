//! The gate against a reference that is written as a list of sentences.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::job::Time;

const NOW: u64 = 4_000_000_000_000;
const OWNER: u32 = 1000;

/// What a caller brings in its header.
#[derive(Clone, Copy, Debug)]
enum Brought {
    Nothing,
    Good(Role),
    Expired,
    Revoked,
    Foreign,
    Garbage,
    Two,
}

/// Where it comes from.
#[derive(Clone, Copy, Debug)]
enum From {
    Socket(u32),
    Loopback,
    Network,
    Certified(&'static str),
}

fn brought() -> impl Strategy<Value = Brought> {
    prop_oneof![
        Just(Brought::Nothing),
        prop::sample::select(Role::ALL.to_vec()).prop_map(Brought::Good),
        Just(Brought::Expired),
        Just(Brought::Revoked),
        Just(Brought::Foreign),
        Just(Brought::Garbage),
        Just(Brought::Two),
    ]
}

fn from() -> impl Strategy<Value = From> {
    prop_oneof![
        prop::sample::select(vec![0, OWNER, 1001, 1002]).prop_map(From::Socket),
        Just(From::Loopback),
        Just(From::Network),
        prop::sample::select(vec!["known", "second", "unknown"]).prop_map(From::Certified),
    ]
}

fn place(from: From) -> Place {
    let tcp = |address: &str, certificate| Place::Tcp {
        address: address.parse::<SocketAddr>().unwrap(),
        is_encrypted: false,
        certificate,
    };
    match from {
        From::Socket(uid) => Place::Unix { pid: None, uid, gid: uid },
        From::Loopback => tcp("127.0.0.1:1", None),
        From::Network => tcp("192.0.2.1:1", None),
        From::Certified(name) => {
            let common_name = Some(name.to_owned());
            let certificate = Certificate { common_name, ..Certificate::default() };
            tcp("127.0.0.1:1", Some(Arc::new(certificate)))
        }
    }
}

/// Who is let in, said once more and otherwise.
fn expected(from: From, brought: Brought, is_open: bool) -> Option<(String, Role)> {
    match brought {
        Brought::Good(role) => return Some((format!("token:{role}"), role)),
        Brought::Expired
        | Brought::Revoked
        | Brought::Foreign
        | Brought::Garbage
        | Brought::Two => return None,
        Brought::Nothing => {}
    }
    match from {
        From::Socket(0) => Some(("uid:0".to_owned(), Role::Admin)),
        From::Socket(OWNER) => Some((format!("uid:{OWNER}"), Role::Admin)),
        From::Socket(1001) => Some(("uid:1001".to_owned(), Role::Reader)),
        From::Loopback if is_open => Some(("anonymous".to_owned(), Role::Admin)),
        From::Certified("known") => Some(("cert:known".to_owned(), Role::Operator)),
        From::Certified("second") => Some(("ci".to_owned(), Role::Submitter)),
        From::Socket(_) | From::Loopback | From::Network | From::Certified(_) => None,
    }
}

fn rules(is_open: bool) -> Rules {
    let rule = |name: &str, role, principal: &str| CertificateRule {
        kind: NameKind::CommonName,
        name: name.to_owned(),
        role,
        principal: principal.to_owned(),
    };
    Rules {
        owner: OWNER,
        unix_users: vec![UnixUser { uid: 1001, role: Role::Reader }],
        certificates: vec![
            rule("known", Role::Operator, "cert:known"),
            rule("second", Role::Submitter, "ci"),
        ],
        loopback_without_token: is_open,
    }
}

proptest! {
    #[test]
    fn the_gate_lets_in_whom_the_reference_does(
        cases in proptest::collection::vec((from(), brought(), any::<bool>()), 1..40)
    ) {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = TokenFile::of(root.path());
        let good = Role::ALL.map(|role| file.create(role.name(), role, None).unwrap().1);
        let (_, expired) = file.create("old", Role::Admin, Some(Duration::ZERO)).unwrap();
        let (record, revoked) = file.create("gone", Role::Admin, None).unwrap();
        file.revoke(&record.id).unwrap();
        let (_, foreign) = TokenFile::of(other.path()).create("x", Role::Admin, None).unwrap();
        let gates = [false, true].map(|is_open| Gate::new(rules(is_open), file.clone()));
        for (from, brought, is_open) in cases {
            let token = match brought {
                Brought::Nothing => None,
                Brought::Good(role) => Some(good[role as usize].reveal()),
                Brought::Expired => Some(expired.reveal()),
                Brought::Revoked => Some(revoked.reveal()),
                Brought::Foreign => Some(foreign.reveal()),
                Brought::Garbage => Some("jw_garbage"),
                Brought::Two => Some(good[3].reveal()),
            };
            let header = token.map(|token| format!("Bearer {token}"));
            let mut headers: Vec<&[u8]> = header.iter().map(String::as_bytes).collect();
            if matches!(brought, Brought::Two) {
                headers.push(headers[0]);
            }
            let now = Time::from_millis(NOW);
            let admitted = gates[usize::from(is_open)].admit(&place(from), headers, now);
            let admitted = admitted.ok().map(|identity| (identity.principal, identity.role));
            prop_assert_eq!(admitted, expected(from, brought, is_open), "{:?} {:?}", from, brought);
        }
    }

    #[test]
    fn no_header_but_the_token_itself_lets_anybody_in(header in proptest::collection::vec(any::<u8>(), 0..200)) {
        let root = tempfile::tempdir().unwrap();
        let file = TokenFile::of(root.path());
        file.create("ci", Role::Admin, None).unwrap();
        let gate = Gate::new(rules(true), file);
        let admitted = gate.admit(&place(From::Socket(0)), [header.as_slice()], Time::from_millis(NOW));
        prop_assert!(matches!(admitted, Err(Denied::Malformed | Denied::BadToken)));
    }
}

#[test]
fn a_token_made_or_revoked_counts_at_once() {
    let root = tempfile::tempdir().unwrap();
    let file = TokenFile::of(root.path());
    let gate = Gate::new(rules(false), file.clone());
    assert!(!gate.has_tokens());
    let (record, secret) = file.create("ci", Role::Reader, None).unwrap();
    let header = format!("bearer {}", secret.reveal());
    let admit = || gate.admit(&place(From::Network), [header.as_bytes()], Time::from_millis(NOW));
    let identity = admit().unwrap();
    assert_eq!(gate.over(&identity, Time::from_millis(NOW)), None);
    file.revoke(&record.id).unwrap();
    assert_eq!(admit(), Err(Denied::BadToken));
    assert_eq!(gate.over(&identity, Time::from_millis(NOW)), Some(Denied::BadToken));
}

#[test]
fn a_file_of_tokens_that_cannot_be_read_lets_nobody_in() {
    let root = tempfile::tempdir().unwrap();
    let file = TokenFile::of(root.path());
    let (_, secret) = file.create("ci", Role::Reader, None).unwrap();
    let gate = Gate::new(rules(false), file);
    std::fs::write(root.path().join(FOLDER).join("tokens.json"), "{").unwrap();
    let header = format!("Bearer {}", secret.reveal());
    let admitted =
        gate.admit(&place(From::Socket(OWNER)), [header.as_bytes()], Time::from_millis(NOW));
    assert_eq!(admitted, Err(Denied::BadToken));
}

#[test]
fn a_certificate_lets_in_until_it_ends() {
    let root = tempfile::tempdir().unwrap();
    let gate = Gate::new(rules(false), TokenFile::of(root.path()));
    let certificate = Certificate {
        common_name: Some("known".to_owned()),
        not_after: Some(Time::from_millis(NOW)),
        ..Certificate::default()
    };
    let place = Place::Tcp {
        address: "192.0.2.1:1".parse().unwrap(),
        is_encrypted: true,
        certificate: Some(Arc::new(certificate)),
    };
    let identity = gate.admit(&place, [], Time::from_millis(NOW - 1)).unwrap();
    assert_eq!(gate.over(&identity, Time::from_millis(NOW - 1)), None);
    assert_eq!(gate.over(&identity, Time::from_millis(NOW)), Some(Denied::ExpiredCertificate));
    assert_eq!(gate.admit(&place, [], Time::from_millis(NOW)), Err(Denied::ExpiredCertificate));
}

#[test]
fn a_read_that_fails_for_a_moment_locks_nobody_out() {
    let root = tempfile::tempdir().unwrap();
    let file = TokenFile::of(root.path());
    let (_, secret) = file.create("ci", Role::Reader, None).unwrap();
    let gate = Gate::new(rules(false), file.clone());
    file.create("new", Role::Reader, None).unwrap();
    let header = format!("Bearer {}", secret.reveal());
    let admit = || gate.admit(&place(From::Network), [header.as_bytes()], Time::from_millis(NOW));
    let path = root.path().join(FOLDER).join("tokens.json");
    let aside = root.path().join("aside");
    std::fs::rename(&path, &aside).unwrap();
    // A folder cannot be read, whoever asks.
    std::fs::create_dir(&path).unwrap();
    assert!(admit().is_ok());
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    assert!(admit().is_ok());
}
