//! What a command shows the service: from flags and the environment, with a word on what is wrong.
//!
//! A token is never an argument, where every user of the machine could read it.

use clap::Args;

use crate::client::{CredentialError, Credentials, TlsFault, Token};

use super::{
    failure::{Failure, NOT_PERMITTED, UNAVAILABLE},
    show,
};

/// The variables that credentials are taken from. Nothing that a command starts inherits them.
pub(super) const VARIABLES: [&str; 6] = [
    "JOBWARDEN_TOKEN",
    "JOBWARDEN_TOKEN_FILE",
    "JOBWARDEN_CA_FILE",
    "JOBWARDEN_CLIENT_CERT",
    "JOBWARDEN_CLIENT_KEY",
    "JOBWARDEN_TLS_SERVER_NAME",
];

/// The flags that say who we are and whom we believe.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Credentials")]
pub(super) struct CredentialFlags {
    /// Send the token in this file, which only its owner may read [env: `JOBWARDEN_TOKEN_FILE`;
    /// `JOBWARDEN_TOKEN` holds a token itself]
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<String>,
    /// Believe the authorities in this PEM file, no others [env: `JOBWARDEN_CA_FILE`] [default:
    /// those of the system]
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<String>,
    /// Show this certificate (PEM) [env: `JOBWARDEN_CLIENT_CERT`]
    #[arg(long, global = true, value_name = "FILE")]
    client_cert: Option<String>,
    /// Prove it with this key (PEM), which only its owner may read [env: `JOBWARDEN_CLIENT_KEY`]
    #[arg(long, global = true, value_name = "FILE")]
    client_key: Option<String>,
    /// Expect this name in the certificate of the service, for example through a tunnel [env:
    /// `JOBWARDEN_TLS_SERVER_NAME`] [default: the host of the endpoint]
    #[arg(long, global = true, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// Send the token over a network in clear: whoever listens can then act as you
    #[arg(long, global = true)]
    insecure_plaintext_token: bool,
}

impl CredentialFlags {
    /// The credentials of the flags and, where there is no flag, of the environment.
    pub(super) fn credentials(
        &self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Credentials, Failure> {
        let CredentialFlags {
            token_file,
            ca_file,
            client_cert,
            client_key,
            tls_server_name,
            insecure_plaintext_token,
        } = self;
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let either = |flag: &Option<String>, name| flag.clone().or_else(|| set(name));
        let mut credentials =
            Credentials::new().insecure_plaintext_token(*insecure_plaintext_token);
        // The variable with the token itself is nearer than the one with the name of a file.
        let token = if token_file.is_none() { set("JOBWARDEN_TOKEN") } else { None };
        if let Some(token) = token {
            credentials = credentials.token(Token::new(&token).map_err(|error| from(&error))?);
        } else if let Some(file) = either(token_file, "JOBWARDEN_TOKEN_FILE") {
            if file == "-" {
                return Err(Failure::usage("a token is not read from standard input")
                    .hint("name a file with --token-file, or set JOBWARDEN_TOKEN"));
            }
            credentials = credentials.token_file(file);
        }
        if let Some(file) = either(ca_file, "JOBWARDEN_CA_FILE") {
            credentials = credentials.ca_file(file);
        }
        let certificate = either(client_cert, "JOBWARDEN_CLIENT_CERT");
        match (certificate, either(client_key, "JOBWARDEN_CLIENT_KEY")) {
            (Some(certificate), Some(key)) => {
                credentials = credentials.certificate(certificate, key);
            }
            (None, None) => {}
            (Some(_), None) => return Err(half("certificate", "--client-key")),
            (None, Some(_)) => return Err(half("key", "--client-cert")),
        }
        if let Some(name) = either(tls_server_name, "JOBWARDEN_TLS_SERVER_NAME") {
            credentials = credentials.tls_server_name(name);
        }
        Ok(credentials)
    }
}

/// What is wrong with the credentials, and how to put it right.
pub(super) fn from(error: &CredentialError) -> Failure {
    let failure = Failure::usage(error.to_string());
    match error {
        CredentialError::BadToken => failure.hint(
            "set JOBWARDEN_TOKEN to what `jobwarden token create` printed, or give its file with \
             --token-file",
        ),
        CredentialError::Unreadable { source, .. } => failure
            .detail(source.to_string())
            .hint("correct the path, or run the command as the owner of the file"),
        CredentialError::ReadableByOthers { path, .. } => {
            let path = show::quoted(&path.display().to_string());
            failure.hint(format!("keep it to yourself with: chmod 600 {path}"))
        }
        CredentialError::BadContent { .. } => failure.hint("name the right file, or mend this one"),
        CredentialError::Tls { source } => failure
            .detail(source.to_string())
            .hint("look at --ca-file, --client-cert and --client-key, which must be a pair"),
        CredentialError::BadServerName { .. } => {
            failure.hint("give a name such as build-7.example to --tls-server-name")
        }
        CredentialError::TokenInClear { .. } => failure.hint(
            "use https://HOST:PORT with --ca-file, or an SSH tunnel to 127.0.0.1; \
             --insecure-plaintext-token sends it all the same, and whoever listens can act as you",
        ),
        CredentialError::NoTls { .. } => {
            failure.hint("give the endpoint as https://HOST:PORT, or leave out the certificate")
        }
    }
}

/// What the two sides of TLS have against each other, and which flag may help.
pub(super) fn from_tls(text: String, fault: TlsFault, detail: String) -> Failure {
    let (exit, hint) = match fault {
        TlsFault::Untrusted => {
            (UNAVAILABLE, "name the authority that made it with --ca-file or JOBWARDEN_CA_FILE")
        }
        TlsFault::OtherName => {
            (UNAVAILABLE, "give a name that the certificate has with --tls-server-name")
        }
        TlsFault::Expired => {
            (UNAVAILABLE, "the service needs a new certificate, or look at the clock")
        }
        TlsFault::Refused => (
            NOT_PERMITTED,
            "give a certificate that the service accepts with --client-cert and --client-key",
        ),
        TlsFault::NotSpoken => {
            (UNAVAILABLE, "if the service there has no TLS, leave out https:// (see --endpoint)")
        }
    };
    Failure::new(exit, text).detail(detail).hint(hint)
}

fn half(given: &str, missing: &str) -> Failure {
    Failure::usage(format!("a client {given} alone proves nothing"))
        .hint(format!("give {missing} as well"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(flags: &CredentialFlags, variables: &[(&str, &str)]) -> Result<String, Failure> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        flags.credentials(variable).map(|credentials| format!("{credentials:?}"))
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_a_token_over_the_name_of_its_file() {
        let both = [("JOBWARDEN_TOKEN", "jw_a_secret"), ("JOBWARDEN_TOKEN_FILE", "/env")];
        let flags = CredentialFlags { token_file: Some("/flag".to_owned()), ..Default::default() };
        assert!(shown(&flags, &both).unwrap().contains("File(\"/flag\")"));
        let none = CredentialFlags::default();
        let fixed = shown(&none, &both).unwrap();
        assert!(fixed.contains("Fixed(") && !fixed.contains("secret"), "{fixed}");
        assert!(shown(&none, &both[1..]).unwrap().contains("File(\"/env\")"));
        assert!(shown(&none, &[("JOBWARDEN_TOKEN", "")]).unwrap().contains("token: None"));
    }

    #[test]
    fn a_wrong_token_is_not_shown_and_half_a_pair_is_refused() {
        let none = CredentialFlags::default();
        let refused = shown(&none, &[("JOBWARDEN_TOKEN", "jw_a secret")]).unwrap_err();
        let mut text = Vec::new();
        refused.print(&mut text);
        assert!(!String::from_utf8(text).unwrap().contains("secret"));
        assert_eq!(refused.exit, 2);
        for name in ["JOBWARDEN_CLIENT_CERT", "JOBWARDEN_CLIENT_KEY"] {
            assert!(shown(&none, &[(name, "/x")]).is_err(), "{name}");
        }
        let pair = [("JOBWARDEN_CLIENT_CERT", "/x"), ("JOBWARDEN_CLIENT_KEY", "/y")];
        assert!(shown(&none, &pair).is_ok());
        let stdin = CredentialFlags { token_file: Some("-".to_owned()), ..Default::default() };
        assert_eq!(shown(&stdin, &[]).unwrap_err().exit, 2);
    }
}
