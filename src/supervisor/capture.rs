//! The output of a job: from its FIFOs into its logs, byte for byte.
//!
//! Lines mean nothing here; `search` looks at them if the job has patterns. An error of the disk
//! never closes a FIFO and never keeps the job waiting: what cannot be written is dropped and
//! counted by the log writer.
//!
//! Bytes are moved by the kernel from the FIFO into the log (splice(2)), so that at any moment
//! each is in one of the two and none is lost with this process. Only what a log does not take
//! is read.

use std::{
    io::Read as _,
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use crate::{
    job::{OutputLimitAction, OutputLimits, OutputSize, Spec, Time},
    store::{JobDir, LogWriter, StoreError, Stream},
    sys::{clock, faults, pipe},
};

use super::{Fifos, search::Search};

/// The most that is read at once: the capacity of a pipe.
const READ_BYTES: usize = 64 * 1024;
/// What the FIFOs of a job hold whose output is searched: it goes on writing meanwhile.
const SEARCHED_PIPE_BYTES: i32 = 1024 * 1024;
/// What a FIFO holds that has brought `READ_BYTES` at once: moving them locks it, and a job that
/// finds no room waits. Four times as much was as fast in measurements, and a quarter twice as slow.
const BUSY_PIPE_BYTES: i32 = 256 * 1024;
/// What a FIFO holds at first, and again after a rest.
const PIPE_BYTES: i32 = 64 * 1024;
/// Reads in a row before other things get their turn.
const READS_MAX: usize = 64;

/// Both streams of a running job.
pub(super) struct Capture {
    /// `None` once nobody can write any more.
    fifos: [Option<std::fs::File>; 2],
    /// The FIFOs that hold more than at first.
    is_busy: [bool; 2],
    buffer: Vec<u8>,
    log: LogWriter,
    /// `None` for a job without patterns.
    search: Option<Search>,
    limits: Option<OutputLimits>,
    last_output: Duration,
}

impl Capture {
    pub(super) fn new(dir: &JobDir, fifos: Fifos, spec: &Spec) -> Self {
        let limits = spec.output_limits;
        let [out, err] = fifos.0.map(std::fs::File::from);
        if !spec.output_matches.is_empty() {
            for fifo in [&out, &err] {
                // Where the kernel allows no more, the job waits a little more often.
                let _ = pipe::set_capacity(fifo, SEARCHED_PIPE_BYTES);
            }
        }
        Self {
            // Merged output has one pipe; nobody ever writes to the other.
            fifos: [Some(out), (!spec.merge_output).then_some(err)],
            is_busy: [!spec.output_matches.is_empty(); 2],
            buffer: Vec::new(),
            search: Search::new(dir, &spec.output_matches),
            log: limited(LogWriter::new(dir), dir, limits),
            limits,
            last_output: clock::since_boot(),
        }
    }

    /// What to poll for each stream; `None` for one that has ended.
    pub(super) fn descriptors(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [0, 1].map(|place| self.fifos[place].as_ref().map(|fifo| fifo.as_fd()))
    }

    /// Whether nobody can write any more.
    pub(super) fn is_at_end(&self) -> bool {
        self.fifos.iter().all(Option::is_none)
    }

    /// When the last byte came, on the boot clock; the start if none has.
    pub(super) fn last_output(&self) -> Duration {
        self.last_output
    }

    /// Goes on where a supervisor stopped that died; `last_output` is when it heard something last.
    pub(super) fn adopt(
        dir: &JobDir,
        fifos: Fifos,
        spec: &Spec,
        last_output: Duration,
    ) -> Result<Self, StoreError> {
        let mut capture = Self::new(dir, fifos, spec);
        let searched = capture.log.resume(dir)?;
        if let Some(search) = &mut capture.search {
            search.resume(dir, &spec.output_matches)?;
            for stream in Stream::BOTH {
                let from = capture.line_start(stream, searched[stream.place()]);
                capture.search_again(stream, from);
            }
        }
        capture.last_output = last_output;
        // Who opens a FIFO after its last writer has gone is never told of that by poll(2).
        for stream in Stream::BOTH {
            capture.read(stream);
        }
        Ok(capture)
    }

    /// Where the line begins that an offset of a stream lies in, if that is near.
    fn line_start(&self, stream: Stream, offset: u64) -> u64 {
        let from = offset.saturating_sub(READ_BYTES as u64);
        let mut before = vec![0; usize::try_from(offset - from).unwrap_or(0)];
        let length = self.log.read_back(stream, from, &mut before);
        let line = memchr::memrchr(b'\n', &before[..length]);
        from + line.map_or(0, |place| place as u64 + 1)
    }

    /// Searches what the log has from an offset on.
    fn search_again(&mut self, stream: Stream, mut from: u64) {
        let Some(search) = &mut self.search else { return };
        search.start_at(stream, from);
        self.buffer.resize(READ_BYTES, 0);
        let size = self.log.size(stream).size_bytes;
        while from < size {
            let length = self.log.read_back(stream, from, &mut self.buffer);
            if length == 0 {
                break;
            }
            search.feed(stream, &self.buffer[..length], clock::since_boot());
            from += length as u64;
        }
        if from < size {
            // The rest was not kept.
            search.start_at(stream, size);
        }
    }

    /// Takes what a stream has now, once. True if there may be more.
    pub(super) fn read(&mut self, stream: Stream) -> bool {
        let place = stream.place();
        let Some(fifo) = &mut self.fifos[place] else { return false };
        let from = self.log.size(stream).size_bytes;
        let taken = match self.log.splice(stream, fifo, READ_BYTES, Time::from(clock::now())) {
            Ok(Some(length)) => {
                if length > 0 && self.search.is_some() {
                    self.buffer.resize(READ_BYTES, 0);
                    self.log.read_back(stream, from, &mut self.buffer[..length]);
                }
                Ok(length)
            }
            Ok(None) => {
                // Made when it is needed, and again after a rest.
                self.buffer.resize(READ_BYTES, 0);
                let taken = fifo.read(&mut self.buffer);
                if let Ok(length @ 1..) = taken {
                    self.log.append(stream, &self.buffer[..length], Time::from(clock::now()));
                }
                taken
            }
            Err(error) => Err(error),
        };
        match taken {
            Ok(0) => {
                self.fifos[place] = None;
                false
            }
            Ok(length) => {
                self.last_output = clock::since_boot();
                faults::point("output.captured");
                if let Some(search) = &mut self.search {
                    search.feed(stream, &self.buffer[..length], self.last_output);
                }
                if length == READ_BYTES && !self.is_busy[place] {
                    self.is_busy[place] = true;
                    // Where the kernel allows no more, the job waits a little more often.
                    let _ = pipe::set_capacity(fifo, BUSY_PIPE_BYTES);
                }
                true
            }
            // Nothing there now. A FIFO has no other errors.
            Err(_) => false,
        }
    }

    /// When `search_silent` has something to do, on the boot clock.
    pub(super) fn next_search(&self) -> Option<Duration> {
        self.search.as_ref().and_then(Search::next)
    }

    /// Looks for patterns in unfinished lines of streams that are silent.
    pub(super) fn search_silent(&mut self, now: Duration) {
        if let Some(search) = &mut self.search {
            search.search_silent(now);
        }
    }

    /// Gives up until the next byte what a silent job does not need.
    pub(super) fn rest(&mut self) {
        self.buffer = Vec::new();
        if self.search.is_none() {
            for (fifo, is_busy) in self.fifos.iter().zip(&mut self.is_busy) {
                if let Some(fifo) = fifo.as_ref().filter(|_| *is_busy) {
                    *is_busy = pipe::set_capacity(fifo, PIPE_BYTES).is_err();
                }
            }
        }
    }

    /// Takes what both streams have now, within a bound. True if there may be more.
    pub(super) fn read_available(&mut self) -> bool {
        for _ in 0..READS_MAX {
            let [out, err] = Stream::BOTH.map(|stream| self.read(stream));
            if !out && !err {
                return false;
            }
        }
        true
    }

    /// Takes the last of it and gives up the FIFOs; nothing comes after.
    pub(super) fn finish(&mut self) {
        self.read_available();
        self.fifos = [None, None];
        self.log.finish();
        if let Some(search) = &mut self.search {
            search.finish();
        }
    }

    /// What the streams brought: standard output, standard error.
    pub(super) fn sizes(&self) -> [OutputSize; 2] {
        Stream::BOTH.map(|stream| self.log.size(stream))
    }

    /// The stream that has exceeded a limit for which the job is to be stopped, and the limit.
    pub(super) fn exceeded(&self) -> Option<(Stream, u64)> {
        let OutputLimits { max_bytes_per_stream, action } = self.limits?;
        if action != OutputLimitAction::Fail {
            return None;
        }
        let stream = Stream::BOTH.into_iter().find(|stream| self.log.is_beyond_limit(*stream));
        stream.map(|stream| (stream, max_bytes_per_stream))
    }

    /// What went wrong with the logs first, or with the records of matches, if anything did.
    pub(super) fn fault(&self) -> Option<String> {
        let log = self.log.fault().map(ToString::to_string);
        log.or_else(|| self.search.as_ref().and_then(Search::fault))
    }
}

fn limited(log: LogWriter, dir: &JobDir, limits: Option<OutputLimits>) -> LogWriter {
    match limits {
        None => log,
        Some(OutputLimits { max_bytes_per_stream, action: OutputLimitAction::KeepTail }) => {
            log.with_kept_tail(dir, max_bytes_per_stream)
        }
        Some(OutputLimits { max_bytes_per_stream, .. }) => log.with_limit(max_bytes_per_stream),
    }
}
