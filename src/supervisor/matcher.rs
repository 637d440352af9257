//! Looks for patterns in output as it passes: bytes go in, matches come out.
//!
//! A match lies within a line. What is found does not depend on how the output was cut into
//! reads: whole lines are searched where they lie, and only an unfinished last line is kept.
//! Nothing here reads a clock or a file; the caller says when a stream has fallen silent.

use memchr::{memchr, memrchr};

use crate::{
    job::{CompiledPattern, MatchStream, OutputMatch},
    store::{MATCHES_MAX, Stream},
};

/// The longest line that is searched as one; what is longer is searched in parts.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// How much of a part is searched again with the next, so that a match there is found whole.
const OVERLAP_BYTES: usize = 4 * 1024;
/// How far a part is from the next.
const STEP_BYTES: usize = LINE_BYTES_MAX - OVERLAP_BYTES;
/// As many bytes of a long line are worth a look before they are kept.
const SKIPPED_BYTES_MIN: usize = 4 * OVERLAP_BYTES;
/// The most bytes of a match that are given as text.
const TEXT_BYTES_MAX: usize = 256;

/// One match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The place of its pattern in the spec.
    pub(super) pattern: usize,
    pub(super) stream: Stream,
    pub(super) offset: u64,
    pub(super) end_offset: u64,
    /// What matched, as UTF-8 with replacements.
    pub(super) text: String,
}

/// The patterns of a job and what they have seen.
#[derive(Debug)]
pub(super) struct Matcher {
    patterns: Vec<Pattern>,
    lines: [Line; 2],
    /// How many more matches are told.
    left: u64,
}

#[derive(Debug)]
struct Pattern {
    place: usize,
    compiled: CompiledPattern,
    stream: MatchStream,
    is_once: bool,
    /// Where a match of each stream may begin: behind the last.
    from: [u64; 2],
}

/// The unfinished line of a stream.
#[derive(Debug, Default)]
struct Line {
    /// Its bytes that are still needed.
    bytes: Vec<u8>,
    /// Where they begin in the stream.
    offset: u64,
    /// How many of them stand before what is to be searched: one if this is not the first part,
    /// so that the pattern sees that no line begins here.
    context: usize,
    /// Bytes have come since it was last searched.
    is_unsearched: bool,
}

/// What is searched at once.
#[derive(Clone, Copy)]
struct Span<'a> {
    stream: Stream,
    bytes: &'a [u8],
    offset: u64,
    /// Where in it a match may begin.
    starts: (usize, usize),
}

impl Matcher {
    /// A matcher for these patterns.
    pub(super) fn new(matches: &[OutputMatch]) -> Self {
        let pattern = |(place, one): (usize, &OutputMatch)| {
            // It has been compiled when it was accepted, by the same rules.
            let compiled = one.compile().ok()?;
            let (stream, is_once) = (one.stream, one.once);
            Some(Pattern { place, compiled, stream, is_once, from: [0, 0] })
        };
        let patterns = matches.iter().enumerate().filter_map(pattern).collect();
        Self { patterns, lines: [Line::default(), Line::default()], left: MATCHES_MAX }
    }

    /// Takes it that a match of the pattern at this place of the spec was told before, which ends
    /// at `end_offset` of a stream.
    pub(super) fn skip_recorded(&mut self, pattern: usize, stream: Stream, end_offset: u64) {
        self.left = self.left.saturating_sub(1);
        self.patterns.retain(|known| !(known.place == pattern && known.is_once));
        for known in self.patterns.iter_mut().filter(|known| known.place == pattern) {
            let from = &mut known.from[stream.place()];
            *from = end_offset.max(*from);
        }
    }

    /// The next bytes of a stream begin at this offset, at the start of a line.
    pub(super) fn start_at(&mut self, stream: Stream, offset: u64) {
        self.lines[stream.place()] = Line { offset, ..Line::default() };
    }

    /// Takes the next bytes of a stream; what they let be found, in order.
    pub(super) fn feed(&mut self, stream: Stream, bytes: &[u8]) -> Vec<Found> {
        let mut all = Vec::new();
        // No line that lies whole in such a piece has to be searched in parts.
        for piece in bytes.chunks(LINE_BYTES_MAX) {
            if !self.wants(stream) {
                // The line goes on from an offset that nobody asks for any more.
                self.lines[stream.place()] = Line::default();
                break;
            }
            self.feed_piece(stream, piece, &mut all);
        }
        all
    }

    fn feed_piece(&mut self, stream: Stream, piece: &[u8], all: &mut Vec<Found>) {
        let Some(last) = memrchr(b'\n', piece) else { return self.carry(stream, piece, all) };
        let mut begin = 0;
        let line = &self.lines[stream.place()];
        if !line.bytes.is_empty() {
            let first = memchr(b'\n', piece).unwrap_or(last);
            self.carry(stream, &piece[..first], all);
            self.search_line(stream, all);
            self.lines[stream.place()].end();
            begin = first + 1;
        }
        let block = &piece[begin..=last];
        let offset = self.lines[stream.place()].offset;
        let starts = (0, block.len());
        self.search(Span { stream, bytes: block, offset, starts }, true, all);
        self.lines[stream.place()].offset += block.len() as u64;
        self.carry(stream, &piece[last + 1..], all);
    }

    /// Adds bytes without a line break to the unfinished line. Where it grows too long, its first
    /// part is searched and given up.
    fn carry(&mut self, stream: Stream, mut bytes: &[u8], all: &mut Vec<Found>) {
        if bytes.len() >= SKIPPED_BYTES_MIN && self.skip(stream, bytes) {
            return;
        }
        while !bytes.is_empty() {
            let line = &mut self.lines[stream.place()];
            // One more than a part: only then is it known that the line is longer.
            let full = line.context + LINE_BYTES_MAX + 1;
            let (now, later) = bytes.split_at(bytes.len().min(full - line.bytes.len()));
            line.bytes.extend_from_slice(now);
            line.is_unsearched = true;
            bytes = later;
            if line.bytes.len() == full {
                let line = std::mem::take(line);
                let starts = (line.context, line.context + STEP_BYTES);
                let span = Span { stream, bytes: &line.bytes, offset: line.offset, starts };
                self.search(span, false, all);
                self.lines[stream.place()] = line.next_part();
            }
        }
    }

    /// Passes over more of a line that is long already, without keeping it, if no pattern matches
    /// anything in it or across where it begins. False if it has to be looked at more closely.
    ///
    /// Its beginning passes for that of a line, and its end for the end of one: a match there may
    /// be none, which the closer look finds out.
    fn skip(&mut self, stream: Stream, bytes: &[u8]) -> bool {
        let line = &mut self.lines[stream.place()];
        if line.context == 0 {
            return false;
        }
        let known = line.bytes.len();
        line.bytes.extend_from_slice(&bytes[..OVERLAP_BYTES]);
        let (border, context) = (&line.bytes, line.context);
        let matches = |pattern: &Pattern| {
            let regex = &pattern.compiled.regex;
            regex.find_at(border, context).is_some() || regex.is_match(bytes)
        };
        if self.patterns.iter().filter(|pattern| pattern.wants(stream)).any(matches) {
            line.bytes.truncate(known);
            return false;
        }
        let kept = &bytes[bytes.len() - line.context - OVERLAP_BYTES..];
        line.offset += (known + bytes.len() - kept.len()) as u64;
        line.bytes.clear();
        line.bytes.extend_from_slice(kept);
        line.is_unsearched = true;
        true
    }

    /// The streams that have an unfinished line with bytes that have not been searched.
    pub(super) fn unsearched(&self) -> [bool; 2] {
        [0, 1].map(|place| self.lines[place].is_unsearched)
    }

    /// Searches the unfinished line of a stream: nothing has come for a while, or it has ended.
    pub(super) fn search_rest(&mut self, stream: Stream) -> Vec<Found> {
        let mut all = Vec::new();
        self.search_line(stream, &mut all);
        all
    }

    fn search_line(&mut self, stream: Stream, all: &mut Vec<Found>) {
        let mut line = std::mem::take(&mut self.lines[stream.place()]);
        let starts = (line.context, line.bytes.len());
        self.search(Span { stream, bytes: &line.bytes, offset: line.offset, starts }, false, all);
        line.is_unsearched = false;
        self.lines[stream.place()] = line;
    }

    /// Whether any pattern can still match in this stream.
    fn wants(&self, stream: Stream) -> bool {
        self.left > 0 && self.patterns.iter().any(|pattern| pattern.wants(stream))
    }

    /// Searches one line, or a block of whole lines.
    fn search(&mut self, span: Span<'_>, is_block: bool, all: &mut Vec<Found>) {
        let mut found = Vec::new();
        for pattern in self.patterns.iter_mut().filter(|pattern| pattern.wants(span.stream)) {
            let most = if pattern.is_once { 1 } else { self.left };
            let most = found.len() + usize::try_from(most).unwrap_or(usize::MAX);
            if is_block {
                pattern.search_block(span, most, &mut found);
            } else {
                pattern.search_line(span, most, &mut found);
            }
        }
        // One pattern after the other has searched; told is in the order of the output.
        found.sort_by_key(|one| (one.offset, one.pattern));
        found.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= found.len() as u64;
        let is_over = |pattern: &Pattern| {
            pattern.is_once && found.iter().any(|one| one.pattern == pattern.place)
        };
        self.patterns.retain(|pattern| !is_over(pattern));
        all.append(&mut found);
    }
}

impl Line {
    /// Nothing of it is needed any more; the next begins behind its line break.
    fn end(&mut self) {
        self.offset += self.bytes.len() as u64 + 1;
        self.bytes.clear();
        self.context = 0;
        self.is_unsearched = false;
    }

    /// The line without its first part, which has been searched.
    fn next_part(mut self) -> Self {
        let gone = self.context + STEP_BYTES - 1;
        self.bytes.drain(..gone);
        Self { offset: self.offset + gone as u64, context: 1, is_unsearched: true, ..self }
    }
}

impl Pattern {
    fn wants(&self, stream: Stream) -> bool {
        match (self.stream, stream) {
            (MatchStream::Both, _)
            | (MatchStream::Stdout, Stream::Stdout)
            | (MatchStream::Stderr, Stream::Stderr) => true,
            (MatchStream::Stdout, Stream::Stderr) | (MatchStream::Stderr, Stream::Stdout) => false,
        }
    }

    /// Searches whole lines until there are `most` in `found`.
    ///
    /// The leftmost match of the block says which lines need not be looked at: a match of a
    /// single line would be one of the block.
    fn search_block(&mut self, span: Span<'_>, most: usize, found: &mut Vec<Found>) {
        let block = span.bytes;
        let mut begin = 0;
        while begin < block.len() && found.len() < most {
            if self.compiled.is_block_searchable {
                let Some(hint) = self.compiled.regex.find_at(block, begin) else { return };
                if hint.start() >= block.len() {
                    return;
                }
                let skipped = &block[begin..hint.start()];
                begin += memrchr(b'\n', skipped).map_or(0, |place| place + 1);
            }
            let length = memchr(b'\n', &block[begin..]).unwrap_or(block.len() - begin);
            let line = Span {
                stream: span.stream,
                bytes: &block[begin..begin + length],
                offset: span.offset + begin as u64,
                starts: (0, length),
            };
            self.search_line(line, most, found);
            begin += length + 1;
        }
    }

    fn search_line(&mut self, span: Span<'_>, most: usize, found: &mut Vec<Found>) {
        let from = &mut self.from[span.stream.place()];
        let known = usize::try_from(from.saturating_sub(span.offset)).unwrap_or(usize::MAX);
        let mut at = span.starts.0.max(known);
        while found.len() < most && at <= span.bytes.len() {
            let Some(one) = self.compiled.regex.find_at(span.bytes, at) else { return };
            if one.start() >= span.starts.1 {
                return;
            }
            if one.is_empty() {
                at = one.end() + 1;
                continue;
            }
            at = one.end();
            *from = span.offset + at as u64;
            let text = one.as_bytes();
            let text = String::from_utf8_lossy(&text[..text.len().min(TEXT_BYTES_MAX)]);
            found.push(Found {
                pattern: self.place,
                stream: span.stream,
                offset: span.offset + one.start() as u64,
                end_offset: *from,
                text: text.into_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
