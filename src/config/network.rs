//! The settings of connections: TLS, what may be reached from elsewhere, how many at once.
//!
//! Files are only named here. They are read by `server`, which also reads them again later.

use std::path::PathBuf;

use clap::Args;
use toml::Value;

use super::{ListenAddress, Source, reader::Reader, values};

/// Connections over TCP at once, by default: an idle one costs up to 50 KiB with TLS, so strangers
/// on a network can take 50 MiB and no more.
const CONNECTIONS: u32 = 1024;

/// Connections over a unix socket at once, by default. Each waiting command has one of its own, and
/// only users who were let in can open any.
const SOCKET_CONNECTIONS: u32 = 8192;

/// The most that either can be set to.
const CONNECTIONS_MAX: u32 = 1_000_000;

/// What a path is set to if there is none.
const NONE: &str = "none";

/// The settings of connections.
///
/// The name of each field is its key, as with those of [`Config`](super::Config).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The PEM file with the server's certificate and those between it and the root. With it every
    /// TCP address speaks TLS. Default: none.
    pub tls_cert: Option<PathBuf>,
    /// The PEM file with the key of `tls_cert`. Default: none.
    pub tls_key: Option<PathBuf>,
    /// The PEM file with the authorities that sign the certificates of clients. Default: none.
    pub tls_client_ca: Option<PathBuf>,
    /// Whether a client must have a certificate, if there is a `tls_client_ca`. Default:
    /// [`ClientAuth::Required`].
    pub tls_client_auth: ClientAuth,
    /// Whether addresses other than loopback may be listened on without TLS. Default: no.
    pub insecure_plaintext_network: bool,
    /// The most connections at once on each TCP address, 1 to 1,000,000. Default: 1,024.
    pub max_connections: u32,
    /// The most connections at once on each unix socket, 1 to 1,000,000. Default: 8,192.
    pub max_socket_connections: u32,
}

/// Whether a client must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// A connection without one is refused.
    Required,
    /// A connection without one is let through, and then needs a token.
    Optional,
}

/// The flags of connections, none of which has been checked yet.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkFlags {
    /// Speak TLS on every TCP address with the certificate in this PEM file [default: none]
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// Use the key in this PEM file, which belongs to the certificate [default: none]
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Know clients by certificates that the authorities in this PEM file signed [default: none]
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<String>,
    /// Refuse clients without a certificate (`required`) or let them use tokens (`optional`)
    /// [default: required]
    #[arg(long, value_name = "HOW")]
    pub tls_client_auth: Option<String>,
    /// Listen on other addresses than loopback without TLS: whoever is on the way reads and changes
    /// everything, tokens included
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub insecure_plaintext_network: Option<String>,
    /// Hold at most this many connections on each TCP address [default: 1024]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<String>,
    /// Hold at most this many connections on each unix socket [default: 8192]
    #[arg(long, value_name = "N")]
    pub max_socket_connections: Option<String>,
}

impl NetworkFlags {
    /// What was given for the setting `key`; empty if nothing was.
    pub(super) fn values(&self, key: &str) -> &[String] {
        let value = match key {
            "tls_cert" => &self.tls_cert,
            "tls_key" => &self.tls_key,
            "tls_client_ca" => &self.tls_client_ca,
            "tls_client_auth" => &self.tls_client_auth,
            "insecure_plaintext_network" => &self.insecure_plaintext_network,
            "max_connections" => &self.max_connections,
            "max_socket_connections" => &self.max_socket_connections,
            _ => &None,
        };
        value.as_slice()
    }
}

impl Network {
    /// Reads the settings and checks that they fit each other and the addresses.
    pub(super) fn read(reader: &mut Reader<'_>, addresses: &[ListenAddress]) -> Network {
        let network = Network {
            tls_cert: optional_path(reader, "tls_cert"),
            tls_key: optional_path(reader, "tls_key"),
            tls_client_ca: optional_path(reader, "tls_client_ca"),
            tls_client_auth: reader
                .one("tls_client_auth", ClientAuth::Required, |it| client_auth(it.text)),
            insecure_plaintext_network: reader
                .one("insecure_plaintext_network", false, |it| values::flag(it.text)),
            max_connections: number(reader, "max_connections", CONNECTIONS),
            max_socket_connections: number(reader, "max_socket_connections", SOCKET_CONNECTIONS),
        };
        network.check_files(reader);
        network.check_addresses(reader, addresses);
        network
    }

    /// Whether any part of TLS was asked for, even if another is missing.
    fn wants_tls(&self) -> bool {
        self.tls_cert.is_some() || self.tls_key.is_some()
    }

    fn check_files(&self, reader: &mut Reader<'_>) {
        let shown = |path: &PathBuf| Some(path.display().to_string());
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), None) => {
                let remedy = "needs its key; name the file with --tls-key FILE";
                reader.mistake("tls_cert", shown(cert), remedy.to_owned());
            }
            (None, Some(key)) => {
                let remedy = "needs its certificate; name the file with --tls-cert FILE";
                reader.mistake("tls_key", shown(key), remedy.to_owned());
            }
            (None, None) => {
                if let Some(authorities) = &self.tls_client_ca {
                    let remedy = "is of use with TLS alone; add --tls-cert FILE and --tls-key FILE";
                    reader.mistake("tls_client_ca", shown(authorities), remedy.to_owned());
                }
            }
            (Some(_), Some(_)) => {}
        }
        let is_given = reader.source("tls_client_auth") != Source::Default;
        if is_given && self.tls_client_ca.is_none() {
            let remedy = "needs the authorities of clients; name them with --tls-client-ca FILE";
            reader.mistake("tls_client_auth", None, remedy.to_owned());
        }
    }

    fn check_addresses(&self, reader: &mut Reader<'_>, addresses: &[ListenAddress]) {
        if self.wants_tls() || self.insecure_plaintext_network {
            return;
        }
        for address in addresses.iter().filter(|address| address.is_network()) {
            let remedy = "is refused because whoever is on the way could read and change \
                          everything: add --tls-cert FILE and --tls-key FILE, or listen on \
                          127.0.0.1 or [::1] and reach it through an SSH tunnel, or add \
                          --insecure-plaintext-network";
            reader.mistake("listen", Some(address.to_string()), remedy.to_owned());
        }
    }

    /// The settings as lines of the configuration file.
    pub(super) fn lines(&self) -> Vec<(&'static str, Value)> {
        let Network {
            tls_cert,
            tls_key,
            tls_client_ca,
            tls_client_auth,
            insecure_plaintext_network,
            max_connections,
            max_socket_connections,
        } = self;
        let path = |path: &Option<PathBuf>| {
            let text = path.as_ref().map(|path| path.display().to_string());
            Value::String(text.unwrap_or_else(|| NONE.to_owned()))
        };
        let client_auth = match tls_client_auth {
            ClientAuth::Required => "required",
            ClientAuth::Optional => "optional",
        };
        let mut lines = vec![
            ("tls_cert", path(tls_cert)),
            ("tls_key", path(tls_key)),
            ("tls_client_ca", path(tls_client_ca)),
            ("insecure_plaintext_network", Value::Boolean(*insecure_plaintext_network)),
            ("max_connections", Value::Integer(i64::from(*max_connections))),
            ("max_socket_connections", Value::Integer(i64::from(*max_socket_connections))),
        ];
        if tls_client_ca.is_some() {
            // Without authorities it is refused, so that nobody relies on it.
            lines.push(("tls_client_auth", Value::String(client_auth.to_owned())));
        }
        lines
    }
}

impl ListenAddress {
    /// Whether other machines can reach it.
    pub fn is_network(&self) -> bool {
        match self {
            ListenAddress::Unix(_) => false,
            ListenAddress::Tcp(address) => !address.ip().is_loopback(),
        }
    }
}

fn optional_path(reader: &mut Reader<'_>, key: &'static str) -> Option<PathBuf> {
    reader.one(key, None, |given| match given.text {
        NONE => Ok(None),
        text => values::path(text, given.base).map(Some),
    })
}

fn number(reader: &mut Reader<'_>, key: &'static str, default: u32) -> u32 {
    reader.one(key, default, |given| values::number(given.text, &(1..=CONNECTIONS_MAX)))
}

fn client_auth(text: &str) -> Result<ClientAuth, String> {
    match text {
        "required" => Ok(ClientAuth::Required),
        "optional" => Ok(ClientAuth::Optional),
        _ => Err("must be \"required\" or \"optional\"".to_owned()),
    }
}
