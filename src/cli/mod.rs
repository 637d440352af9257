//! The command line: `jobwarden serve`, and a client command for each thing the service does.
//!
//! Standard output carries results only; everything for people goes to standard error. Commands
//! speak the same gRPC as any other client and know nothing of the task directory, apart from
//! where the default socket is.

mod connect;
mod credentials;
mod end;
mod exec;
mod failure;
mod follow;
mod info;
mod json;
mod list;
mod logs;
mod manage;
mod output;
mod parse;
mod rerun;
mod serve;
mod show;
mod signals;
mod spec;
mod start;
mod stop;
mod token;
mod wait;
mod watch;
mod writer;

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use failure::Failure;
use output::Printer;

/// What a command comes to: the exit code, or what went wrong.
type Outcome = Result<u8, Failure>;

const EXAMPLES: &str = "\
Examples:
  jobwarden exec -- make -j8            run a command as a job and print its id
  jobwarden exec --follow -- make test  the same, with its output and its exit code
  jobwarden list                        the newest jobs
  jobwarden logs -f 01jc                the output of a job as it comes
  jobwarden cancel ID                   ask a job to stop

Exit codes: the job's own with --follow, --wait and `wait` (128+N for signal N); otherwise
0 done, 2 usage, 66 no such job, 69 service unavailable, 70 internal error, 75 try again,
77 not permitted.";

/// Runs commands as durable jobs.
#[derive(Debug, Parser)]
#[command(name = "jobwarden", version, about, after_help = EXAMPLES, max_term_width = 100)]
#[command(propagate_version = true, infer_subcommands = false, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The flags that every command takes.
#[derive(Args, Clone, Debug, Default)]
struct Global {
    /// Talk to the service at unix:PATH, HOST:PORT or `https://HOST:PORT` [env: `JOBWARDEN_ENDPOINT`] [default: the
    /// socket of the task directory, where a service is started if none runs]
    #[arg(long, global = true, value_name = "ADDR", help_heading = "Global options")]
    endpoint: Option<String>,
    /// Use this task directory [env: `JOBWARDEN_ROOT`] [default: ~/.local/state/jobwarden]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    root: Option<String>,
    /// Print JSON (the proto mapping), one object a line
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// Say more on standard error
    #[arg(short, long, global = true, help_heading = "Global options")]
    verbose: bool,
    #[command(flatten)]
    credentials: credentials::CredentialFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service
    Serve(Box<serve::ServeCommand>),
    /// Run a command as a job
    Exec(Box<exec::ExecCommand>),
    /// Show jobs
    Status(show::StatusCommand),
    /// List jobs, newest first
    #[command(visible_alias = "ls")]
    List(list::ListCommand),
    /// Wait for jobs to end, and exit with their exit code
    Wait(wait::WaitCommand),
    /// Send a signal to jobs now
    Kill(stop::KillCommand),
    /// Ask jobs to stop: their stop signal, a grace period, then SIGKILL
    Cancel(stop::CancelCommand),
    /// Remove jobs and their output
    #[command(visible_alias = "rm")]
    Delete(manage::DeleteCommand),
    /// Run the command of an old job again, as a new job
    Rerun(rerun::RerunCommand),
    /// Print the output of a job
    Logs(logs::LogsCommand),
    /// Print what happens to jobs, as it happens
    Watch(watch::WatchCommand),
    /// Set or remove labels of a job
    Labels(manage::LabelsCommand),
    /// Change the time limit of a job
    Timeout(manage::TimeoutCommand),
    /// Show what the service is, its limits and how many jobs it has
    Info(info::InfoCommand),
    /// Make, list and revoke the tokens by which callers are let in
    Token(token::TokenCommand),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  jobwarden completions bash > ~/.bash_completion")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Runs the command that the arguments of this process name.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(failure::USAGE);
            // Help goes to standard output, which may be closed; there is nobody left to tell.
            let _ = harmless(&arguments, error).print();
            return ExitCode::from(code);
        }
    };
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print(&mut io::stderr().lock());
            ExitCode::from(failure.exit)
        }
    }
}

/// The error, without anything in it that a terminal would obey but its own colours.
///
/// It quotes arguments; so it is made again from arguments that are spelt out.
fn harmless(arguments: &[OsString], error: clap::Error) -> clap::Error {
    let shown: Vec<OsString> =
        arguments.iter().map(|it| output::escaped(&it.to_string_lossy()).into()).collect();
    if shown == arguments {
        return error;
    }
    // Spelt out they could even be right. Then only the kind of the error can be told.
    Cli::try_parse_from(shown).err().unwrap_or_else(|| clap::Error::new(error.kind()))
}

fn dispatch(cli: Cli) -> Outcome {
    let Cli { global, command } = cli;
    match command {
        Command::Serve(command) => serve::run(&global, *command),
        Command::Token(command) => token::run(&global, command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "jobwarden", &mut script);
            io::stdout().write_all(&script)?;
            Ok(failure::DONE)
        }
        command => client_command(&global, command),
    }
}

/// Runs a command that talks to a service. One thread is enough for it.
fn client_command(global: &Global, command: Command) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(async {
        let context = &Context { global: global.clone(), printer: Printer::new(global.json) };
        match command {
            Command::Exec(command) => Box::pin(exec::run(context, *command)).await,
            Command::Status(command) => show::run(context, command).await,
            Command::List(command) => list::run(context, command).await,
            Command::Wait(command) => wait::run(context, command).await,
            Command::Kill(command) => stop::kill(context, command).await,
            Command::Cancel(command) => stop::cancel(context, command).await,
            Command::Delete(command) => manage::delete(context, command).await,
            Command::Rerun(command) => Box::pin(rerun::run(context, command)).await,
            Command::Logs(command) => logs::run(context, command).await,
            Command::Watch(command) => watch::run(context, command).await,
            Command::Labels(command) => manage::labels(context, command).await,
            Command::Timeout(command) => manage::timeout(context, command).await,
            Command::Info(command) => info::run(context, command).await,
            Command::Serve(_) | Command::Token(_) | Command::Completions { .. } => {
                Ok(failure::DONE)
            }
        }
    });
    // A writer that is stuck on a full pipe must not keep the process.
    runtime.shutdown_background();
    outcome
}

/// What every client command needs.
#[derive(Debug)]
struct Context {
    global: Global,
    printer: Printer,
}

impl Context {
    /// Connects to the service that the global flags name.
    async fn connect(&self) -> Result<crate::client::Client, Failure> {
        connect::connect(&self.global).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_and_their_flags_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_may_stand_before_and_after_the_command() {
        let cli =
            Cli::try_parse_from(["jobwarden", "--json", "list", "--endpoint", "a:1"]).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.endpoint.as_deref(), Some("a:1"));
    }

    #[test]
    fn a_command_of_a_job_keeps_its_own_flags() {
        for arguments in [
            vec!["jobwarden", "exec", "--follow", "--", "ls", "--json", "-l"],
            vec!["jobwarden", "exec", "--follow", "ls", "--json", "-l"],
        ] {
            let cli = Cli::try_parse_from(arguments).unwrap();
            assert!(!cli.global.json);
            let Command::Exec(exec) = cli.command else { panic!("exec is parsed") };
            assert_eq!(exec.spec.command, ["ls", "--json", "-l"]);
            assert!(exec.run.follow);
        }
        assert!(Cli::try_parse_from(["jobwarden", "exec", "--folow", "--", "ls"]).is_err());
    }
}
