//! Passes on the output of a job byte by byte.
//!
//! Writing happens on a thread of its own: a terminal or a pipe that takes nothing must not keep
//! the command from hearing Ctrl-C.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd, BorrowedFd},
    thread,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::failure::Failure;

/// How many pieces may wait for being written.
const PIECES_WAITING_MAX: usize = 16;

/// The pause before a descriptor that does not block is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Where a piece of output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    Stdout,
    Stderr,
}

/// Takes pieces of output and writes them in order.
#[derive(Debug)]
pub(super) struct Writer {
    pieces: mpsc::Sender<(Sink, Bytes)>,
    result: oneshot::Receiver<io::Result<()>>,
}

impl Writer {
    /// Writes to standard output and standard error of this process.
    pub(super) fn new() -> Result<Writer, Failure> {
        let open = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from);
        // Files rather than `io::stdout()`, which would cut pieces at their last line break.
        let files = open(io::stdout().as_fd())
            .and_then(|stdout| Ok((stdout, open(io::stderr().as_fd())?)))
            .map_err(|error| Failure::internal(format!("cannot use standard output: {error}")))?;
        Ok(Writer::with(files.0, files.1))
    }

    fn with(stdout: File, stderr: File) -> Writer {
        let (pieces, receiver) = mpsc::channel(PIECES_WAITING_MAX);
        let (sender, result) = oneshot::channel();
        thread::spawn(move || {
            // Nobody listens any more once the command has been told to leave.
            let _ = sender.send(write_all(receiver, stdout, stderr));
        });
        Writer { pieces, result }
    }

    /// A place for one piece, as soon as there is one; none once writing has failed.
    pub(super) async fn place(&self) -> Option<mpsc::Permit<'_, (Sink, Bytes)>> {
        self.pieces.reserve().await.ok()
    }

    /// Waits until everything is written.
    pub(super) async fn finish(self) -> Result<(), Failure> {
        let Writer { pieces, result } = self;
        drop(pieces);
        match result.await {
            Ok(written) => written.map_err(Failure::from),
            Err(_) => Err(Failure::internal("the thread that writes output has died")),
        }
    }
}

fn write_all(
    mut pieces: mpsc::Receiver<(Sink, Bytes)>,
    mut stdout: File,
    mut stderr: File,
) -> io::Result<()> {
    while let Some((sink, bytes)) = pieces.blocking_recv() {
        let file = match sink {
            Sink::Stdout => &mut stdout,
            Sink::Stderr => &mut stderr,
        };
        write_piece(file, &bytes)?;
    }
    Ok(())
}

fn write_piece(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever shares the terminal with us may have made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, io::pipe, os::fd::OwnedFd};

    use super::*;

    #[tokio::test]
    async fn every_byte_arrives_on_its_own_stream() {
        let folder = tempfile::tempdir().unwrap();
        let (out, err) = (folder.path().join("out"), folder.path().join("err"));
        let writer = Writer::with(File::create(&out).unwrap(), File::create(&err).unwrap());
        for piece in 0..100_u8 {
            let sink = if piece % 2 == 0 { Sink::Stdout } else { Sink::Stderr };
            writer.place().await.unwrap().send((sink, Bytes::from(vec![piece, 0, b'\n'])));
        }
        writer.finish().await.unwrap();
        let expected = |first: u8| -> Vec<u8> {
            (first..100).step_by(2).flat_map(|piece| [piece, 0, b'\n']).collect()
        };
        assert_eq!(fs::read(out).unwrap(), expected(0));
        assert_eq!(fs::read(err).unwrap(), expected(1));
    }

    #[tokio::test]
    async fn a_closed_pipe_is_noticed_and_ends_quietly() {
        let (reader, stdout) = pipe().unwrap();
        let stdout = File::from(OwnedFd::from(stdout));
        let writer = Writer::with(stdout.try_clone().unwrap(), stdout);
        drop(reader);
        while let Some(place) = writer.place().await {
            place.send((Sink::Stdout, Bytes::from_static(b"x")));
        }
        assert_eq!(writer.finish().await, Err(Failure::silent(141)));
    }
}
