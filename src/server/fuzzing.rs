//! Fuzz target of the certificates that clients bring.

use tokio_rustls::rustls::pki_types::CertificateDer;

use super::tls;

/// A certificate says nothing that could forge a line of a log.
pub(crate) fn certificate(data: &[u8]) {
    let Some(certificate) = tls::facts(&CertificateDer::from(data)) else { return };
    let names = certificate.common_name.iter().chain(&certificate.dns_names);
    for name in names.chain(&certificate.uris).chain(&certificate.emails) {
        assert!(!name.chars().any(char::is_control), "{name:?}");
    }
}
