//! Finds the service that a command is for.
//!
//! A flag wins over the environment. Without an endpoint it is the default socket of the task
//! directory, and a service is started there if none runs.

use std::{
    env, io,
    path::{Path, PathBuf},
};

use crate::{
    client::{Client, Endpoint, Error},
    config,
};

use super::{Global, failure::Failure, start};

/// What the names of variables begin with that bring a token.
const TOKEN_VARIABLES: &str = "JOBWARDEN_TOKEN";

/// Where a command looks for its service.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// Exactly there.
    Given(String),
    /// At the default socket of this task directory.
    Directory(PathBuf),
}

/// Connects to the service that the global flags and the environment name.
pub(super) async fn connect(global: &Global) -> Result<Client, Failure> {
    let variable = |name: &str| env::var(name).ok();
    // A token in the environment is for a service that was named: one's own needs none, and it
    // would not know that of another.
    let without_token = |name: &str| variable(name).filter(|_| !name.starts_with(TOKEN_VARIABLES));
    match target(global, variable)? {
        Target::Given(text) => {
            let credentials = &global.credentials.credentials(variable)?;
            let endpoint: Endpoint = text.parse().map_err(Failure::from)?;
            Client::connect_with(endpoint, credentials).await.map_err(Failure::from)
        }
        Target::Directory(root) => {
            let credentials = &global.credentials.credentials(without_token)?;
            let socket = config::default_socket(&root);
            match Client::connect_with(Endpoint::Unix(socket), credentials).await {
                Ok(client) => Ok(client),
                Err(error) if is_absent(&error) => {
                    start::start(&root, credentials, global.verbose).await
                }
                Err(error @ Error::Credentials(_)) => Err(Failure::from(error)),
                Err(error) => Err(unusable(&root, error)),
            }
        }
    }
}

/// What is wrong with a task directory that cannot even hold a socket, or does not let us at it.
fn unusable(root: &Path, error: Error) -> Failure {
    let hint = match error.io_kind() {
        Some(io::ErrorKind::InvalidInput) => {
            "the path of a socket takes 107 bytes at most; use a shorter --root".to_owned()
        }
        Some(io::ErrorKind::PermissionDenied) => {
            format!("{} belongs to another user; use a --root of your own", root.display())
        }
        _ => "use another --root, or name a running service with --endpoint".to_owned(),
    };
    Failure::from(error).hint(hint)
}

/// Whether nobody listens at all, as opposed to somebody who does not answer or let us in.
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Unreachable { .. })
        && matches!(
            error.io_kind(),
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
        )
}

fn target(global: &Global, variable: impl Fn(&str) -> Option<String>) -> Result<Target, Failure> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    if let Some(endpoint) = &global.endpoint {
        return Ok(Target::Given(endpoint.clone()));
    }
    if let Some(root) = &global.root {
        return absolute(root).map(Target::Directory);
    }
    if let Some(endpoint) = set("JOBWARDEN_ENDPOINT") {
        return Ok(Target::Given(endpoint));
    }
    if let Some(root) = set("JOBWARDEN_ROOT") {
        return absolute(&root).map(Target::Directory);
    }
    config::usual_root().map(Target::Directory).ok_or_else(|| {
        Failure::usage("there is no home directory to look for a service in")
            .hint("name the service with --endpoint, or its task directory with --root")
    })
}

fn absolute(path: &str) -> Result<PathBuf, Failure> {
    std::path::absolute(Path::new(path))
        .map_err(|error| Failure::usage(format!("{path:?} is not a directory: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(endpoint: Option<&str>, root: Option<&str>, variables: &[(&str, &str)]) -> Target {
        let global = Global {
            endpoint: endpoint.map(str::to_owned),
            root: root.map(str::to_owned),
            ..Global::default()
        };
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        target(&global, variable).unwrap()
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_an_endpoint_over_a_directory() {
        let variables = [("JOBWARDEN_ENDPOINT", "env:1"), ("JOBWARDEN_ROOT", "/env")];
        let given = |text: &str| Target::Given(text.to_owned());
        assert_eq!(find(Some("a:1"), Some("/r"), &variables), given("a:1"));
        assert_eq!(find(None, Some("/r"), &variables), Target::Directory("/r".into()));
        assert_eq!(find(None, None, &variables), given("env:1"));
        let empty = [("JOBWARDEN_ENDPOINT", ""), variables[1]];
        assert_eq!(find(None, None, &empty), Target::Directory("/env".into()));
    }
}
