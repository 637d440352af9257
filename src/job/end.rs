//! How a job ends, and the one rule that says why.

use std::time::Duration;

use super::Time;

/// The terminal state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndState {
    /// Exit code 0.
    Succeeded,
    /// Ended otherwise, or could not be started.
    Failed,
    /// Ended after Cancel.
    Cancelled,
    /// Exceeded a time limit.
    TimedOut,
    /// Nobody can know.
    Lost,
}

/// Why a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// The main process exited by itself.
    Exited,
    /// It died of a signal that was not ours.
    Signaled,
    /// It died of a signal sent by Kill.
    Killed,
    /// Cancel.
    Cancelled,
    /// The run time limit.
    TimedOut,
    /// The limit on silence.
    IdleTimedOut,
    /// The limit on the time in the queue.
    QueueTimedOut,
    /// The kernel, for want of memory.
    OutOfMemory,
    /// The limit on output.
    OutputLimit,
    /// It could not be started.
    LaunchFailed,
    /// Nobody can know.
    Lost,
}

/// How the main process ended, as wait(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code, 0 to 255.
    Code(i32),
    /// It died of a signal.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether it left a core dump.
        core_dumped: bool,
    },
}

/// Why we stop a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// Cancel.
    Cancel,
    /// The run time limit.
    Timeout,
    /// The limit on silence.
    IdleTimeout,
    /// The limit on output.
    OutputLimit,
}

/// The step at which a start failed, and the operating system's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchError {
    /// The step, as the proto lists them.
    pub stage: String,
    /// The error number.
    pub errno: i32,
    /// Its name, for example `ENOENT`.
    pub errno_name: String,
}

/// What was captured of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputSize {
    /// Bytes that have an offset.
    pub size_bytes: u64,
    /// Bytes among them that were not kept.
    pub dropped_bytes: u64,
}

/// What the processes of a job used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode.
    pub user_time: Duration,
    /// Processor time in the kernel.
    pub system_time: Duration,
    /// The largest resident set of any one process.
    pub max_rss_bytes: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub write_bytes: u64,
}

/// The end of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The terminal state.
    pub state: EndState,
    /// Why.
    pub cause: EndCause,
    /// How the main process ended, if it started and anybody knows.
    pub exit: Option<ExitStatus>,
    /// One English sentence.
    pub message: String,
    /// Why it could not be started.
    pub launch_error: Option<LaunchError>,
    /// When.
    pub time: Time,
    /// What it used.
    pub usage: Option<Usage>,
    /// What was captured of standard output.
    pub stdout: OutputSize,
    /// What was captured of standard error.
    pub stderr: OutputSize,
}

/// Says what an exit means: `stop` is why we had asked the job to stop before it ended,
/// `killed_by` tells whether Kill had sent a signal.
pub fn judge(
    exit: ExitStatus,
    stop: Option<StopCause>,
    killed_by: impl Fn(i32) -> bool,
) -> (EndState, EndCause) {
    match (stop, exit) {
        (Some(StopCause::Cancel), _) => (EndState::Cancelled, EndCause::Cancelled),
        (Some(StopCause::Timeout), _) => (EndState::TimedOut, EndCause::TimedOut),
        (Some(StopCause::IdleTimeout), _) => (EndState::TimedOut, EndCause::IdleTimedOut),
        (Some(StopCause::OutputLimit), _) => (EndState::Failed, EndCause::OutputLimit),
        (None, ExitStatus::Code(0)) => (EndState::Succeeded, EndCause::Exited),
        (None, ExitStatus::Code(_)) => (EndState::Failed, EndCause::Exited),
        (None, ExitStatus::Signal { signal, .. }) if killed_by(signal) => {
            (EndState::Failed, EndCause::Killed)
        }
        (None, ExitStatus::Signal { .. }) => (EndState::Failed, EndCause::Signaled),
    }
}

/// The name of a signal on Linux, for example `SIGKILL` or `SIGRTMIN+2`.
pub fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    // The C library keeps 32 and 33 for itself, so its real-time signals begin at 34.
    match signal {
        1..=31 => format!("SIG{}", NAMES[usize::try_from(signal - 1).unwrap_or(0)]),
        34 => "SIGRTMIN".to_owned(),
        35..=64 => format!("SIGRTMIN+{}", signal - 34),
        other => format!("SIG{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: ExitStatus = ExitStatus::Signal { signal: 9, core_dumped: false };

    #[test]
    fn a_stop_of_ours_decides_whatever_the_exit_was() {
        for exit in [ExitStatus::Code(0), ExitStatus::Code(3), KILLED] {
            let cancelled = judge(exit, Some(StopCause::Cancel), |_| true);
            assert_eq!(cancelled, (EndState::Cancelled, EndCause::Cancelled));
            let late = judge(exit, Some(StopCause::Timeout), |_| true);
            assert_eq!(late, (EndState::TimedOut, EndCause::TimedOut));
            let silent = judge(exit, Some(StopCause::IdleTimeout), |_| true);
            assert_eq!(silent, (EndState::TimedOut, EndCause::IdleTimedOut));
            let loud = judge(exit, Some(StopCause::OutputLimit), |_| true);
            assert_eq!(loud, (EndState::Failed, EndCause::OutputLimit));
        }
    }

    #[test]
    fn a_signal_counts_as_killed_only_if_kill_sent_it() {
        assert_eq!(judge(KILLED, None, |signal| signal == 9).1, EndCause::Killed);
        assert_eq!(judge(KILLED, None, |signal| signal == 15).1, EndCause::Signaled);
    }

    #[test]
    fn signals_have_their_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(36), "SIGRTMIN+2");
    }
}
