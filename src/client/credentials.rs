//! What a client shows of itself, and whom it believes.

use std::{io, path::PathBuf};

use super::{
    Endpoint,
    tls::TlsFiles,
    token::{Token, TokenSource},
};

/// How a client proves who it is and how it knows the service: nothing, until something is given.
///
/// Over a unix socket the kernel says who the client is, and nothing need be given:
///
/// ```no_run
/// use jobwarden::client::{Client, Credentials, Error};
///
/// async fn connect() -> Result<Client, Error> {
///     let credentials = Credentials::new()
///         .token_file("/etc/backup/jobwarden.token")
///         .ca_file("/etc/backup/jobwarden-ca.pem");
///     Client::connect_with("https://build-7.example:7420".parse()?, &credentials).await
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    pub(super) token: TokenSource,
    pub(super) tls: TlsFiles,
    insecure_plaintext_token: bool,
}

impl Credentials {
    /// Nothing yet.
    pub fn new() -> Credentials {
        Credentials::default()
    }

    /// Sends `token` with every call.
    #[must_use]
    pub fn token(self, token: Token) -> Credentials {
        Credentials { token: TokenSource::Fixed(token), ..self }
    }

    /// Sends the token in the file at `path` with every call.
    ///
    /// The file is read again when it changes, so that a connection, a follower and a watch go on
    /// with a new token. Replace the file by a rename before the old token is revoked. It must
    /// not be accessible to anyone but its owner. A pipe is read once.
    #[must_use]
    pub fn token_file(self, path: impl Into<PathBuf>) -> Credentials {
        Credentials { token: TokenSource::File(path.into()), ..self }
    }

    /// Believes the certificates that the authorities in this PEM file vouch for, and no others.
    /// Without one it is those that the system trusts.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Credentials {
        self.tls.ca = Some(path.into());
        self
    }

    /// Shows the service this certificate (PEM, with what leads to its authority) and proves with
    /// `key` (PEM, accessible to its owner alone) that it is ours.
    ///
    /// All files are read again for each new connection.
    #[must_use]
    pub fn certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Credentials {
        self.tls.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Expects this name in the service's certificate instead of the host of the endpoint: for a
    /// service that is reached by its number or through a tunnel.
    #[must_use]
    pub fn tls_server_name(mut self, name: impl Into<String>) -> Credentials {
        self.tls.server_name = Some(name.into());
        self
    }

    /// Sends the token also where anyone on the network between can read it and use it.
    #[must_use]
    pub fn insecure_plaintext_token(self, is_accepted: bool) -> Credentials {
        Credentials { insecure_plaintext_token: is_accepted, ..self }
    }

    /// Refuses what would give the token away, and what would be left without effect.
    pub(super) fn check(&self, endpoint: &Endpoint) -> Result<(), CredentialError> {
        let has_token = !matches!(self.token, TokenSource::None);
        if has_token && endpoint.is_plaintext_network() && !self.insecure_plaintext_token {
            return Err(CredentialError::TokenInClear { endpoint: endpoint.clone() });
        }
        // Whoever proves himself with a certificate must not find that nobody looked at it. Over a
        // unix socket the kernel says more than a certificate does.
        if self.tls.identity.is_some() && matches!(endpoint, Endpoint::Tcp(_)) {
            return Err(CredentialError::NoTls { endpoint: endpoint.clone() });
        }
        Ok(())
    }
}

/// Why credentials cannot be used. Nothing has been sent.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Not a token. It is not shown.
    #[error("what was given as a token is none: a token is one word of at most 200 characters")]
    BadToken,
    /// The file is missing, too large or not for us.
    #[error("cannot read the {what} {}", path.display())]
    Unreadable {
        /// What it was to hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner can get at a secret. Take that from them.
    #[error("the {what} {} is open to other users (mode {mode:04o})", path.display())]
    ReadableByOthers {
        /// What it holds.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds something else.
    #[error("the file {} {why}", path.display())]
    BadContent {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Certificate, key or server name cannot be used for TLS.
    #[error("cannot set up TLS")]
    Tls {
        /// What is wrong with them.
        source: tokio_rustls::rustls::Error,
    },
    /// Not a name or a number of a host.
    #[error("{name:?} is not the name of a host")]
    BadServerName {
        /// What was given.
        name: String,
    },
    /// Anyone on the way could read the token.
    #[error("the token would cross the network in clear to {endpoint}")]
    TokenInClear {
        /// Where it was to go.
        endpoint: Endpoint,
    },
    /// There is no TLS to show a certificate in.
    #[error("a client certificate is shown over TLS only, and {endpoint} has none")]
    NoTls {
        /// Where it was to be shown.
        endpoint: Endpoint,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(endpoint: &str, credentials: &Credentials) -> Result<(), CredentialError> {
        credentials.check(&endpoint.parse().unwrap())
    }

    #[test]
    fn a_token_crosses_a_network_in_clear_only_if_the_risk_was_named() {
        let token = Credentials::new().token(Token::new("jw_a_b").unwrap());
        for safe in
            ["unix:/s", "127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1", "https://far:1"]
        {
            assert!(checked(safe, &token).is_ok(), "{safe}");
        }
        let accepted = token.clone().insecure_plaintext_token(true);
        for open in ["10.0.0.1:1", "[::2]:1", "far:1", "localhost.far:1", "0.0.0.0:1"] {
            let refused = checked(open, &token);
            assert!(matches!(refused, Err(CredentialError::TokenInClear { .. })), "{open}");
            assert!(checked(open, &Credentials::new()).is_ok(), "{open}");
            assert!(checked(open, &accepted).is_ok(), "{open}");
        }
    }

    #[test]
    fn a_certificate_needs_tls_to_be_shown_in() {
        let certificate = Credentials::new().certificate("c.pem", "k.pem");
        assert!(checked("https://far:1", &certificate).is_ok());
        assert!(checked("unix:/s", &certificate).is_ok());
        let refused = checked("127.0.0.1:1", &certificate);
        assert!(matches!(refused, Err(CredentialError::NoTls { .. })));
    }
}
