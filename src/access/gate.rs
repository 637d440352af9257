//! The gate: from what a connection and a call bring along to who the caller is.
//!
//! Denies by default. A token that was brought along decides alone, also against what the
//! connection would have given: whoever shows one wants to be taken for its principal.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Certificate, Place, Role, TokenError, TokenFile, TokenTable, token_file::Version};
use crate::job::Time;

/// The beginning of the header that brings a token.
const SCHEME: &str = "bearer ";
/// The principal of whoever comes without a token where none is asked for.
const ANONYMOUS: &str = "anonymous";

/// The longest principal, in bytes, and the longest name of a certificate. Those of users and of
/// tokens are shorter.
pub const PRINCIPAL_BYTES_MAX: usize = 256;

/// A caller that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who it is: `uid:N`, `token:NAME`, `cert:NAME`, a name from the settings, or `anonymous`.
    pub principal: String,
    /// What it may do.
    pub role: Role,
    /// The id of its token, if it came with one.
    pub token: Option<String>,
    /// When it has to come anew.
    pub expires: Option<Time>,
}

impl Identity {
    /// Whether the caller may have to be turned away before its call has ended.
    pub fn may_end(&self) -> bool {
        self.token.is_some() || self.expires.is_some()
    }
}

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It brought nothing that says who it is.
    #[error(
        "this address needs a token: make one with `jobwarden token create` on the server and \
         send it as the header `authorization: Bearer TOKEN` (--token-file of the command line)"
    )]
    NoToken,
    /// The header is not `Bearer TOKEN`.
    #[error("the header authorization must be `Bearer TOKEN`, once")]
    Malformed,
    /// The token is none of ours.
    #[error("the token is unknown or was revoked; make another with `jobwarden token create`")]
    BadToken,
    /// The token was one of ours.
    #[error("the token has expired; make another with `jobwarden token create`")]
    ExpiredToken,
    /// The user of the process at the other end is not let in.
    #[error(
        "user {0} may not use this socket; list it in the setting unix_users of the server, \
         for example \"{0}=submitter\", or bring a token"
    )]
    UnknownUser(u32),
    /// The certificate was good when the connection was made.
    #[error("the client certificate has expired; connect with a new one")]
    ExpiredCertificate,
    /// The certificate has no role.
    #[error(
        "the client certificate has no role; list one of its names in the setting certificates \
         of the server, for example \"CN:{0}=submitter\", or bring a token"
    )]
    UnknownCertificate(String),
}

/// A user of this machine that is let in by the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixUser {
    /// The user.
    pub uid: u32,
    /// What it may do.
    pub role: Role,
}

/// Which name of a certificate is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// The common name of the subject.
    CommonName,
    /// An alternative name that is a host name.
    Dns,
    /// An alternative name that is a URI.
    Uri,
    /// An alternative name that is a mail address.
    Email,
}

/// A certificate that is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRule {
    /// Which of its names is looked at.
    pub kind: NameKind,
    /// What it must be, exactly.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Who it is taken for.
    pub principal: String,
}

/// Who is let in besides those with a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The account of the service; it and root may do everything.
    pub owner: u32,
    /// Other users of this machine.
    pub unix_users: Vec<UnixUser>,
    /// Certificates; the first rule that fits decides.
    pub certificates: Vec<CertificateRule>,
    /// Whether whoever reaches a loopback port may do everything.
    pub loopback_without_token: bool,
}

/// Lets callers in, or not.
#[derive(Debug)]
pub struct Gate {
    rules: Rules,
    file: TokenFile,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    version: Option<Version>,
    table: Arc<TokenTable>,
}

impl Gate {
    /// A gate with these rules and the tokens in `file`, which may change at any time.
    pub fn new(rules: Rules, file: TokenFile) -> Self {
        let gate = Self { rules, file, known: Mutex::default() };
        gate.tokens();
        gate
    }

    /// Who calls, by where it comes from and the headers `authorization` of the call.
    pub fn admit<'a>(
        &self,
        place: &Place,
        authorization: impl IntoIterator<Item = &'a [u8]>,
        now: Time,
    ) -> Result<Identity, Denied> {
        let mut headers = authorization.into_iter();
        match (headers.next(), headers.next()) {
            (None, _) => self.by_connection(place, now),
            (Some(header), None) => self.by_token(bearer(header).ok_or(Denied::Malformed)?, now),
            (Some(_), Some(_)) => Err(Denied::Malformed),
        }
    }

    fn by_token(&self, text: &str, now: Time) -> Result<Identity, Denied> {
        let table = self.tokens();
        let token = table.find(text).ok_or(Denied::BadToken)?;
        if token.is_expired(now) {
            return Err(Denied::ExpiredToken);
        }
        Ok(Identity {
            principal: format!("token:{}", token.name),
            role: token.role,
            token: Some(token.id.clone()),
            expires: token.expires,
        })
    }

    fn by_connection(&self, place: &Place, now: Time) -> Result<Identity, Denied> {
        let known =
            |principal: String, role| Ok(Identity { principal, role, token: None, expires: None });
        match place {
            Place::Unix { uid, .. } => {
                let user = self.rules.unix_users.iter().find(|user| user.uid == *uid);
                match user {
                    _ if *uid == 0 || *uid == self.rules.owner => {
                        known(format!("uid:{uid}"), Role::Admin)
                    }
                    Some(user) => known(format!("uid:{uid}"), user.role),
                    None => Err(Denied::UnknownUser(*uid)),
                }
            }
            Place::Tcp { certificate: Some(certificate), .. } => {
                match self.rules.certificates.iter().find(|rule| rule.fits(certificate)) {
                    Some(_) if certificate.not_after.is_some_and(|end| end <= now) => {
                        Err(Denied::ExpiredCertificate)
                    }
                    Some(rule) => Ok(Identity {
                        principal: rule.principal.clone(),
                        role: rule.role,
                        token: None,
                        expires: certificate.not_after,
                    }),
                    None => Err(Denied::UnknownCertificate(certificate.name().to_owned())),
                }
            }
            Place::Tcp { address, certificate: None, .. } => {
                if self.rules.loopback_without_token && address.ip().is_loopback() {
                    return known(ANONYMOUS.to_owned(), Role::Admin);
                }
                Err(Denied::NoToken)
            }
        }
    }

    /// Why a caller that was let in would not be any more, if so: what it came with has expired, or
    /// was revoked.
    pub fn over(&self, identity: &Identity, now: Time) -> Option<Denied> {
        let is_expired = identity.expires.is_some_and(|expires| expires <= now);
        match &identity.token {
            Some(_) if is_expired => Some(Denied::ExpiredToken),
            None if is_expired => Some(Denied::ExpiredCertificate),
            Some(id) if self.tokens().get(id).is_none() => Some(Denied::BadToken),
            Some(_) | None => None,
        }
    }

    /// Which version of the tokens is there.
    pub fn version(&self) -> Option<Version> {
        self.file.version()
    }

    /// Whether there is any token at all.
    pub fn has_tokens(&self) -> bool {
        !self.tokens().is_empty()
    }

    /// The tokens as they are now. What cannot be read lets nobody in.
    fn tokens(&self) -> Arc<TokenTable> {
        let version = self.file.version();
        let mut known = self.lock();
        if known.version != version {
            let tokens = match self.file.read() {
                Ok(tokens) => tokens,
                // It passes, as a lack of descriptors does; what was good stays so until then.
                Err(error @ TokenError::Io { .. }) => {
                    tracing::error!(%error, "the tokens cannot be read; the next call tries again");
                    return Arc::clone(&known.table);
                }
                Err(error) => {
                    tracing::error!(%error, "the tokens cannot be read: none is good");
                    Vec::new()
                }
            };
            *known = Known { version, table: Arc::new(TokenTable::new(tokens)) };
        }
        Arc::clone(&known.table)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NameKind {
    const ALL: [(Self, &'static str); 4] =
        [(Self::CommonName, "CN"), (Self::Dns, "DNS"), (Self::Uri, "URI"), (Self::Email, "EMAIL")];

    /// The kind with this name in settings: `CN`, `DNS`, `URI` or `EMAIL`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(kind, _)| kind)
    }

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for UnixUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.uid, self.role)
    }
}

impl fmt::Display for CertificateRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, role, principal } = self;
        write!(formatter, "{}:{name}={role}:{principal}", kind.name())
    }
}

impl CertificateRule {
    fn fits(&self, certificate: &Certificate) -> bool {
        let has = |names: &[String]| names.contains(&self.name);
        match self.kind {
            NameKind::CommonName => certificate.common_name.as_ref() == Some(&self.name),
            NameKind::Dns => has(&certificate.dns_names),
            NameKind::Uri => has(&certificate.uris),
            NameKind::Email => has(&certificate.emails),
        }
    }
}

/// The token in a header, which says first that it is one.
pub(super) fn bearer(header: &[u8]) -> Option<&str> {
    let text = str::from_utf8(header).ok()?;
    let (scheme, token) = text.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(token.trim_matches(' '))
}
