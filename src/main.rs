//! The `jobwarden` program.
//!
//! The two small processes are told apart before anything else is set up: they must stay small.

use std::{path::PathBuf, process::ExitCode};

use jobwarden::{launcher, store::JobDir, supervisor, sys};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (verb, place) = (arguments.next(), arguments.next());
    let done = match (verb.as_ref().and_then(|verb| verb.to_str()), place) {
        (Some("launcher"), Some(root)) => {
            let use_groups = arguments.next().is_some_and(|word| word == "groups");
            let open_files = arguments.next().and_then(|word| word.to_str()?.parse().ok());
            launcher::run(&PathBuf::from(root), use_groups, open_files)
        }
        (Some("supervise"), Some(folder)) => supervise(JobDir::at(PathBuf::from(folder))),
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

/// Supervises one job as a process of its own: what an engine starts on another machine.
fn supervise(dir: JobDir) -> Result<(), supervisor::SupervisorError> {
    sys::signal::set_all_to_default();
    let fifos = supervisor::Fifos::open(&dir).map_err(|source| {
        supervisor::SupervisorError::System { action: "make the FIFOs", source }
    })?;
    supervisor::supervise(dir, fifos, &supervisor::Host::default()).map(drop)
}
