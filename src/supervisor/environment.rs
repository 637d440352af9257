//! The environment of a job: a base, files, the spec's variables, secrets, the job's own name.

use std::{collections::BTreeMap, ffi::OsString, io, os::unix::ffi::OsStringExt as _, path::Path};

use crate::{
    job::{Accepted, EnvInheritance, Secrets},
    sys::{fs, process},
};

/// Passed on with `ENV_INHERITANCE_MINIMAL`.
const MINIMAL: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];
/// Where programs are looked for if the service has no PATH of its own.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The service's own variables: settings and credentials. No job gets them.
const OWN_PREFIX: &[u8] = b"JOBWARDEN_";
const ENV_FILE_BYTES_MAX: usize = 1024 * 1024;

/// A file of variables that cannot be used.
#[derive(Debug)]
pub(super) struct EnvFileError {
    pub(super) path: String,
    pub(super) line: Option<usize>,
    pub(super) source: io::Error,
}

/// The variables of a job, by name.
pub(super) type Environment = BTreeMap<Vec<u8>, Vec<u8>>;

/// All variables for the job's processes.
pub(super) fn environment(
    accepted: &Accepted,
    attempt: u32,
    secrets: &Secrets,
) -> Result<Environment, EnvFileError> {
    let spec = &accepted.spec;
    let mut environment = base(spec.env_inheritance, std::env::vars_os());
    for path in &spec.env_files {
        read_env_file(path, &mut environment)?;
    }
    for (name, value) in spec.env.iter().chain(&secrets.0) {
        environment.insert(name.clone().into_bytes(), value.clone().into_bytes());
    }
    let own =
        [("JOBWARDEN_JOB_ID", accepted.id.to_string()), ("JOBWARDEN_ATTEMPT", attempt.to_string())];
    for (name, value) in own {
        environment.insert(name.into(), value.into_bytes());
    }
    Ok(environment)
}

/// Learns what every environment needs and only the system can tell.
pub(super) fn warm_up() {
    let _ = process::own_account();
}

fn base(
    inheritance: EnvInheritance,
    own: impl Iterator<Item = (OsString, OsString)>,
) -> Environment {
    let is_passed = |name: &[u8]| match inheritance {
        EnvInheritance::All => !name.starts_with(OWN_PREFIX),
        EnvInheritance::Minimal => MINIMAL.iter().any(|known| known.as_bytes() == name),
    };
    let mut base: Environment = own
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .filter(|(name, _)| is_passed(name))
        .collect();
    base.entry(b"PATH".to_vec()).or_insert_with(|| PATH_DEFAULT.into());
    if (!base.contains_key(&b"HOME"[..]) || !base.contains_key(&b"USER"[..]))
        && let Some((name, home)) = process::own_account()
    {
        base.entry(b"HOME".to_vec()).or_insert_with(|| home.clone().into_os_string().into_vec());
        base.entry(b"USER".to_vec()).or_insert_with(|| name.clone().into_bytes());
    }
    base
}

/// Reads `KEY=VALUE` lines. Values are taken as they stand, without quotes or expansion; blank
/// lines and lines that begin with `#` do not count.
fn read_env_file(path: &str, environment: &mut Environment) -> Result<(), EnvFileError> {
    let fail = |line, source| EnvFileError { path: path.to_owned(), line, source };
    let bytes =
        fs::read_small(Path::new(path), ENV_FILE_BYTES_MAX).map_err(|source| fail(None, source))?;
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let split = line.iter().position(|byte| *byte == b'=').map(|at| line.split_at(at));
        match split {
            Some((name, value)) if is_name(name) && !value.contains(&0) => {
                environment.insert(name.to_vec(), value[1..].to_vec());
            }
            Some(_) | None => {
                let source = io::Error::from_raw_os_error(crate::sys::EINVAL);
                return Err(fail(Some(number), source));
            }
        }
    }
    Ok(())
}

fn is_name(name: &[u8]) -> bool {
    let is_first = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    name.first().is_some_and(is_first)
        && name.iter().all(|byte| is_first(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> impl Iterator<Item = (OsString, OsString)> {
        [
            ("PATH", "/bin"),
            ("HOME", "/h"),
            ("USER", "u"),
            ("SHELL", "/bin/sh"),
            ("JOBWARDEN_TOKEN", "t"),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
    }

    fn names(environment: &Environment) -> Vec<&str> {
        environment.keys().map(|name| str::from_utf8(name).unwrap()).collect()
    }

    #[test]
    fn the_minimal_base_passes_the_named_variables_only() {
        assert_eq!(names(&base(EnvInheritance::Minimal, own())), ["HOME", "PATH", "USER"]);
    }

    #[test]
    fn no_base_passes_variables_of_the_service() {
        let all = base(EnvInheritance::All, own());
        assert_eq!(names(&all), ["HOME", "PATH", "SHELL", "USER"]);
    }

    #[test]
    fn a_file_of_variables_is_read_literally_and_a_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        let path = path.to_str().unwrap();
        std::fs::write(path, "# note\n\nA=1 2\r\n  B=\"q\"=x\n").unwrap();
        let mut environment = Environment::new();
        read_env_file(path, &mut environment).unwrap();
        assert_eq!(environment[&b"A"[..]], b"1 2");
        assert_eq!(environment[&b"B"[..]], b"\"q\"=x");
        std::fs::write(path, "A=1\nnot a pair\n").unwrap();
        assert_eq!(read_env_file(path, &mut environment).unwrap_err().line, Some(2));
    }

    #[test]
    fn a_fifo_in_the_place_of_a_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        crate::sys::pipe::create(&path).unwrap();
        let error = read_env_file(path.to_str().unwrap(), &mut Environment::new()).unwrap_err();
        assert_eq!(error.line, None);
    }
}
