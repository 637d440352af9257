//! The form on disk of what a job's folder tells: format version 1.
//!
//! Each conversion takes its input apart by name, so that a new field does not compile until
//! both directions have decided about it. Readers ignore members that they do not know; a
//! `version` that is higher than theirs is refused.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::job::{
    Claim, End, EndCause, EndState, Event, ExitStatus, LaunchError, OutputSize, ProcessIdentity,
    Started, StopCause, Time, Usage,
};

use super::slots;

/// The largest number of changes; also the largest that every reader of JSON takes exactly.
const COUNT_MAX: u64 = 1 << 53;

/// A record that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("{member}: {why}")]
pub(super) struct RecordError {
    /// The member that is wrong.
    pub member: String,
    /// What is wrong with it.
    pub why: String,
}

pub(super) fn wrong(member: &str, why: impl Into<String>) -> RecordError {
    RecordError { member: member.to_owned(), why: why.into() }
}

/// The line of `state.jsonl` for an event, its message cut to fit.
pub(super) fn event_slot(sequence: usize, event: &Event) -> [u8; slots::SLOT_BYTES] {
    let mut event = event.clone();
    loop {
        if let Some(slot) = slots::line(&event_members(sequence, &event)) {
            return slot;
        }
        // Only a message or a path of a control group can be too long.
        match &mut event {
            Event::Ended(end) if !end.message.is_empty() => {
                let length = end.message.floor_char_boundary(end.message.len() * 3 / 4);
                end.message.truncate(length.min(end.message.len() - 1));
            }
            Event::Starting(started) | Event::Started(started) => started.cgroup = None,
            Event::Ended(_)
            | Event::Claimed(_)
            | Event::ExecFailed { .. }
            | Event::Adopted { .. }
            | Event::Stopping { .. }
            | Event::Exited { .. } => return [b' '; slots::SLOT_BYTES],
        }
    }
}

/// The members of the line for an event.
pub(super) fn event_members(sequence: usize, event: &Event) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("seq".to_owned(), json!(sequence));
    members.insert("kind".to_owned(), json!(event.name()));
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    match event {
        Event::Claimed(Claim { attempt, supervisor, time, announces }) => {
            put("time", json!(time.to_string()));
            put("attempt", json!(attempt));
            put("supervisor", process_value(supervisor));
            put("announces", json!(announces));
        }
        Event::ExecFailed { errno, time } => {
            put("time", json!(time.to_string()));
            put("errno", json!(errno));
        }
        Event::Adopted { supervisor, time } => {
            put("time", json!(time.to_string()));
            put("supervisor", process_value(supervisor));
        }
        Event::Starting(Started { process, time, cgroup })
        | Event::Started(Started { process, time, cgroup }) => {
            put("time", json!(time.to_string()));
            put("process", process_value(process));
            if let Some(cgroup) = cgroup {
                put("cgroup", json!(cgroup));
            }
        }
        Event::Stopping { cause, time } => {
            put("time", json!(time.to_string()));
            put("cause", json!(stop_name(*cause)));
        }
        Event::Exited { exit, time } => {
            put("time", json!(time.to_string()));
            put("exit", exit_value(*exit));
        }
        Event::Ended(end) => end_members(&mut members, end),
    }
    members
}

fn end_members(members: &mut Map<String, Value>, end: &End) {
    let End { state, cause, exit, message, launch_error, time, usage, stdout, stderr } = end;
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    put("time", json!(time.to_string()));
    put("state", json!(END_STATES.name(*state)));
    put("cause", json!(END_CAUSES.name(*cause)));
    if let Some(exit) = exit {
        put("exit", exit_value(*exit));
    }
    if let Some(LaunchError { stage, errno, errno_name }) = launch_error {
        put("launch_error", json!({"stage": stage, "errno": errno, "errno_name": errno_name}));
    }
    if let Some(Usage { user_time, system_time, max_rss_bytes, read_bytes, write_bytes }) = usage {
        put(
            "usage",
            json!({
                "user_us": micros(*user_time), "system_us": micros(*system_time),
                "max_rss_bytes": max_rss_bytes, "read_bytes": read_bytes, "write_bytes": write_bytes,
            }),
        );
    }
    put("stdout", size_value(*stdout));
    put("stderr", size_value(*stderr));
    if !message.is_empty() {
        put("message", json!(message));
    }
}

/// The event of a line of `state.jsonl`.
pub(super) fn event(members: &Map<String, Value>) -> Result<Event, RecordError> {
    let record = Record(members);
    let time = record.time("time")?;
    match record.text("kind")? {
        "claimed" => Ok(Event::Claimed(Claim {
            attempt: record.number("attempt")?,
            supervisor: process(record.object("supervisor")?)?,
            time,
            announces: record.0.get("announces").and_then(Value::as_bool).unwrap_or(false),
        })),
        "starting" => started(record, time).map(Event::Starting),
        "exec_failed" => Ok(Event::ExecFailed { errno: record.number("errno")?, time }),
        "started" => started(record, time).map(Event::Started),
        "adopted" => {
            Ok(Event::Adopted { supervisor: process(record.object("supervisor")?)?, time })
        }
        "stopping" => Ok(Event::Stopping { cause: stop_cause(record.text("cause")?)?, time }),
        "exited" => Ok(Event::Exited { exit: exit(record.object("exit")?)?, time }),
        "ended" => end(record, time).map(Event::Ended),
        other => Err(wrong("kind", format!("{other:?} is not known"))),
    }
}

fn started(record: Record<'_>, time: Time) -> Result<Started, RecordError> {
    let process = process(record.object("process")?)?;
    Ok(Started { process, time, cgroup: record.text_if_any("cgroup").map(str::to_owned) })
}

fn end(record: Record<'_>, time: Time) -> Result<End, RecordError> {
    let launch_error = match record.object_if_any("launch_error") {
        None => None,
        Some(error) => Some(LaunchError {
            stage: error.text("stage")?.to_owned(),
            errno: error.number("errno")?,
            errno_name: error.text("errno_name")?.to_owned(),
        }),
    };
    let usage = match record.object_if_any("usage") {
        None => None,
        Some(usage) => Some(Usage {
            user_time: Duration::from_micros(usage.number("user_us")?),
            system_time: Duration::from_micros(usage.number("system_us")?),
            max_rss_bytes: usage.number("max_rss_bytes")?,
            read_bytes: usage.number("read_bytes")?,
            write_bytes: usage.number("write_bytes")?,
        }),
    };
    Ok(End {
        state: END_STATES.value(record.text("state")?).ok_or_else(|| wrong("state", "unknown"))?,
        cause: END_CAUSES.value(record.text("cause")?).ok_or_else(|| wrong("cause", "unknown"))?,
        exit: record.object_if_any("exit").map(exit).transpose()?,
        message: record.text_if_any("message").unwrap_or_default().to_owned(),
        launch_error,
        time,
        usage,
        stdout: output_size(record.object("stdout")?)?,
        stderr: output_size(record.object("stderr")?)?,
    })
}

fn process_value(identity: &ProcessIdentity) -> Value {
    let ProcessIdentity { pid, start_ticks, boot_id } = identity;
    json!({"pid": pid, "start_ticks": start_ticks, "boot_id": boot_id})
}

fn process(record: Record<'_>) -> Result<ProcessIdentity, RecordError> {
    Ok(ProcessIdentity {
        pid: record.number("pid")?,
        start_ticks: record.number("start_ticks")?,
        boot_id: record.text("boot_id")?.to_owned(),
    })
}

fn exit_value(exit: ExitStatus) -> Value {
    match exit {
        ExitStatus::Code(code) => json!({"code": code}),
        ExitStatus::Signal { signal, core_dumped } => {
            json!({"signal": signal, "core_dumped": core_dumped})
        }
    }
}

fn exit(record: Record<'_>) -> Result<ExitStatus, RecordError> {
    if record.0.contains_key("code") {
        return Ok(ExitStatus::Code(record.number("code")?));
    }
    let core_dumped = record.0.get("core_dumped").and_then(Value::as_bool).unwrap_or(false);
    Ok(ExitStatus::Signal { signal: record.number("signal")?, core_dumped })
}

fn size_value(size: OutputSize) -> Value {
    let OutputSize { size_bytes, dropped_bytes } = size;
    json!({"size_bytes": size_bytes, "dropped_bytes": dropped_bytes})
}

fn output_size(record: Record<'_>) -> Result<OutputSize, RecordError> {
    Ok(OutputSize {
        size_bytes: record.number("size_bytes")?,
        dropped_bytes: record.number("dropped_bytes")?,
    })
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn stop_name(cause: StopCause) -> &'static str {
    match cause {
        StopCause::Cancel => "cancel",
        StopCause::Timeout => "timeout",
        StopCause::IdleTimeout => "idle_timeout",
        StopCause::OutputLimit => "output_limit",
    }
}

fn stop_cause(name: &str) -> Result<StopCause, RecordError> {
    match name {
        "cancel" => Ok(StopCause::Cancel),
        "timeout" => Ok(StopCause::Timeout),
        "idle_timeout" => Ok(StopCause::IdleTimeout),
        "output_limit" => Ok(StopCause::OutputLimit),
        other => Err(wrong("cause", format!("{other:?} is not known"))),
    }
}

/// A table of values and their names on disk.
struct Names<T: 'static>(&'static [(T, &'static str)]);

impl<T: Copy + PartialEq> Names<T> {
    fn name(&self, value: T) -> &'static str {
        self.0.iter().find(|(known, _)| *known == value).map_or("", |(_, name)| name)
    }

    fn value(&self, name: &str) -> Option<T> {
        self.0.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
    }
}

const END_STATES: Names<EndState> = Names(&[
    (EndState::Succeeded, "SUCCEEDED"),
    (EndState::Failed, "FAILED"),
    (EndState::Cancelled, "CANCELLED"),
    (EndState::TimedOut, "TIMED_OUT"),
    (EndState::Lost, "LOST"),
]);

const END_CAUSES: Names<EndCause> = Names(&[
    (EndCause::Exited, "EXITED"),
    (EndCause::Signaled, "SIGNALED"),
    (EndCause::Killed, "KILLED"),
    (EndCause::Cancelled, "CANCELLED"),
    (EndCause::TimedOut, "TIMED_OUT"),
    (EndCause::IdleTimedOut, "IDLE_TIMED_OUT"),
    (EndCause::QueueTimedOut, "QUEUE_TIMED_OUT"),
    (EndCause::OutOfMemory, "OUT_OF_MEMORY"),
    (EndCause::OutputLimit, "OUTPUT_LIMIT"),
    (EndCause::LaunchFailed, "LAUNCH_FAILED"),
    (EndCause::Lost, "LOST"),
]);

/// Typed access to the members of a JSON object.
#[derive(Clone, Copy)]
pub(super) struct Record<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Record<'a> {
    pub(super) fn text(self, member: &str) -> Result<&'a str, RecordError> {
        self.text_if_any(member).ok_or_else(|| wrong(member, "is missing or not a string"))
    }

    pub(super) fn text_if_any(self, member: &str) -> Option<&'a str> {
        self.0.get(member).and_then(Value::as_str)
    }

    pub(super) fn number<N: TryFrom<i64> + TryFrom<u64>>(
        self,
        member: &str,
    ) -> Result<N, RecordError> {
        let number = self.0.get(member);
        let signed = || number.and_then(Value::as_i64).and_then(|number| N::try_from(number).ok());
        let unsigned = number.and_then(Value::as_u64).and_then(|number| N::try_from(number).ok());
        unsigned.or_else(signed).ok_or_else(|| wrong(member, "is missing or not such a number"))
    }

    /// A number that grows by one with each change. One that nobody can have reached is damage,
    /// and sums of smaller ones do not run over.
    pub(super) fn count(self, member: &str) -> Result<u64, RecordError> {
        let count = self.number(member)?;
        if count > COUNT_MAX {
            return Err(wrong(member, format!("{count} is more than can have happened")));
        }
        Ok(count)
    }

    pub(super) fn time(self, member: &str) -> Result<Time, RecordError> {
        self.text(member)?.parse().map_err(|error| wrong(member, format!("{error}")))
    }

    pub(super) fn object(self, member: &str) -> Result<Record<'a>, RecordError> {
        self.object_if_any(member).ok_or_else(|| wrong(member, "is missing or not an object"))
    }

    pub(super) fn object_if_any(self, member: &str) -> Option<Record<'a>> {
        self.0.get(member).and_then(Value::as_object).map(Record)
    }
}

#[cfg(test)]
mod tests;
