//! Reading the journal from any position, at the reader's own pace.
//!
//! A reader keeps one open file and a place in it. History that is dropped while it reads stays
//! readable to it until it goes on to the next file.

use std::{fs::File, sync::Arc};

use super::{JobEvent, Shared, record, segment};
use crate::{
    store::{JobDir, StoreError},
    sys::fs,
};

/// What is read at once.
const READ_BYTES: usize = 256 * 1024;

/// A position is older than what is kept.
#[derive(Debug, PartialEq, Eq)]
pub struct HistoryGone {
    /// The oldest position that can still be read from.
    pub oldest: u64,
}

/// A place in the journal.
#[derive(Debug)]
pub struct JournalReader {
    shared: Arc<Shared>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    first: u64,
    /// The sequence of the event at `at`.
    next: u64,
    at: u64,
}

impl JournalReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: None }
    }

    /// Up to `count` events after the position `after` and up to `head`, which has been written.
    pub fn read(
        &mut self,
        after: u64,
        head: u64,
        count: usize,
    ) -> Result<Result<Vec<JobEvent>, HistoryGone>, StoreError> {
        let mut events = Vec::new();
        while events.len() < count && after + (events.len() as u64) < head {
            let next = after + 1 + events.len() as u64;
            let Some(mut open) = self.opened(next)? else {
                let oldest = self.shared.lock().front().map_or(head, |oldest| oldest.first - 1);
                return Ok(Err(HistoryGone { oldest }));
            };
            let read = self.take(&mut open, head, count - events.len(), &mut events)?;
            if read == 0 {
                return self.ends_short(&open, next, events);
            }
            self.open = Some(open);
        }
        Ok(Ok(events))
    }

    /// What a file that ends before the event `next`, which was written, means: history has gone
    /// on without this reader, or somebody else has cut the file.
    fn ends_short(
        &self,
        open: &Open,
        next: u64,
        events: Vec<JobEvent>,
    ) -> Result<Result<Vec<JobEvent>, HistoryGone>, StoreError> {
        if !events.is_empty() {
            return Ok(Ok(events));
        }
        match self.shared.lock().front().map(|oldest| oldest.first) {
            Some(first) if next < first => Ok(Err(HistoryGone { oldest: first - 1 })),
            Some(_) | None => {
                let path = segment::path(&self.shared.layout.journal(), open.first);
                let why = format!("it ends before the event {next}");
                Err(StoreError::Corrupt { path, why })
            }
        }
    }

    /// The file that holds the event `next`, at its place; `None` if it is gone.
    fn opened(&mut self, next: u64) -> Result<Option<Open>, StoreError> {
        let kept = self.open.take().filter(|open| open.next == next);
        let (first, ends_at) = {
            let segments = self.shared.lock();
            let place = segments.partition_point(|segment| segment.first <= next);
            let ends_at = segments.get(place).map(|segment| segment.first);
            (place.checked_sub(1).map(|place| segments[place].first), ends_at)
        };
        if let Some(open) = kept {
            // Dropped or present, it is good as long as it holds the event.
            if first.is_none_or(|first| first <= open.first) && ends_at != Some(next) {
                return Ok(Some(open));
            }
        }
        let Some(first) = first else { return Ok(None) };
        let path = segment::path(&self.shared.layout.journal(), first);
        let file = match fs::open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::io("open", &path)(source)),
        };
        let mut open = Open { file, first, next: first, at: 0 };
        // The line that says what the file is, and the events before the wanted one.
        open.skip_lines(1 + (next - first)).map_err(StoreError::io("read", &path))?;
        open.next = next;
        Ok(Some(open))
    }

    /// Takes whole lines from one block of the file. Tells how many.
    fn take(
        &self,
        open: &mut Open,
        head: u64,
        count: usize,
        events: &mut Vec<JobEvent>,
    ) -> Result<usize, StoreError> {
        let path = segment::path(&self.shared.layout.journal(), open.first);
        let mut block = vec![0; READ_BYTES];
        let mut length =
            fs::read_at(&open.file, &mut block, open.at).map_err(StoreError::io("read", &path))?;
        if !block[..length].contains(&b'\n') && length == READ_BYTES {
            block.resize(record::LINE_BYTES_MAX, 0);
            length = fs::read_at(&open.file, &mut block, open.at)
                .map_err(StoreError::io("read", &path))?;
        }
        let mut lines = segment::Lines { bytes: &block[..length], at: 0 };
        let mut taken = 0;
        while taken < count && open.next <= head {
            let Some(line) = lines.next() else { break };
            let accepted = |id| {
                let dir = JobDir::at(self.shared.layout.job(id));
                dir.accepted().ok().map(Arc::new)
            };
            let event =
                record::decode(line, accepted).map_err(StoreError::corrupt(path.clone()))?;
            if event.sequence != open.next {
                let why =
                    format!("the event {} stands where {} belongs", event.sequence, open.next);
                return Err(StoreError::Corrupt { path, why });
            }
            events.push(event);
            taken += 1;
            open.next += 1;
        }
        open.at += lines.at as u64;
        Ok(taken)
    }
}

impl Open {
    fn skip_lines(&mut self, count: u64) -> std::io::Result<()> {
        let mut block = vec![0; READ_BYTES];
        let mut left = count;
        while left > 0 {
            let length = fs::read_at(&self.file, &mut block, self.at)?;
            if length == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let newlines = (0..).zip(&block[..length]).filter(|(_, byte)| **byte == b'\n');
            let mut skipped = length as u64;
            for (place, _) in newlines {
                left -= 1;
                if left == 0 {
                    skipped = place + 1;
                    break;
                }
            }
            self.at += skipped;
        }
        Ok(())
    }
}
