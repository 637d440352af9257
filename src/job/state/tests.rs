//! Lives of jobs, event by event.

use proptest::prelude::*;

use super::*;
use crate::job::{LaunchError, OutputSize};

fn process(pid: i32) -> ProcessIdentity {
    ProcessIdentity { pid, start_ticks: 7, boot_id: "boot".to_owned() }
}

fn end(state: EndState, cause: EndCause, exit: Option<ExitStatus>) -> End {
    let launch_error = (cause == EndCause::LaunchFailed).then(|| LaunchError {
        stage: "exec".to_owned(),
        errno: 2,
        errno_name: "ENOENT".to_owned(),
    });
    let (stdout, stderr) = (OutputSize::default(), OutputSize::default());
    let (message, time) = (String::new(), Time::from_nanos(5));
    End { state, cause, exit, message, launch_error, time, usage: None, stdout, stderr }
}

fn events() -> impl Strategy<Value = Event> {
    let time = Time::from_nanos(3);
    let claim = Claim { attempt: 1, supervisor: process(10), time, announces: true };
    let started = Started { process: process(11), time, cgroup: None };
    let exit = ExitStatus::Code(3);
    prop_oneof![
        Just(Event::Claimed(claim)),
        Just(Event::Starting(started.clone())),
        Just(Event::ExecFailed { errno: 2, time }),
        Just(Event::Adopted { supervisor: process(12), time }),
        Just(Event::Started(started)),
        Just(Event::Stopping { cause: StopCause::Cancel, time }),
        Just(Event::Stopping { cause: StopCause::Timeout, time }),
        Just(Event::Exited { exit, time }),
        Just(Event::Ended(end(EndState::Failed, EndCause::Exited, Some(exit)))),
        Just(Event::Ended(end(EndState::Cancelled, EndCause::Cancelled, None))),
        Just(Event::Ended(end(EndState::Failed, EndCause::LaunchFailed, None))),
        Just(Event::Ended(end(EndState::Lost, EndCause::Lost, None))),
    ]
}

fn rank(state: &State) -> u8 {
    match state {
        State::Queued => 0,
        State::Claimed(_) => 1,
        State::Starting(_) => 2,
        State::ExecFailed { .. } | State::Running(_) => 3,
        State::Exited { .. } => 4,
        State::Ended { .. } => 5,
    }
}

proptest! {
    #[test]
    fn a_life_only_goes_forward_and_an_end_is_final(
        events in proptest::collection::vec(events(), 0..40),
    ) {
        let mut state = State::Queued;
        for event in &events {
            let was = state.clone();
            match transition(&state, event) {
                Ok(next) => {
                    prop_assert!(!was.is_ended());
                    prop_assert!(rank(&next) >= rank(&was));
                    state = next;
                }
                Err(error) => prop_assert_eq!(error.event, event.name()),
            }
        }
    }

    #[test]
    fn the_first_reason_to_stop_and_the_seen_exit_stand(
        events in proptest::collection::vec(events(), 0..40),
    ) {
        let mut state = State::Queued;
        let (mut first_stop, mut first_exit) = (None, None);
        for event in &events {
            let Ok(next) = transition(&state, event) else { continue };
            if let (State::Running(_), Event::Stopping { cause, .. }) = (&state, event) {
                first_stop = first_stop.or(Some(*cause));
            }
            if let Event::Exited { exit, .. } = event {
                first_exit = Some(*exit);
            }
            state = next;
        }
        if let Some(running) = state.running() {
            prop_assert_eq!(running.stop, first_stop);
        }
        if let (Some(exit), Some(end)) = (first_exit, state.end()) {
            prop_assert_eq!(end.exit, Some(exit));
        }
    }

    #[test]
    fn a_job_that_never_started_has_no_exit_status(
        events in proptest::collection::vec(events(), 0..40),
    ) {
        let mut state = State::Queued;
        for event in &events {
            state = transition(&state, event).unwrap_or(state);
        }
        if let State::Ended { running: None, end, .. } = &state {
            prop_assert_eq!(end.exit, None);
        }
    }
}

#[test]
fn a_queued_job_cannot_succeed() {
    let success = end(EndState::Succeeded, EndCause::Exited, None);
    assert!(transition(&State::Queued, &Event::Ended(success)).is_err());
}
