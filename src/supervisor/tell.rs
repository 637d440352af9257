//! The sentence that a person reads about an end, and the ends that no process had a part in.

use std::time::Duration;

use crate::{
    job::{
        End, EndCause, EndState, ExitStatus, LaunchError, OutputSize, StopCause, StopRequest, Time,
        signal_name,
    },
    store::Stream,
};

fn unstarted(state: EndState, cause: EndCause, message: String, time: Time) -> End {
    End {
        state,
        cause,
        exit: None,
        message,
        launch_error: None,
        time,
        usage: None,
        stdout: OutputSize::default(),
        stderr: OutputSize::default(),
    }
}

/// The end of a job that was cancelled before it started.
pub(super) fn cancelled_before_start(request: &StopRequest, time: Time) -> End {
    let message = with_reason("Cancelled before it started", &request.reason);
    unstarted(EndState::Cancelled, EndCause::Cancelled, message, time)
}

/// The end of a job that could not be started.
pub(super) fn not_launched(error: LaunchError, message: &str, time: Time) -> End {
    let message = format!("The job {message}.");
    End {
        launch_error: Some(error),
        ..unstarted(EndState::Failed, EndCause::LaunchFailed, message, time)
    }
}

/// The end of a job whose supervisor died.
pub(super) fn lost(message: &str, time: Time) -> End {
    unstarted(EndState::Lost, EndCause::Lost, message.to_owned(), time)
}

/// What became of the processes that outlived the main one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leftovers {
    /// How many were killed because they held the output open for too long.
    pub(super) killed_holding_output: usize,
    /// How many could not be killed.
    pub(super) survivors: usize,
    /// Whether output may have been lost with those who died.
    pub(super) may_lack_output: bool,
}

/// What is said where nobody held the output of a job while it ended.
pub(super) const MAY_LACK_OUTPUT: &str =
    "its supervisor and its launcher were killed, and what it wrote last may be missing";

/// The sentence about how a process ended.
pub(super) fn message(
    exit: ExitStatus,
    cause: EndCause,
    stop: Option<(StopCause, &str, Option<Duration>)>,
    leftovers: Leftovers,
    log_fault: Option<&str>,
) -> String {
    let mut text = match stop {
        Some((StopCause::Cancel, reason, _)) => with_reason("Cancelled", reason),
        Some((StopCause::Timeout, _, limit)) => limited("Exceeded its time limit", limit),
        Some((StopCause::IdleTimeout, _, limit)) => limited("Was silent for too long", limit),
        Some((StopCause::OutputLimit, reason, _)) => reason.to_owned(),
        None => String::new(),
    };
    let exited = match exit {
        ExitStatus::Code(code) => format!("exited with code {code}"),
        ExitStatus::Signal { signal, core_dumped } => {
            let core = if core_dumped { " (core dumped)" } else { "" };
            let sent = if cause == EndCause::Killed { " sent by Kill" } else { "" };
            format!("died of {}{sent}{core}", signal_name(signal))
        }
    };
    if text.is_empty() {
        text = format!("The process {exited}");
    } else {
        text = format!("{text}; the process {exited}");
    }
    if leftovers.killed_holding_output > 0 {
        let count = leftovers.killed_holding_output;
        text += &format!("; {count} leftover processes held its output and were killed");
    }
    if leftovers.survivors > 0 {
        text += &format!("; {} processes could not be killed", leftovers.survivors);
    }
    if leftovers.may_lack_output {
        text += "; ";
        text += MAY_LACK_OUTPUT;
    }
    if let Some(fault) = log_fault {
        text += &format!("; output was lost: {fault}");
    }
    text.push('.');
    text
}

/// What is said of a job that wrote more than it may.
pub(super) fn exceeded((stream, limit): (Stream, u64)) -> String {
    let name = match stream {
        Stream::Stdout => "Standard output",
        Stream::Stderr => "Standard error",
    };
    format!("{name} exceeded its limit of {limit} bytes")
}

fn with_reason(text: &str, reason: &str) -> String {
    if reason.is_empty() { text.to_owned() } else { format!("{text}: {reason}") }
}

fn limited(text: &str, limit: Option<Duration>) -> String {
    match limit {
        Some(limit) => format!("{text} of {}", humantime::format_duration(limit)),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_says_what_was_asked_and_what_happened() {
        let killed = ExitStatus::Signal { signal: 9, core_dumped: false };
        let limit = Some(Duration::from_millis(1_500));
        let stop = Some((StopCause::Timeout, "", limit));
        let none = Leftovers::default();
        assert_eq!(
            message(killed, EndCause::TimedOut, stop, none, None),
            "Exceeded its time limit of 1s 500ms; the process died of SIGKILL."
        );
        assert_eq!(
            message(killed, EndCause::Killed, None, none, None),
            "The process died of SIGKILL sent by Kill."
        );
        let left = Leftovers { killed_holding_output: 2, ..none };
        assert_eq!(
            message(ExitStatus::Code(0), EndCause::Exited, None, left, None),
            "The process exited with code 0; 2 leftover processes held its output and were killed."
        );
    }
}
