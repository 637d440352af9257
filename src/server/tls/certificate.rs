//! What a certificate says: names, serial number, how long it is valid.
//!
//! Whether it is to be trusted has been decided before: nothing here checks a signature.

use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _, time::ASN1Time,
};

use crate::{access::Certificate, job::Time};

/// A certificate that the service shows.
pub(super) struct Shown {
    pub(super) facts: Certificate,
    /// When it begins and ends, for people.
    pub(super) begins: String,
    pub(super) ends: String,
    not_before: Time,
    not_after: Time,
}

impl Shown {
    /// Whether it is valid at `now`.
    pub(super) fn is_valid_at(&self, now: SystemTime) -> bool {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        (self.not_before.nanos()..=self.not_after.nanos()).contains(&nanos)
    }
}

/// What a certificate of a client says; none if it cannot be read.
pub(in crate::server) fn facts(certificate: &CertificateDer<'_>) -> Option<Certificate> {
    Some(facts_of(&parse(certificate)?))
}

/// What a certificate of the service says; none if it cannot be read.
pub(super) fn shown(certificate: &CertificateDer<'_>) -> Option<Shown> {
    let parsed = parse(certificate)?;
    let validity = parsed.validity();
    Some(Shown {
        facts: facts_of(&parsed),
        begins: validity.not_before.to_string(),
        ends: validity.not_after.to_string(),
        not_before: time(validity.not_before),
        not_after: time(validity.not_after),
    })
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(certificate).ok().map(|(_, parsed)| parsed)
}

fn facts_of(parsed: &X509Certificate<'_>) -> Certificate {
    let mut facts = Certificate {
        common_name: common_name(parsed),
        serial: parsed.raw_serial_as_string().replace(':', ""),
        not_after: Some(time(parsed.validity().not_after)),
        ..Certificate::default()
    };
    let names = parsed.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => facts.dns_names.extend(printable(name)),
            GeneralName::URI(name) => facts.uris.extend(printable(name)),
            GeneralName::RFC822Name(name) => facts.emails.extend(printable(name)),
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(..)
            | GeneralName::Invalid(..) => {}
        }
    }
    facts
}

/// The common name of the subject. With more than one nobody can say which is meant: then there
/// is none.
fn common_name(parsed: &X509Certificate<'_>) -> Option<String> {
    let mut names = parsed.subject().iter_common_name();
    let only = names.next().filter(|_| names.next().is_none())?;
    printable(only.as_str().ok()?)
}

/// A name that can stand in a line of a log. One with control characters is no name.
fn printable(name: &str) -> Option<String> {
    let is_printable = !name.is_empty() && !name.chars().any(char::is_control);
    is_printable.then(|| name.to_owned())
}

fn time(time: ASN1Time) -> Time {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    Time::from_nanos(seconds.saturating_mul(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn made(params: &CertificateParams) -> CertificateDer<'static> {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn names_of_each_kind_are_told_apart() {
        let mut params = CertificateParams::new(["ci.example".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "ada");
        let uri = "spiffe://example/ci".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let email = "ada@example".try_into().unwrap();
        params.subject_alt_names.push(SanType::Rfc822Name(email));
        params.serial_number = Some(vec![0x0a, 0xff].into());
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let expected = Certificate {
            common_name: Some("ada".to_owned()),
            dns_names: vec!["ci.example".to_owned()],
            uris: vec!["spiffe://example/ci".to_owned()],
            emails: vec!["ada@example".to_owned()],
            serial: "0aff".to_owned(),
            not_after: Some(Time::from_millis(1_893_456_000_000)),
        };
        assert_eq!(facts(&made(&params)), Some(expected));
    }

    #[test]
    fn a_name_that_could_forge_a_line_of_a_log_is_none() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "ada\nroot");
        params.subject_alt_names.push(SanType::URI("x:\u{1b}[2J".try_into().unwrap()));
        let facts = facts(&made(&params)).unwrap();
        assert_eq!((facts.common_name, facts.uris), (None, Vec::new()));
    }

    #[test]
    fn a_certificate_is_valid_from_its_first_second_to_its_last() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        let shown = shown(&made(&params)).unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(shown.is_valid_at(at(1_000_000_000)));
        assert!(!shown.is_valid_at(at(900_000_000)));
        assert!(!shown.is_valid_at(at(1_100_000_000)));
    }

    #[test]
    fn bytes_that_are_no_certificate_say_nothing() {
        assert_eq!(facts(&CertificateDer::from(vec![0x30, 0x82, 0xff])), None);
    }
}
