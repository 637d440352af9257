//! The patterns of a job at work: its output is searched, what is found is recorded.
//!
//! A job without patterns has none of this. An error of the disk costs the record of a match and
//! never keeps the job waiting.

use std::time::Duration;

use crate::{
    job::{OutputMatch, Time},
    store::{JobDir, MatchRecord, MatchWriter, StoreError, Stream},
    sys::clock,
};

use super::matcher::{Found, Matcher};

/// How long nothing comes before an unfinished line is searched: a prompt has no line break.
const SILENCE: Duration = Duration::from_millis(50);

/// The search in the output of one attempt.
pub(super) struct Search {
    names: Vec<String>,
    matcher: Matcher,
    writer: MatchWriter,
    /// When the last byte of each stream came, on the boot clock.
    last: [Duration; 2],
}

impl Search {
    /// The search for these patterns; `None` if there are none.
    pub(super) fn new(dir: &JobDir, matches: &[OutputMatch]) -> Option<Self> {
        let search = || Self {
            names: matches.iter().map(|one| one.name.clone()).collect(),
            matcher: Matcher::new(matches),
            writer: MatchWriter::new(dir),
            last: [Duration::ZERO; 2],
        };
        (!matches.is_empty()).then(search)
    }

    /// Goes on where a search stopped that died: what it recorded is not found again.
    pub(super) fn resume(
        &mut self,
        dir: &JobDir,
        matches: &[OutputMatch],
    ) -> Result<(), StoreError> {
        let recorded = self.writer.resume(dir)?;
        for record in &recorded {
            let Some(pattern) = matches.iter().position(|one| one.name == record.name) else {
                continue;
            };
            self.matcher.skip_recorded(pattern, record.stream, record.end_offset);
        }
        Ok(())
    }

    /// The next bytes of a stream begin at this offset, at the start of a line.
    pub(super) fn start_at(&mut self, stream: Stream, offset: u64) {
        self.matcher.start_at(stream, offset);
    }

    /// Searches what a stream brought `now`, which must be in the log already.
    pub(super) fn feed(&mut self, stream: Stream, bytes: &[u8], now: Duration) {
        self.last[stream.place()] = now;
        let found = self.matcher.feed(stream, bytes);
        self.record(found);
    }

    /// When `search_silent` has something to do, on the boot clock.
    pub(super) fn next(&self) -> Option<Duration> {
        let unsearched = self.matcher.unsearched();
        let waiting = unsearched.into_iter().zip(self.last).filter(|(is, _)| *is);
        waiting.map(|(_, last)| last + SILENCE).min()
    }

    /// Searches unfinished lines to which nothing has been added for a while.
    pub(super) fn search_silent(&mut self, now: Duration) {
        for stream in Stream::BOTH {
            let place = stream.place();
            if self.matcher.unsearched()[place] && self.last[place] + SILENCE <= now {
                self.search_rest(stream);
            }
        }
    }

    /// Searches what is left; nothing comes after.
    pub(super) fn finish(&mut self) {
        for stream in Stream::BOTH {
            self.search_rest(stream);
        }
    }

    /// What went wrong with the records, if anything did.
    pub(super) fn fault(&self) -> Option<String> {
        let fault = self.writer.fault()?;
        Some(format!("{fault} ({} matches are not recorded)", self.writer.dropped()))
    }

    fn search_rest(&mut self, stream: Stream) {
        let found = self.matcher.search_rest(stream);
        self.record(found);
    }

    fn record(&mut self, found: Vec<Found>) {
        if found.is_empty() {
            return;
        }
        let time = Time::from(clock::now());
        let record = |found: Found| {
            let Found { pattern, stream, offset, end_offset, text } = found;
            let name = self.names[pattern].clone();
            // The writer gives the number.
            MatchRecord { number: 0, time, name, stream, offset, end_offset, text }
        };
        let records: Vec<_> = found.into_iter().map(record).collect();
        self.writer.append(&records);
    }
}
