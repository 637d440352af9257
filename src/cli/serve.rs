//! `jobwarden serve`: resolves the settings and runs the service.

use clap::Args;

use crate::{
    config::{Config, ConfigErrors, Effective, ServeFlags},
    server,
};

use super::{
    Global, Outcome,
    failure::{DONE, Failure, INTERNAL, TRY_AGAIN, USAGE},
    output,
};

const EXAMPLES: &str = "\
Examples:
  jobwarden serve                                    on a socket in the task directory
  jobwarden serve --root /var/lib/jobwarden --listen 127.0.0.1:7420
  jobwarden serve --print-config > config.toml       the settings, as a file to start from

Every setting is also the key of the configuration file and, in upper case after JOBWARDEN_, an
environment variable. A flag wins over the environment, that over the file. SIGTERM ends the
service; jobs go on.";

/// The arguments of `serve`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServeCommand {
    #[command(flatten)]
    flags: ServeFlags,
    /// Print the settings as TOML, each with its source, and exit
    #[arg(long)]
    print_config: bool,
    /// Leave the terminal; used by commands that start a service
    #[arg(long, hide = true)]
    detach: bool,
}

/// Runs the service until it is told to end.
pub(super) fn run(global: &Global, command: ServeCommand) -> Outcome {
    let ServeCommand { flags, print_config, detach } = command;
    let flags = ServeFlags { root: global.root.clone(), ..flags };
    let effective = Effective::load(&flags).map_err(|errors| from_mistakes(&errors))?;
    if print_config {
        output::line(effective.to_toml().trim_end())?;
        return Ok(DONE);
    }
    run_server(&effective.config, detach)
}

/// Hands over to the service.
fn run_server(config: &Config, is_detached: bool) -> Outcome {
    if is_detached {
        server::detach();
    }
    server::run(config).map(|()| DONE).map_err(|error| {
        let code = match (error.is_taken(), error.is_usage()) {
            (true, _) => TRY_AGAIN,
            (false, true) => USAGE,
            (false, false) => INTERNAL,
        };
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Failure::new(code, text)
    })
}

/// All that is wrong with the settings.
pub(super) fn from_mistakes(errors: &ConfigErrors) -> Failure {
    let text = match errors.mistakes.len() {
        1 => "a setting is wrong".to_owned(),
        count => format!("{count} settings are wrong"),
    };
    let mut failure = Failure::usage(text);
    failure.details = errors.mistakes.iter().map(ToString::to_string).collect();
    failure.hint("`jobwarden serve --help` explains the settings")
}
