//! The environment of a job: a base, files, the spec's variables, secrets, the job's own name.

use std::{collections::BTreeMap, ffi::OsString, io, os::unix::ffi::OsStringExt as _, path::Path};

use crate::{
    job::{Accepted, Account, EnvInheritance, Secrets},
    sys::{fs, process},
};

use super::confine::with_rights_of_job;

/// Passed on with `ENV_INHERITANCE_MINIMAL`.
const MINIMAL: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];
/// Where programs are looked for if the service has no PATH of its own.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The service's own variables: settings and credentials. No job gets them.
const OWN_PREFIX: &[u8] = b"JOBWARDEN_";
/// What the service manager tells the service alone: sockets to talk to it, descriptors that jobs
/// do not have, where credentials are. A job that believed it would speak for the service.
const OF_MANAGER: [&str; 15] = [
    "CREDENTIALS_DIRECTORY",
    "FDSTORE",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "MAINPID",
    "MANAGERPID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "NOTIFY_SOCKET",
    "SYSTEMD_EXEC_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];
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
    let rules = &accepted.confinement;
    let mut environment = base(spec.env_inheritance, rules.run_as.as_ref(), std::env::vars_os());
    for path in &spec.env_files {
        let read = || fs::read_small(Path::new(path), ENV_FILE_BYTES_MAX);
        let bytes = with_rights_of_job(rules, read).map_err(|source| EnvFileError {
            path: path.clone(),
            line: None,
            source,
        })?;
        take_lines(path, &bytes, &mut environment)?;
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
    run_as: Option<&Account>,
    own: impl Iterator<Item = (OsString, OsString)>,
) -> Environment {
    let is_passed = |name: &[u8]| match inheritance {
        EnvInheritance::All => {
            let is_of_manager = OF_MANAGER.iter().any(|known| known.as_bytes() == name);
            !name.starts_with(OWN_PREFIX) && !is_of_manager
        }
        EnvInheritance::Minimal => MINIMAL.iter().any(|known| known.as_bytes() == name),
    };
    let mut base: Environment = own
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .filter(|(name, _)| is_passed(name))
        .collect();
    if run_as.is_some() {
        // That of root may lead where the user may not look.
        base.insert(b"PATH".to_vec(), PATH_DEFAULT.into());
    }
    base.entry(b"PATH".to_vec()).or_insert_with(|| PATH_DEFAULT.into());
    if let Some(Account { name, home, .. }) = run_as {
        for (variable, value) in [("HOME", home), ("USER", name), ("LOGNAME", name)] {
            base.insert(variable.into(), value.clone().into_bytes());
        }
        return base;
    }
    if (!base.contains_key(&b"HOME"[..]) || !base.contains_key(&b"USER"[..]))
        && let Some((name, home)) = process::own_account()
    {
        base.entry(b"HOME".to_vec()).or_insert_with(|| home.clone().into_os_string().into_vec());
        base.entry(b"USER".to_vec()).or_insert_with(|| name.clone().into_bytes());
    }
    base
}

/// Takes in `KEY=VALUE` lines. Values are taken as they stand, without quotes or expansion; blank
/// lines and lines that begin with `#` do not count.
fn take_lines(path: &str, bytes: &[u8], environment: &mut Environment) -> Result<(), EnvFileError> {
    let fail = |line, source| EnvFileError { path: path.to_owned(), line, source };
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
            ("NOTIFY_SOCKET", "/run/systemd/notify"),
            ("LISTEN_FDS", "1"),
            ("CREDENTIALS_DIRECTORY", "/run/credentials/jobwarden"),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
    }

    fn names(environment: &Environment) -> Vec<&str> {
        environment.keys().map(|name| str::from_utf8(name).unwrap()).collect()
    }

    #[test]
    fn the_minimal_base_passes_the_named_variables_only() {
        assert_eq!(names(&base(EnvInheritance::Minimal, None, own())), ["HOME", "PATH", "USER"]);
    }

    #[test]
    fn a_job_that_runs_as_a_user_gets_that_users_name_and_home() {
        let home = "/home/ada".to_owned();
        let ada = Account { name: "ada".to_owned(), home, ..Account::default() };
        for inheritance in [EnvInheritance::Minimal, EnvInheritance::All] {
            let base = base(inheritance, Some(&ada), own());
            assert_eq!(base[&b"HOME"[..]], b"/home/ada");
            assert_eq!([&base[&b"USER"[..]], &base[&b"LOGNAME"[..]]], [b"ada", b"ada"]);
        }
    }

    #[test]
    fn no_base_passes_variables_of_the_service() {
        let all = base(EnvInheritance::All, None, own());
        assert_eq!(names(&all), ["HOME", "PATH", "SHELL", "USER"]);
    }

    #[test]
    fn lines_are_taken_literally_and_a_bad_one_is_named() {
        let mut environment = Environment::new();
        take_lines("env", b"# note\n\nA=1 2\r\n  B=\"q\"=x\n", &mut environment).unwrap();
        assert_eq!(environment[&b"A"[..]], b"1 2");
        assert_eq!(environment[&b"B"[..]], b"\"q\"=x");
        let error = take_lines("env", b"A=1\nnot a pair\n", &mut environment).unwrap_err();
        assert_eq!(error.line, Some(2));
    }
}
