//! From our own types to replies. Secrets and standard input have no way out here.

use std::time::Duration;

use super::spec::spec;
use crate::{
    api,
    job::{
        Accepted, Actor, EndCause, ExitStatus, Job, KillRecord, LaunchError, State, StateKind,
        StopRequest, Time, Usage, signal_name,
    },
};

/// The most signals sent by Kill that a job shows.
const KILLS_LEN_MAX: usize = 16;

/// What is known of the two output streams of a job at the moment of the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputFacts {
    /// Standard output.
    pub stdout: StreamFacts,
    /// Standard error.
    pub stderr: StreamFacts,
}

/// What is known of one output stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamFacts {
    /// Bytes that have an offset.
    pub size_bytes: u64,
    /// Bytes among them that were not kept.
    pub dropped_bytes: u64,
    /// Whether no more will come.
    pub complete: bool,
    /// The path of the log file.
    pub path: String,
}

/// The job as callers see it. How its main process ended is told with the end of the job, not
/// while leftovers still hold its output open.
pub fn job(job: &Job, output: &OutputFacts) -> api::Job {
    let Job { accepted, state, revision, labels, cancel, kills, timeout_change: _ } = job;
    let Accepted {
        id,
        create_time,
        owner,
        request_id: _,
        digest: _,
        spec: accepted_spec,
        working_dir: _,
        timeout: _,
        durability: _,
        confinement: _,
    } = &**accepted;
    let OutputFacts { stdout, stderr } = output;
    let end = state.end();
    let shown_kills = &kills[kills.len().saturating_sub(KILLS_LEN_MAX)..];
    api::Job {
        job_id: id.to_string(),
        spec: Some(spec(accepted_spec)),
        state: job_state(state.kind()).into(),
        revision: *revision,
        create_time: Some(timestamp(*create_time)),
        start_time: state.running().map(|running| timestamp(running.started.time)),
        end_time: end.map(|end| timestamp(end.time)),
        attempt: state.attempt(),
        exit_status: end.and_then(|end| end.exit).map(exit_status),
        cause: end.map_or(api::EndCause::Unspecified, |end| end_cause(end.cause)).into(),
        message: end.map(|end| end.message.clone()).unwrap_or_default(),
        launch_error: end.and_then(|end| end.launch_error.as_ref()).map(launch_error),
        cancel: cancel.as_ref().map(stop_request),
        kills: shown_kills.iter().map(kill_record).collect(),
        pid: pid(state),
        stdout: Some(output_info(stdout)),
        stderr: Some(output_info(stderr)),
        usage: end.and_then(|end| end.usage).map(usage),
        owner: owner.clone(),
        labels: labels.clone().into_iter().collect(),
    }
}

/// The state in the words of the proto.
pub fn job_state(state: StateKind) -> api::JobState {
    match state {
        StateKind::Queued => api::JobState::Queued,
        StateKind::Running => api::JobState::Running,
        StateKind::Succeeded => api::JobState::Succeeded,
        StateKind::Failed => api::JobState::Failed,
        StateKind::Cancelled => api::JobState::Cancelled,
        StateKind::TimedOut => api::JobState::TimedOut,
        StateKind::Lost => api::JobState::Lost,
    }
}

/// A point in time on the wire.
pub fn timestamp(time: Time) -> prost_types::Timestamp {
    let since_epoch = duration(Duration::from_nanos(time.nanos()));
    prost_types::Timestamp { seconds: since_epoch.seconds, nanos: since_epoch.nanos }
}

/// A duration on the wire.
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().cast_signed(),
    }
}

fn pid(state: &State) -> i32 {
    match state {
        State::Running(running) => running.started.process.pid,
        State::Queued
        | State::Claimed(_)
        | State::Starting(_)
        | State::ExecFailed { .. }
        | State::Exited { .. }
        | State::Ended { .. } => 0,
    }
}

fn end_cause(cause: EndCause) -> api::EndCause {
    match cause {
        EndCause::Exited => api::EndCause::Exited,
        EndCause::Signaled => api::EndCause::Signaled,
        EndCause::Killed => api::EndCause::Killed,
        EndCause::Cancelled => api::EndCause::Cancelled,
        EndCause::TimedOut => api::EndCause::TimedOut,
        EndCause::IdleTimedOut => api::EndCause::IdleTimedOut,
        EndCause::QueueTimedOut => api::EndCause::QueueTimedOut,
        EndCause::OutOfMemory => api::EndCause::OutOfMemory,
        EndCause::OutputLimit => api::EndCause::OutputLimit,
        EndCause::LaunchFailed => api::EndCause::LaunchFailed,
        EndCause::Lost => api::EndCause::Lost,
    }
}

fn exit_status(exit: ExitStatus) -> api::ExitStatus {
    use api::exit_status::Outcome;
    match exit {
        ExitStatus::Code(code) => api::ExitStatus {
            outcome: Some(Outcome::ExitCode(code)),
            signal_name: String::new(),
            core_dumped: false,
        },
        ExitStatus::Signal { signal, core_dumped } => api::ExitStatus {
            outcome: Some(Outcome::Signal(signal)),
            signal_name: signal_name(signal),
            core_dumped,
        },
    }
}

fn launch_error(error: &LaunchError) -> api::LaunchError {
    let LaunchError { stage, errno, errno_name } = error.clone();
    api::LaunchError { stage, errno, errno_name }
}

fn stop_request(request: &StopRequest) -> api::StopRequest {
    let StopRequest { time, reason, actor: who, grace_period } = request;
    api::StopRequest {
        time: Some(timestamp(*time)),
        reason: reason.clone(),
        actor: Some(actor(who)),
        grace_period: grace_period.map(duration),
    }
}

fn kill_record(record: &KillRecord) -> api::KillRecord {
    let KillRecord { time, signal, actor: who, delivered: _, request: _ } = record;
    api::KillRecord { time: Some(timestamp(*time)), signal: *signal, actor: Some(actor(who)) }
}

fn actor(actor: &Actor) -> api::Actor {
    let Actor { principal, peer, request_id } = actor.clone();
    api::Actor { principal, peer, request_id }
}

fn output_info(stream: &StreamFacts) -> api::OutputInfo {
    let StreamFacts { size_bytes, dropped_bytes, complete, path } = stream.clone();
    api::OutputInfo { size_bytes, dropped_bytes, complete, path }
}

fn usage(usage: Usage) -> api::ResourceUsage {
    let Usage { user_time, system_time, max_rss_bytes, read_bytes, write_bytes } = usage;
    api::ResourceUsage {
        user_time: Some(duration(user_time)),
        system_time: Some(duration(system_time)),
        max_rss_bytes,
        read_bytes,
        write_bytes,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message as _;

    use super::*;
    use crate::job::{
        Claim, Confinement, Draft, DraftLimits, Durability, End, EndState, EnvInheritance, JobId,
        OutputSize, ProcessIdentity, Running, Started,
    };

    fn time(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn running() -> Running {
        let process = |pid| ProcessIdentity { pid, start_ticks: 1, boot_id: "b".to_owned() };
        Running {
            claim: Claim { attempt: 2, supervisor: process(10), time: time(2), announces: true },
            started: Started { process: process(11), time: time(3), cgroup: None },
            stop: None,
        }
    }

    fn end(state: EndState, cause: EndCause, exit: Option<ExitStatus>) -> End {
        End {
            state,
            cause,
            exit,
            message: "It ended.".to_owned(),
            launch_error: None,
            time: time(4),
            usage: Some(Usage { max_rss_bytes: 5, ..Usage::default() }),
            stdout: OutputSize::default(),
            stderr: OutputSize::default(),
        }
    }

    fn job_in(state: State) -> Job {
        let draft = Draft {
            shell: "true".to_owned(),
            secret_env: [("TOKEN".to_owned(), "hush".to_owned())].into(),
            env_inheritance: Some(EnvInheritance::Minimal),
            stdin: b"typed".to_vec(),
            ..Draft::default()
        };
        let (spec, _, _) =
            draft.check(&DraftLimits { stdin_bytes_max: 9, can_keep_tail: true }).unwrap();
        let accepted = Accepted {
            id: JobId::MAX,
            create_time: time(1),
            owner: "uid:1".to_owned(),
            request_id: None,
            digest: "digest".to_owned(),
            spec,
            working_dir: "/w".to_owned(),
            timeout: None,
            durability: Durability::Power,
            confinement: Confinement::default(),
        };
        Job {
            accepted: Arc::new(accepted),
            state,
            revision: 9,
            labels: [("now".to_owned(), "so".to_owned())].into(),
            cancel: None,
            kills: Vec::new(),
            timeout_change: None,
        }
    }

    fn shown(state: State) -> api::Job {
        job(&job_in(state), &OutputFacts::default())
    }

    #[test]
    fn callers_see_fewer_states_and_the_pid_only_while_it_runs() {
        let exited = State::Exited { running: running(), exit: ExitStatus::Code(0), time: time(4) };
        let table = [
            (State::Queued, api::JobState::Queued, 0, 1),
            (State::Claimed(running().claim), api::JobState::Queued, 0, 2),
            (State::Running(running()), api::JobState::Running, 11, 2),
            (exited, api::JobState::Running, 0, 2),
        ];
        for (state, public, pid, attempt) in table {
            let has_started = public == api::JobState::Running;
            let job = shown(state);
            assert_eq!((job.state(), job.pid, job.attempt), (public, pid, attempt));
            assert_eq!(job.start_time.is_some(), has_started);
            assert_eq!((job.end_time, job.exit_status, job.cause), (None, None, 0));
            assert_eq!((job.message.as_str(), job.usage), ("", None));
        }
    }

    #[test]
    fn an_end_is_shown_with_all_that_is_known_of_it() {
        let died = ExitStatus::Signal { signal: 9, core_dumped: true };
        let end = end(EndState::Failed, EndCause::Killed, Some(died));
        let job = shown(State::Ended { running: Some(running()), attempt: 2, end });
        assert_eq!((job.state(), job.cause()), (api::JobState::Failed, api::EndCause::Killed));
        assert_eq!(job.end_time, Some(timestamp(time(4))));
        assert_eq!((job.pid, job.message.as_str()), (0, "It ended."));
        assert_eq!(job.usage.unwrap().max_rss_bytes, 5);
        let status = job.exit_status.unwrap();
        assert_eq!(status.outcome, Some(api::exit_status::Outcome::Signal(9)));
        assert_eq!((status.signal_name.as_str(), status.core_dumped), ("SIGKILL", true));
    }

    #[test]
    fn a_job_that_never_started_has_no_start_time_and_no_exit_status() {
        let mut end = end(EndState::Failed, EndCause::LaunchFailed, None);
        let (stage, errno_name) = ("exec".to_owned(), "ENOENT".to_owned());
        end.launch_error = Some(LaunchError { stage, errno: 2, errno_name });
        let job = shown(State::Ended { running: None, attempt: 1, end });
        assert_eq!((job.start_time, job.exit_status.is_none()), (None, true));
        assert_eq!(job.launch_error.unwrap().errno_name, "ENOENT");
    }

    #[test]
    fn exit_code_zero_is_told_and_not_left_out() {
        let end = end(EndState::Succeeded, EndCause::Exited, Some(ExitStatus::Code(0)));
        let job = shown(State::Ended { running: Some(running()), attempt: 2, end });
        let outcome = job.exit_status.unwrap().outcome;
        assert_eq!(outcome, Some(api::exit_status::Outcome::ExitCode(0)));
    }

    #[test]
    fn no_reply_holds_a_secret_or_the_input() {
        let bytes = shown(State::Queued).encode_to_vec();
        for hidden in ["hush", "TOKEN", "typed"] {
            assert!(!bytes.windows(hidden.len()).any(|window| window == hidden.as_bytes()));
        }
    }

    #[test]
    fn only_the_last_sixteen_signals_are_shown() {
        let mut jobs = job_in(State::Running(running()));
        jobs.kills = (1..=20)
            .map(|signal| KillRecord {
                time: time(5),
                signal,
                actor: Actor::default(),
                delivered: true,
                request: String::new(),
            })
            .collect();
        let signals: Vec<_> =
            job(&jobs, &OutputFacts::default()).kills.iter().map(|kill| kill.signal).collect();
        assert_eq!(signals, (5..=20).collect::<Vec<_>>());
    }

    #[test]
    fn requests_and_sizes_are_shown_as_they_are() {
        let mut cancelled = job_in(State::Running(running()));
        let peer = Actor { principal: "uid:2".to_owned(), ..Actor::default() };
        let grace_period = Some(Duration::from_millis(1500));
        let reason = "enough".to_owned();
        cancelled.cancel = Some(StopRequest { time: time(5), reason, actor: peer, grace_period });
        let stdout =
            StreamFacts { size_bytes: 3, dropped_bytes: 1, complete: true, path: "/o".to_owned() };
        let shown = job(&cancelled, &OutputFacts { stdout, ..OutputFacts::default() });
        let cancel = shown.cancel.unwrap();
        assert_eq!(cancel.grace_period.unwrap(), duration(Duration::from_millis(1500)));
        assert_eq!(cancel.actor.unwrap().principal, "uid:2");
        let out = shown.stdout.unwrap();
        assert_eq!((out.size_bytes, out.dropped_bytes, out.complete), (3, 1, true));
        assert_eq!(shown.stderr.unwrap().size_bytes, 0);
        assert_eq!((shown.revision, shown.owner.as_str()), (9, "uid:1"));
        assert_eq!(shown.labels["now"], "so");
    }
}
