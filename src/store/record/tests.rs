//! What survives a line, and what is refused in one.

use super::*;

fn process() -> ProcessIdentity {
    let boot_id = "01234567-89ab-cdef-0123-456789abcdef".to_owned();
    ProcessIdentity { pid: 4_194_304, start_ticks: u64::MAX, boot_id }
}

fn end(message: &str) -> End {
    End {
        state: EndState::Failed,
        cause: EndCause::LaunchFailed,
        exit: Some(ExitStatus::Signal { signal: 64, core_dumped: true }),
        message: message.to_owned(),
        launch_error: Some(LaunchError {
            stage: "working_dir".to_owned(),
            errno: 133,
            errno_name: "ENOTRECOVERABLE".to_owned(),
        }),
        time: Time::from_nanos(u64::MAX / 2),
        usage: None,
        stdout: OutputSize { size_bytes: u64::MAX, dropped_bytes: u64::MAX },
        stderr: OutputSize { size_bytes: u64::MAX, dropped_bytes: u64::MAX },
    }
}

fn events() -> Vec<Event> {
    let time = Time::from_nanos(1_790_000_000_123_456_789);
    let cgroup = Some("/jobwarden/0".to_owned());
    let usage = Some(Usage { max_rss_bytes: 7, ..Usage::default() });
    vec![
        Event::Claimed(Claim { attempt: u32::MAX, supervisor: process(), time, announces: true }),
        Event::Starting(Started { process: process(), time, cgroup: cgroup.clone() }),
        Event::ExecFailed { errno: 133, time },
        Event::Started(Started { process: process(), time, cgroup }),
        Event::Adopted { supervisor: process(), time },
        Event::Stopping { cause: StopCause::IdleTimeout, time },
        Event::Exited { exit: ExitStatus::Code(255), time },
        Event::Ended(end("it could not be started")),
        Event::Ended(End { usage, launch_error: None, ..end("") }),
    ]
}

#[test]
fn every_event_survives_its_line() {
    for event in events() {
        let slot = event_slot(3, &event);
        let members = slots::parse(&slot).unwrap();
        assert_eq!(members["seq"], 3);
        assert_eq!(super::event(&members).unwrap(), event);
    }
}

#[test]
fn a_long_message_is_cut_between_characters_and_the_rest_stands() {
    let event = Event::Ended(end(&"é".repeat(4_000)));
    let members = slots::parse(&event_slot(3, &event)).unwrap();
    let Event::Ended(read) = super::event(&members).unwrap() else { panic!("not an end") };
    assert!(!read.message.is_empty() && read.message.chars().all(|letter| letter == 'é'));
    assert_eq!(read, End { message: read.message.clone(), ..end("") });
}

#[test]
fn a_line_without_a_needed_member_is_refused_by_name() {
    let slot = event_slot(3, &events()[0]);
    let mut members = slots::parse(&slot).unwrap();
    members.remove("attempt");
    assert_eq!(event(&members).unwrap_err().member, "attempt");
}
