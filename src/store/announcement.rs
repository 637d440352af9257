//! The lines of `state.jsonl` that a new process writes about itself, between its making and the
//! program.
//!
//! It shares its parent's memory until then and must not allocate, so the lines are laid out
//! before: with room for the numbers that only it knows, and for the checksum over them.

use std::fs::File;

use crate::{
    job::{Event, ProcessIdentity, Started},
    sys::spawn::{Announce, Itself},
};

use super::{record, slots};

/// As long as any process id, start time and error number can be.
const PID: i32 = 1_111_111_111;
const START_TICKS: u64 = 11_111_111_111_111_111_111;
const ERRNO: i32 = 1_111;

/// Writes that a program is about to run, and that it could not.
#[derive(Debug)]
pub struct Announcement {
    file: File,
    place: usize,
    starting: Form,
    exec_failed: Form,
}

impl Announcement {
    /// What is written into `file` from the slot `place` on. The process in `started` is filled
    /// in later.
    pub(super) fn new(file: File, place: usize, started: &Started) -> Option<Self> {
        let process =
            ProcessIdentity { pid: PID, start_ticks: START_TICKS, ..started.process.clone() };
        let time = started.time;
        let starting = Event::Starting(Started { process, ..started.clone() });
        let exec_failed = Event::ExecFailed { errno: ERRNO, time };
        let pid = format!("\"pid\":{PID}");
        let ticks = format!("\"start_ticks\":{START_TICKS}");
        let errno = format!("\"errno\":{ERRNO}");
        Some(Self {
            file,
            place,
            starting: Form::new(&record::event_slot(place + 1, &starting), &[&pid, &ticks])?,
            exec_failed: Form::new(&record::event_slot(place + 2, &exec_failed), &[&errno])?,
        })
    }

    /// Gives the file back, still open.
    pub(super) fn into_file(self) -> File {
        self.file
    }

    fn write(&self, place: usize, slot: &[u8; slots::SLOT_BYTES]) -> Result<(), i32> {
        slots::write(&self.file, place, slot).map_err(|error| crate::sys::errno(&error))
    }
}

impl Announce for Announcement {
    fn starting(&self, itself: Itself) -> Result<(), i32> {
        let pid = u64::from(itself.pid.unsigned_abs());
        crate::sys::faults::point("child.starting");
        self.write(self.place, &self.starting.filled(&[pid, itself.start_ticks]))
    }

    fn exec_failed(&self, errno: i32) {
        let errno = u64::from(errno.unsigned_abs());
        // If this fails too, the parent still knows, and a dead parent's successor asks in vain.
        let _ = self.write(self.place + 1, &self.exec_failed.filled(&[errno]));
        crate::sys::faults::point("child.exec_failed");
    }
}

/// A line with room for numbers.
#[derive(Debug)]
struct Form {
    slot: [u8; slots::SLOT_BYTES],
    /// Where each number ends and how long it may be.
    fields: Vec<(usize, usize)>,
    /// Where what is checked ends.
    checked: usize,
}

impl Form {
    /// A form of a whole line, in which the digits at the end of each of `fields` are replaced.
    fn new(slot: &[u8; slots::SLOT_BYTES], fields: &[&str]) -> Option<Self> {
        let text = str::from_utf8(slot).ok()?;
        let checked = text.rfind(slots::CRC_MEMBER)?;
        let place = |field: &&str| {
            let digits = field.len() - field.find(|letter: char| letter.is_ascii_digit())?;
            Some((text.find(field)? + field.len(), digits))
        };
        let fields = fields.iter().map(place).collect::<Option<_>>()?;
        Some(Self { slot: *slot, fields, checked })
    }

    /// The line with these numbers, which are right-aligned: JSON allows blanks before them.
    fn filled(&self, numbers: &[u64]) -> [u8; slots::SLOT_BYTES] {
        let mut slot = self.slot;
        for ((end, length), number) in self.fields.iter().zip(numbers) {
            let mut rest = *number;
            for (place, at) in (end - length..*end).rev().enumerate() {
                let is_blank = rest == 0 && place > 0;
                slot[at] = if is_blank { b' ' } else { digit(rest % 10) };
                rest /= 10;
            }
        }
        let mut crc = crc32fast::hash(&slot[..self.checked]);
        let begin = self.checked + slots::CRC_MEMBER.len();
        for at in (begin..begin + 8).rev() {
            slot[at] = digit(u64::from(crc % 16));
            crc /= 16;
        }
        slot
    }
}

fn digit(value: u64) -> u8 {
    b"0123456789abcdef"[usize::try_from(value % 16).unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::Time;

    proptest! {
        #[test]
        fn a_filled_form_is_the_line_of_its_event(
            pid in 1..i32::MAX, start_ticks: u64, errno in 1..134_i32,
        ) {
            let file = tempfile::tempfile().unwrap();
            let process = ProcessIdentity { pid, start_ticks, boot_id: "b".repeat(36) };
            let started = Started { process, time: Time::from_nanos(7), cgroup: None };
            let made = Announcement::new(file, 1, &started).unwrap();
            made.starting(Itself { pid, start_ticks }).unwrap();
            made.exec_failed(errno);
            let lines = slots::read(&made.into_file()).unwrap();
            let events: Vec<_> =
                lines.iter().flatten().map(|line| record::event(line).unwrap()).collect();
            let time = started.time;
            prop_assert_eq!(
                events,
                vec![Event::Starting(started), Event::ExecFailed { errno, time }]
            );
        }
    }
}
