//! Files of fixed slots: each one line of JSON, padded with blanks, with a checksum.
//!
//! A slot takes 512 bytes, the newline included, so that a write never crosses a sector and a
//! reader sees a slot whole or not at all: a torn one has a wrong checksum and does not count.
//! The checksum is the last member, `"crc"`, the CRC-32 of every byte before its comma.

use std::{fs::File, io};

use serde_json::{Map, Value};

use crate::sys::fs;

/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 512;
/// Slots that are read of one file.
pub(super) const SLOTS_MAX: usize = 64;

/// What stands between what is checked and its checksum.
pub(super) const CRC_MEMBER: &str = ",\"crc\":\"";

/// A slot that holds nothing yet.
pub(super) const BLANK: [u8; SLOT_BYTES] = {
    let mut slot = [b' '; SLOT_BYTES];
    slot[SLOT_BYTES - 1] = b'\n';
    slot
};

/// The line for these members; `None` if they do not fit.
pub(super) fn line(members: &Map<String, Value>) -> Option<[u8; SLOT_BYTES]> {
    let text = seal(members)?;
    if text.len() >= SLOT_BYTES {
        return None;
    }
    let mut slot = [b' '; SLOT_BYTES];
    slot[..text.len()].copy_from_slice(text.as_bytes());
    slot[SLOT_BYTES - 1] = b'\n';
    Some(slot)
}

/// The members of a slot; `None` if it is not a whole one.
pub(super) fn parse(slot: &[u8]) -> Option<Map<String, Value>> {
    unseal(str::from_utf8(slot).ok()?.strip_suffix('\n')?.trim_end_matches(' '))
}

/// The members as JSON whose last member is their checksum, on one line without its newline;
/// `None` if there are none.
pub(super) fn seal(members: &Map<String, Value>) -> Option<String> {
    let mut text = serde_json::to_string(members).ok()?;
    if text.len() < 3 {
        return None;
    }
    seal_text(&mut text);
    Some(text)
}

/// Adds the checksum to the text of an object that is not empty, as its last member.
pub(super) fn seal_text(object: &mut String) {
    use std::fmt::Write as _;
    object.pop();
    let crc = crc32fast::hash(object.as_bytes());
    // Writing to a string cannot fail.
    let _ = write!(object, "{CRC_MEMBER}{crc:08x}\"}}");
}

/// The members without their checksum; `None` if it is not theirs.
pub(super) fn unseal(text: &str) -> Option<Map<String, Value>> {
    if !is_sealed(text) {
        return None;
    }
    let mut parsed: Map<String, Value> = serde_json::from_str(text).ok()?;
    parsed.remove("crc");
    Some(parsed)
}

/// Whether the text of an object ends with the right checksum.
pub(super) fn is_sealed(object: &str) -> bool {
    let Some((members, tail)) = object.rsplit_once(CRC_MEMBER) else { return false };
    tail == format!("{:08x}\"}}", crc32fast::hash(members.as_bytes()))
}

/// The slots of a file by place: `None` for one that is missing or not whole.
pub(super) fn read(file: &File) -> io::Result<Vec<Option<Map<String, Value>>>> {
    // Nearly every file has its slots in the first block.
    let mut bytes = vec![0; 8 * SLOT_BYTES];
    let mut length = fs::read_at(file, &mut bytes, 0)?;
    if length == bytes.len() {
        bytes.resize(SLOTS_MAX * SLOT_BYTES, 0);
        length += fs::read_at(file, &mut bytes[length..], length as u64)?;
    }
    Ok(bytes[..length].chunks_exact(SLOT_BYTES).map(parse).collect())
}

/// Writes the slot at `place`.
pub(super) fn write(file: &File, place: usize, slot: &[u8; SLOT_BYTES]) -> io::Result<()> {
    fs::write_at(file, slot, (place * SLOT_BYTES) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(text: &str) -> Map<String, Value> {
        Map::from_iter([("kind".to_owned(), Value::from(text))])
    }

    proptest! {
        #[test]
        fn a_slot_survives_and_a_damaged_one_does_not_count(
            text in "\\PC{0,60}", place in 0..400_usize, byte: u8,
        ) {
            let mut slot = line(&members(&text)).unwrap();
            prop_assert_eq!(parse(&slot), Some(members(&text)));
            let before = slot[place];
            slot[place] = byte;
            if byte != before {
                prop_assert_eq!(parse(&slot), None);
            }
        }
    }

    #[test]
    fn members_that_do_not_fit_are_told_not_cut() {
        assert!(line(&members(&"x".repeat(SLOT_BYTES))).is_none());
    }

    #[test]
    fn a_slot_is_one_line_that_other_programs_can_read() {
        let slot = line(&members("claimed")).unwrap();
        assert_eq!(str::from_utf8(&slot).unwrap().lines().count(), 1);
        let value: Value = serde_json::from_slice(&slot).unwrap();
        assert_eq!(value["kind"], "claimed");
    }
}
