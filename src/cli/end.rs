//! How a job ended, as an exit code and as a sentence.

use crate::api::{EndCause, Job, JobState, exit_status::Outcome};

use super::signals;

/// The exit code for a job that could not be started: no such program, and any other reason.
const NO_SUCH_PROGRAM: u8 = 127;
const NOT_STARTED: u8 = 126;

/// The exit code for a job that ran out of time and left no code of its own.
const TIMED_OUT: u8 = 124;

/// The exit code for a job that ended otherwise and left no code of its own.
const FAILED: u8 = 1;

/// Whether the state is one that never changes.
pub(super) fn is_terminal(state: JobState) -> bool {
    match state {
        JobState::Succeeded
        | JobState::Failed
        | JobState::Cancelled
        | JobState::TimedOut
        | JobState::Lost => true,
        JobState::Unspecified | JobState::Queued | JobState::Running => false,
    }
}

/// The exit code that stands for the end of `job`: its own where it has one.
pub(super) fn exit_code(job: &Job) -> u8 {
    match job.exit_status.as_ref().and_then(|status| status.outcome) {
        Some(Outcome::ExitCode(code)) => return u8::try_from(code & 0xff).unwrap_or(FAILED),
        Some(Outcome::Signal(signal)) => return u8::try_from(128 + signal).unwrap_or(FAILED),
        None => {}
    }
    if job.cause() == EndCause::LaunchFailed {
        let errno_name = job.launch_error.as_ref().map(|error| error.errno_name.as_str());
        return if errno_name == Some("ENOENT") { NO_SUCH_PROGRAM } else { NOT_STARTED };
    }
    match job.state() {
        JobState::Succeeded => 0,
        JobState::TimedOut => TIMED_OUT,
        JobState::Failed
        | JobState::Cancelled
        | JobState::Lost
        | JobState::Unspecified
        | JobState::Queued
        | JobState::Running => FAILED,
    }
}

/// How the process ended, in a word or two: `0`, `3`, `SIGKILL`, or nothing.
pub(super) fn exit_word(job: &Job) -> String {
    match job.exit_status.as_ref().and_then(|status| status.outcome) {
        Some(Outcome::ExitCode(code)) => code.to_string(),
        Some(Outcome::Signal(signal)) => signals::name(signal),
        None => String::new(),
    }
}

/// What a person who sees only the output and the exit code would miss.
///
/// Nothing for a job that ran and exited by itself: the code says it all.
pub(super) fn remark(job: &Job) -> Option<String> {
    let what = match job.cause() {
        EndCause::Unspecified | EndCause::Exited => return None,
        EndCause::Signaled | EndCause::Killed => "was ended by a signal",
        EndCause::Cancelled => "was cancelled",
        EndCause::TimedOut => "ran out of time",
        EndCause::IdleTimedOut => "was silent for too long",
        EndCause::QueueTimedOut => "waited too long in the queue",
        EndCause::OutOfMemory => "ran out of memory",
        EndCause::OutputLimit => "wrote more than it may",
        EndCause::LaunchFailed => "could not be started",
        EndCause::Lost => "was lost",
    };
    let mut remark = format!("job {} {what}", job.job_id);
    if !job.message.is_empty() {
        remark = format!("{remark}: {}", job.message);
    }
    Some(remark)
}

#[cfg(test)]
mod tests {
    use crate::api::{ExitStatus, LaunchError};

    use super::*;

    fn job(state: JobState, cause: EndCause, outcome: Option<Outcome>) -> Job {
        Job {
            state: state.into(),
            cause: cause.into(),
            exit_status: outcome
                .map(|outcome| ExitStatus { outcome: Some(outcome), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn a_job_passes_on_its_own_code_or_its_signal() {
        let exited = |code| {
            exit_code(&job(JobState::Failed, EndCause::Exited, Some(Outcome::ExitCode(code))))
        };
        assert_eq!((exited(0), exited(3), exited(255)), (0, 3, 255));
        let killed = job(JobState::Cancelled, EndCause::Cancelled, Some(Outcome::Signal(15)));
        assert_eq!(exit_code(&killed), 143);
        let timed_out = job(JobState::TimedOut, EndCause::TimedOut, Some(Outcome::Signal(9)));
        assert_eq!(exit_code(&timed_out), 137);
    }

    #[test]
    fn a_job_without_a_code_of_its_own_gets_one_by_its_cause() {
        let without = |state, cause| exit_code(&job(state, cause, None));
        assert_eq!(without(JobState::TimedOut, EndCause::QueueTimedOut), 124);
        assert_eq!(without(JobState::Cancelled, EndCause::Cancelled), 1);
        assert_eq!(without(JobState::Lost, EndCause::Lost), 1);
        let launch = |errno_name: &str| {
            let launch_error =
                Some(LaunchError { errno_name: errno_name.to_owned(), ..Default::default() });
            exit_code(&Job { launch_error, ..job(JobState::Failed, EndCause::LaunchFailed, None) })
        };
        assert_eq!((launch("ENOENT"), launch("EACCES")), (127, 126));
    }

    #[test]
    fn an_ordinary_exit_needs_no_remark_and_any_other_end_does() {
        let exited = job(JobState::Failed, EndCause::Exited, Some(Outcome::ExitCode(3)));
        assert_eq!(remark(&exited), None);
        let lost = job(JobState::Lost, EndCause::Lost, None);
        assert!(remark(&lost).is_some_and(|remark| remark.contains("was lost")));
    }
}
