//! Raw output as text, a piece at a time.
//!
//! A character that is cut in two between pieces is put together again; only bytes that are
//! truly invalid UTF-8 become U+FFFD. Offsets always count raw bytes. Nothing here knows lines.

use std::{borrow::Cow, mem};

/// The most bytes of a character that has begun and is not complete.
const HELD_BYTES_MAX: usize = 3;

/// Text and the raw bytes that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPiece {
    /// The offset of the first raw byte.
    pub offset: u64,
    /// The offset after the last raw byte.
    pub end_offset: u64,
    /// The text; never empty.
    pub text: String,
}

/// Turns the bytes of one stream into text.
///
/// The texts of all pieces together are what `String::from_utf8_lossy` makes of all the bytes,
/// and the pieces cover the bytes without hole or overlap, wherever the bytes were cut.
#[derive(Clone, Debug, Default)]
pub struct TextDecoder {
    held: Vec<u8>,
    held_offset: u64,
}

/// A character that lies across an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitCharacter {
    /// How many of its bytes come before the offset.
    pub bytes_before: usize,
    /// How many of its bytes come after it.
    pub bytes_after: usize,
}

impl TextDecoder {
    /// Takes the `bytes` at `offset`, which follow those of the call before, and returns all
    /// that is certain now. The beginning of a character at their end is held back.
    ///
    /// Call `gap` before bytes that do not follow.
    pub fn push(&mut self, offset: u64, bytes: &[u8]) -> Option<TextPiece> {
        let (start, bytes) = if self.held.is_empty() {
            (offset, Cow::Borrowed(bytes))
        } else {
            debug_assert_eq!(offset, self.held_offset + self.held.len() as u64, "gap not told");
            let mut joined = mem::take(&mut self.held);
            joined.extend_from_slice(bytes);
            (self.held_offset, Cow::Owned(joined))
        };
        let (certain, rest) = bytes.split_at(bytes.len() - incomplete_tail(&bytes));
        self.held = rest.to_vec();
        self.held_offset = start + certain.len() as u64;
        piece(start, certain)
    }

    /// Returns what is held back: there will be no more bytes.
    pub fn finish(&mut self) -> Option<TextPiece> {
        let held = mem::take(&mut self.held);
        piece(self.held_offset, &held)
    }

    /// Returns what is held back: bytes are missing, and what comes next does not follow.
    pub fn gap(&mut self) -> Option<TextPiece> {
        self.finish()
    }

    /// How many bytes are held back. A reader that stops here continues this many bytes before
    /// the end of what was pushed, and no character is split.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }
}

/// The character, if any, that a cut between `before` and `after` would split; three bytes on
/// each side are enough to tell.
pub fn split_character(before: &[u8], after: &[u8]) -> Option<SplitCharacter> {
    let bytes_before = incomplete_tail(before);
    let tail = &before[before.len() - bytes_before..];
    let width = match tail.first()? {
        0xF0.. => 4,
        0xE0.. => 3,
        _ => 2,
    };
    let bytes_after = width - bytes_before;
    let character = [tail, after.get(..bytes_after)?].concat();
    str::from_utf8(&character).ok().map(|_| SplitCharacter { bytes_before, bytes_after })
}

fn piece(offset: u64, bytes: &[u8]) -> Option<TextPiece> {
    if bytes.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(bytes).into_owned();
    Some(TextPiece { offset, end_offset: offset + bytes.len() as u64, text })
}

/// How many bytes at the end are the beginning of a character that more bytes may complete.
fn incomplete_tail(bytes: &[u8]) -> usize {
    // A first byte never continues a character, so what comes before it cannot matter.
    (1..=HELD_BYTES_MAX.min(bytes.len()))
        .find(|len| {
            str::from_utf8(&bytes[bytes.len() - len..])
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// Bytes in which characters, halves of characters and plain errors are frequent.
    fn output() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            any::<char>().prop_map(|letter| letter.to_string().into_bytes()),
            any::<u8>().prop_map(|byte| vec![byte]),
            (any::<char>(), 1..4_usize).prop_map(|(letter, len)| {
                let mut bytes = letter.to_string().into_bytes();
                bytes.truncate(len);
                bytes
            }),
            select(vec![&b"\xED\xA0\x80"[..], b"\xF4\x90", b"\xC0\xAF", b"\xE0\x80", b"\xF0\x90"])
                .prop_map(<[u8]>::to_vec),
        ];
        vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    fn decode(start: u64, bytes: &[u8], mut cuts: Vec<usize>) -> Vec<TextPiece> {
        cuts.retain(|cut| *cut <= bytes.len());
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut decoder = TextDecoder::default();
        let mut pieces = Vec::new();
        for pair in cuts.windows(2) {
            pieces.extend(decoder.push(start + pair[0] as u64, &bytes[pair[0]..pair[1]]));
            assert!(decoder.held_bytes() <= HELD_BYTES_MAX);
        }
        pieces.extend(decoder.finish());
        pieces
    }

    proptest! {
        #[test]
        fn pieces_read_like_the_whole_wherever_it_is_cut(
            start in 0..u64::from(u32::MAX),
            bytes in output(),
            cuts in vec(0..200_usize, 0..60),
        ) {
            let pieces = decode(start, &bytes, cuts);
            let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
            let mut offset = start;
            for piece in &pieces {
                prop_assert_eq!(piece.offset, offset);
                prop_assert!(piece.end_offset > piece.offset && !piece.text.is_empty());
                offset = piece.end_offset;
            }
            prop_assert_eq!(offset, start + bytes.len() as u64);
        }

        #[test]
        fn a_split_character_is_found_at_every_offset(text: String, bytes in output()) {
            let whole = text.as_bytes();
            for cut in 0..=whole.len() {
                let split = split_character(&whole[..cut], &whole[cut..]);
                prop_assert_eq!(split.is_none(), text.is_char_boundary(cut));
                if let Some(SplitCharacter { bytes_before, bytes_after }) = split {
                    prop_assert!(text.is_char_boundary(cut - bytes_before));
                    prop_assert!(text.is_char_boundary(cut + bytes_after));
                }
            }
            for cut in 0..=bytes.len() {
                if let Some(split) = split_character(&bytes[..cut], &bytes[cut..]) {
                    let range = cut - split.bytes_before..cut + split.bytes_after;
                    prop_assert_eq!(str::from_utf8(&bytes[range]).unwrap().chars().count(), 1);
                }
            }
        }
    }

    #[test]
    fn half_a_character_waits_for_its_other_half() {
        let mut decoder = TextDecoder::default();
        assert_eq!(decoder.push(10, b"\xE2\x82"), None);
        assert_eq!(decoder.held_bytes(), 2);
        let euro = TextPiece { offset: 10, end_offset: 14, text: "€!".to_owned() };
        assert_eq!(decoder.push(12, b"\xAC!"), Some(euro));
        assert_eq!(decoder.finish(), None);
    }

    #[test]
    fn a_gap_ends_a_character_that_was_never_completed() {
        let mut decoder = TextDecoder::default();
        let first = TextPiece { offset: 0, end_offset: 1, text: "a".to_owned() };
        assert_eq!(decoder.push(0, b"a\xF0\x9F"), Some(first));
        let broken = TextPiece { offset: 1, end_offset: 3, text: "\u{FFFD}".to_owned() };
        assert_eq!(decoder.gap(), Some(broken));
        let next = TextPiece { offset: 90, end_offset: 91, text: "b".to_owned() };
        assert_eq!(decoder.push(90, b"b"), Some(next));
    }
}
