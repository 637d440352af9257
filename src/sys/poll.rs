//! Waiting for several descriptors at once: poll(2).

use std::{io, os::fd::BorrowedFd, time::Duration};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::io_error;

/// Waits until one of `fds` can be read, has hung up or failed, or `limit` is over.
///
/// Says for each whether it is ready. A signal that arrives counts as "none is".
pub fn readable<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    limit: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut places = [None; N];
    let mut polled = Vec::with_capacity(N);
    for (place, fd) in places.iter_mut().zip(fds) {
        if let Some(fd) = fd {
            *place = Some(polled.len());
            polled.push(PollFd::new(fd, PollFlags::POLLIN));
        }
    }
    let timeout = limit.map_or(PollTimeout::NONE, |limit| {
        // Rounded up: a wait that ends a moment early would spin.
        let millis = limit.as_micros().div_ceil(1000);
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    });
    match nix::poll::poll(&mut polled, timeout) {
        Ok(_) => {}
        Err(nix::errno::Errno::EINTR) => return Ok([false; N]),
        Err(errno) => return Err(io_error(errno)),
    }
    Ok(places.map(|place| place.is_some_and(|place| polled[place].any().unwrap_or(true))))
}

/// Waits until `fd` can be written, or `limit` is over.
pub fn writable(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<()> {
    let timeout =
        PollTimeout::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
    match nix::poll::poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(io_error(errno)),
    }
}
