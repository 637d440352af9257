//! From the text of one value to the value, within its bounds.
//!
//! Each function answers what would be right if the text is not: a whole phrase that begins with
//! `must`, or a sentence of its own.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::access::{CertificateRule, NameKind, PRINCIPAL_BYTES_MAX, Role, UnixUser};

use super::{AuditScope, CgroupUse, Durability, FileNotices, ListenAddress, LogFormat};

/// The longest path that a unix socket can have: `sun_path` less its NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The longest text of a log filter.
const LOG_FILTER_BYTES_MAX: usize = 4096;

/// A whole number within `bounds`. Underscores may group the digits.
pub(super) fn number(text: &str, bounds: &RangeInclusive<u32>) -> Result<u32, String> {
    let wrong = || format!("must be a whole number from {} to {}", bounds.start(), bounds.end());
    let number = text.replace('_', "").parse().map_err(|_| wrong())?;
    if bounds.contains(&number) { Ok(number) } else { Err(wrong()) }
}

/// A number of bytes up to `most`, plain or with `KiB`, `MiB` or `GiB`.
pub(super) fn bytes(text: &str, most: u64) -> Result<u64, String> {
    bytes_in(text, &(0..=most))
}

/// A number of bytes within `bounds`.
pub(super) fn bytes_in(text: &str, bounds: &RangeInclusive<u64>) -> Result<u64, String> {
    let (least, most) = (bounds.start(), bounds.end());
    let wrong =
        || format!("must be a number of bytes from {least} to {most}, for example 65536 or 1MiB");
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("", 1)];
    let (digits, unit): (&str, u64) = units
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))
        .ok_or_else(wrong)?;
    let count: u64 = digits.trim_end().replace('_', "").parse().map_err(|_| wrong())?;
    count.checked_mul(unit).filter(|bytes| bounds.contains(bytes)).ok_or_else(wrong)
}

/// A span of time within `bounds`, such as `90s`, `1h 30m` or `2days`.
pub(super) fn duration(text: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let wrong = || {
        let (least, most) = (
            humantime::format_duration(*bounds.start()),
            humantime::format_duration(*bounds.end()),
        );
        format!("must be a duration from {least} to {most} with its unit, for example \"10s\"")
    };
    let duration = humantime::parse_duration(text).map_err(|_| wrong())?;
    if bounds.contains(&duration) { Ok(duration) } else { Err(wrong()) }
}

/// A value, or `none`.
pub(super) fn or_none<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text == "none" {
        return Ok(None);
    }
    parse(text).map(Some).map_err(|remedy| format!("{remedy}, or \"none\""))
}

/// A span of time within `bounds`, or `none`.
pub(super) fn duration_or_none(
    text: &str,
    bounds: &RangeInclusive<Duration>,
) -> Result<Option<Duration>, String> {
    or_none(text, |text| duration(text, bounds))
}

/// An absolute path. A relative one starts from `base`, where there is one.
pub(super) fn path(text: &str, base: Option<&Path>) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if text.is_empty() || text.contains('\0') || text.contains('\u{fffd}') {
        return Err("must be a path in UTF-8, not empty".to_owned());
    }
    match base {
        _ if path.is_absolute() => Ok(path.to_owned()),
        Some(base) => Ok(base.join(path)),
        None => Err("must be an absolute path".to_owned()),
    }
}

/// An address to listen on.
pub(super) fn listen_address(text: &str, base: Option<&Path>) -> Result<ListenAddress, String> {
    if let Some(socket) = text.strip_prefix("unix:") {
        return socket_path(path(socket, base)?).map(ListenAddress::Unix);
    }
    let wrong =
        || "must be unix:PATH or ADDRESS:PORT, for example 127.0.0.1:7420 or [::1]:7420".to_owned();
    let address = match text.strip_prefix("localhost:") {
        Some(port) => {
            let port = port.parse().map_err(|_| wrong())?;
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
        }
        None => text.parse().map_err(|_| wrong())?,
    };
    Ok(ListenAddress::Tcp(address))
}

/// `path` if a unix socket can have it.
pub(super) fn socket_path(path: PathBuf) -> Result<PathBuf, String> {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_BYTES_MAX {
        return Err(format!(
            "makes a socket path of {length} bytes where {SOCKET_PATH_BYTES_MAX} is the most; \
             listen on a shorter unix:PATH"
        ));
    }
    Ok(path)
}

/// A user of this machine and its role: `USER=ROLE`, the user by number or by name.
pub(super) fn unix_user(text: &str, accounts: &BTreeMap<String, u32>) -> Result<UnixUser, String> {
    let (user, role) = text
        .rsplit_once('=')
        .ok_or("must be USER=ROLE, for example \"1000=submitter\" or \"deploy=operator\"")?;
    let role = role.parse::<Role>().map_err(|error| format!("the role {error}"))?;
    let uid = user.parse().ok().or_else(|| accounts.get(user).copied());
    let uid = uid.ok_or("the user must be a number or a name in /etc/passwd")?;
    Ok(UnixUser { uid, role })
}

/// A name of a client certificate, its role and its principal: `KIND:NAME=ROLE[:PRINCIPAL]`.
pub(super) fn certificate(text: &str) -> Result<CertificateRule, String> {
    let wrong = || {
        "must be KIND:NAME=ROLE or KIND:NAME=ROLE:PRINCIPAL with the kind CN, DNS, URI or EMAIL, \
         for example \"CN:ci-runner=submitter\""
            .to_owned()
    };
    let (subject, grant) = text.rsplit_once('=').ok_or_else(wrong)?;
    let (kind, name) = subject.split_once(':').ok_or_else(wrong)?;
    let kind = NameKind::named(kind).ok_or_else(wrong)?;
    let (role, principal) = match grant.split_once(':') {
        Some((role, principal)) => (role, principal.to_owned()),
        None => (grant, format!("cert:{name}")),
    };
    let role = role.parse::<Role>().map_err(|error| format!("the role {error}"))?;
    let is_plain = |text: &str| {
        (1..=PRINCIPAL_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
    };
    if !is_plain(name) || !is_plain(&principal) {
        return Err("must have 1 to 256 characters in the name and in the principal".to_owned());
    }
    Ok(CertificateRule { kind, name: name.to_owned(), role, principal })
}

/// Which calls are recorded.
pub(super) fn audit(text: &str) -> Result<AuditScope, String> {
    match text {
        "off" => Ok(AuditScope::Off),
        "changes" => Ok(AuditScope::Changes),
        "all" => Ok(AuditScope::All),
        _ => Err("must be \"changes\", \"all\" or \"off\"".to_owned()),
    }
}

/// `true` or `false`.
pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// `power` or `process`.
pub(super) fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "power" => Ok(Durability::Power),
        "process" => Ok(Durability::Process),
        _ => Err("must be \"power\" or \"process\"".to_owned()),
    }
}

/// How changes are noticed.
pub(super) fn file_notices(text: &str) -> Result<FileNotices, String> {
    match text {
        "auto" => Ok(FileNotices::Auto),
        "poll" => Ok(FileNotices::Poll),
        _ => Err("must be \"auto\" or \"poll\"".to_owned()),
    }
}

/// `auto` or `off`.
pub(super) fn cgroup(text: &str) -> Result<CgroupUse, String> {
    match text {
        "auto" => Ok(CgroupUse::Auto),
        "off" => Ok(CgroupUse::Off),
        _ => Err("must be \"auto\" or \"off\"".to_owned()),
    }
}

/// `auto`, `human` or `json`.
pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be \"auto\", \"human\" or \"json\"".to_owned()),
    }
}

/// A filter in the syntax of `tracing`.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    let is_filter = tracing_subscriber::EnvFilter::try_new(text).is_ok();
    if is_filter && !text.is_empty() && text.len() <= LOG_FILTER_BYTES_MAX {
        return Ok(text.to_owned());
    }
    Err("must be a log filter such as \"info\" or \"info,jobwarden=debug\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_units_and_stop_at_the_bound() {
        assert_eq!(bytes("1MiB", 1 << 20), Ok(1 << 20));
        assert_eq!(bytes("2 KiB", 1 << 20), Ok(2048));
        assert_eq!(bytes("1_000", 1 << 20), Ok(1000));
        for wrong in ["", "MiB", "-1", "1MB", "2MiB", "99999999999GiB", "1.5KiB"] {
            assert!(bytes(wrong, 1 << 20).is_err(), "{wrong}");
        }
    }

    #[test]
    fn users_and_certificates_get_a_role() {
        let accounts = BTreeMap::from([("deploy".to_owned(), 7)]);
        let user = |text: &str| unix_user(text, &accounts).map(|user| user.to_string());
        assert_eq!(user("deploy=operator"), Ok("7=operator".to_owned()));
        assert_eq!(user("1000=reader"), Ok("1000=reader".to_owned()));
        for wrong in ["", "deploy", "nobody=reader", "1000=root", "-1=reader", "=reader"] {
            assert!(user(wrong).is_err(), "{wrong}");
        }
        let certificate = |text: &str| certificate(text).map(|rule| rule.to_string());
        assert_eq!(certificate("CN:a=b=reader"), Ok("CN:a=b=reader:cert:a=b".to_owned()));
        let named = "URI:spiffe://x/y=submitter:ci";
        assert_eq!(certificate(named), Ok(named.to_owned()));
        for wrong in
            ["", "CN:a", "XX:a=reader", "CN:=reader", "CN:a=reader:", "CN:a=boss", "a=reader"]
        {
            assert!(certificate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_keep_their_bounds() {
        let bounds = Duration::from_secs(1)..=Duration::from_hours(1);
        assert_eq!(duration("1h", &bounds), Ok(Duration::from_hours(1)));
        assert_eq!(duration_or_none("none", &bounds), Ok(None));
        for wrong in ["", "5", "0s", "2h", "-1s", "soon"] {
            assert!(duration_or_none(wrong, &bounds).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_addresses_and_sockets_of_a_possible_length_are_listened_on() {
        let listens = |text: &str| listen_address(text, None);
        assert!(listens("127.0.0.1:0").is_ok());
        assert!(listens("[::1]:7420").is_ok());
        assert!(listens("localhost:7420").is_ok());
        assert!(listens("unix:/run/jobwarden.sock").is_ok());
        assert!(listens("0.0.0.0:7420").is_ok());
        for wrong in ["example.org:1", "127.0.0.1", "unix:x"] {
            assert!(listens(wrong).is_err(), "{wrong}");
        }
        assert!(listens(&format!("unix:/{}", "x".repeat(106))).is_ok());
        assert!(listens(&format!("unix:/{}", "x".repeat(107))).is_err());
    }
}
