//! Where a `TailLog` stream begins.

use crate::{
    api::{self, tail_log_request::Start as Asked},
    job::{Job, Time, Violation},
    service::{convert, status::Refusal},
    store::{JobDir, LogReader, StoreError, Stream},
};

/// A start as the caller asked for it, checked.
pub(super) enum Start {
    Beginning,
    LastLines(u64),
    LastBytes(u64),
    Offsets([u64; 2]),
    Since(Time),
}

/// An offset beyond the end of complete output.
pub(super) struct Beyond {
    stream: Stream,
    offset: u64,
    size: u64,
}

impl Beyond {
    pub(super) fn into_refusal(self) -> Refusal {
        let stream = match self.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        Refusal::OffsetBeyondEnd { stream, offset: self.offset, size: self.size }
    }
}

impl Start {
    pub(super) fn parse(start: Option<Asked>) -> Result<Self, Refusal> {
        Ok(match start {
            None | Some(Asked::FromBeginning(true)) => Self::Beginning,
            Some(Asked::FromBeginning(false)) => {
                let rule = "must be true, or another start be given";
                return Err(Violation::new("from_beginning", rule).into());
            }
            Some(Asked::LastLines(lines)) => Self::LastLines(lines),
            Some(Asked::LastBytes(bytes)) => Self::LastBytes(bytes),
            Some(Asked::Offsets(api::LogOffsets { stdout, stderr })) => {
                Self::Offsets([stdout, stderr])
            }
            Some(Asked::SinceTime(time)) => Self::Since(convert::time("since_time", time)?),
        })
    }

    /// A reader at this start, and the header that tells of it.
    pub(super) fn open(
        self,
        dir: &JobDir,
        wanted: [bool; 2],
        job: &Job,
    ) -> Result<Result<(LogReader, api::LogHeader), Beyond>, StoreError> {
        let mut probe = LogReader::open(dir, wanted, [0, 0])?;
        let sizes = match job.state.end() {
            Some(end) => [end.stdout.size_bytes, end.stderr.size_bytes],
            None => probe.sizes()?,
        };
        let mut offsets = match self {
            Self::Beginning => [0, 0],
            Self::LastBytes(bytes) => sizes.map(|size| size.saturating_sub(bytes)),
            Self::Offsets(offsets) => offsets,
            Self::Since(time) => probe.offsets_at(time)?,
            Self::LastLines(lines) => {
                let mut offsets = [0, 0];
                for stream in Stream::BOTH {
                    let place = stream.place();
                    if wanted[place] {
                        let size = sizes[place];
                        offsets[place] = probe.offset_of_last_lines(stream, size, lines)?;
                    }
                }
                offsets
            }
        };
        for stream in Stream::BOTH {
            let place = stream.place();
            let (offset, size) = (offsets[place], sizes[place]);
            if !wanted[place] {
                offsets[place] = 0;
            } else if job.state.is_ended() && offset > size {
                return Ok(Err(Beyond { stream, offset, size }));
            }
        }
        let told = |[stdout, stderr]: [u64; 2]| Some(api::LogOffsets { stdout, stderr });
        let header = api::LogHeader {
            attempt: job.state.attempt(),
            start_offsets: told(offsets),
            sizes: told(sizes),
        };
        Ok(Ok((LogReader::open(dir, wanted, offsets)?, header)))
    }
}
