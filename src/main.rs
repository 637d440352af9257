//! The `jobwarden` program.
//!
//! The two small processes are told apart before anything else is set up: they must stay small.

use std::{path::PathBuf, process::ExitCode};

use jobwarden::{launcher, store::JobDir, supervisor};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (verb, place) = (arguments.next(), arguments.next());
    let done = match (verb.as_ref().and_then(|verb| verb.to_str()), place) {
        (Some("launcher"), Some(root)) => {
            let use_groups = arguments.next().is_some_and(|word| word == "groups");
            let open_files = arguments.next().and_then(|word| word.to_str()?.parse().ok());
            launcher::run(&PathBuf::from(root), use_groups, open_files)
        }
        (Some("supervise"), Some(folder)) => {
            supervisor::supervise_alone(JobDir::at(PathBuf::from(folder)))
        }
        _ => return jobwarden::cli::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jobwarden: {:#}", anyhow::Error::new(error));
            ExitCode::from(70)
        }
    }
}
