//! The output of a job: from its FIFOs into its logs, byte for byte.
//!
//! Lines mean nothing here; `search` looks at them if the job has patterns. An error of the disk
//! never closes a FIFO and never keeps the job waiting: what cannot be written is dropped and
//! counted by the log writer.

use std::{
    io::Read as _,
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use crate::{
    job::{OutputLimitAction, OutputLimits, OutputSize, Spec, Time},
    store::{JobDir, LogWriter, Stream},
    sys::{clock, fs},
};

use super::{Fifos, search::Search};

/// The most that is read at once: the capacity of a pipe.
const READ_BYTES: usize = 64 * 1024;
/// What the FIFOs of a job hold whose output is searched: it goes on writing meanwhile.
const SEARCHED_PIPE_BYTES: i32 = 1024 * 1024;
/// Reads in a row before other things get their turn.
const READS_MAX: usize = 64;

/// Both streams of a running job.
pub(super) struct Capture {
    /// `None` once nobody can write any more.
    fifos: [Option<std::fs::File>; 2],
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
                let _ = fs::set_pipe_capacity(fifo, SEARCHED_PIPE_BYTES);
            }
        }
        Self {
            // Merged output has one pipe; nobody ever writes to the other.
            fifos: [Some(out), (!spec.merge_output).then_some(err)],
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

    /// Takes what a stream has now, once. True if there may be more.
    pub(super) fn read(&mut self, stream: Stream) -> bool {
        let place = stream.place();
        let Some(fifo) = &mut self.fifos[place] else { return false };
        // Made at the first byte, and again after a rest.
        self.buffer.resize(READ_BYTES, 0);
        match fifo.read(&mut self.buffer) {
            Ok(0) => {
                self.fifos[place] = None;
                false
            }
            Ok(length) => {
                self.last_output = clock::since_boot();
                self.log.append(stream, &self.buffer[..length], Time::from(clock::now()));
                if let Some(search) = &mut self.search {
                    search.feed(stream, &self.buffer[..length], self.last_output);
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

    /// Gives the buffer up until the next byte: a silent job's supervisor is as small as can be.
    pub(super) fn rest(&mut self) {
        self.buffer = Vec::new();
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
