//! The socket between the service and its launcher: whole messages, in order, with an end.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::io_error;

/// The two ends of a message socket (`SOCK_SEQPACKET`), not inherited by programs.
pub fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).map_err(io_error)
}

/// Sends one message; `WouldBlock` if the other side has many to read.
pub fn send_message(socket: impl AsFd, message: &[u8]) -> io::Result<()> {
    // MSG_NOSIGNAL: the other side's death is an error here, not a signal.
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    send(socket.as_fd().as_raw_fd(), message, flags).map(drop).map_err(io_error)
}

/// Sends one message, waiting for room for at most `limit`.
pub fn send_message_within(socket: impl AsFd, message: &[u8], limit: Duration) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        match send_message(&socket, message) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begin.elapsed() < limit => {
                super::poll::writable(socket.as_fd(), limit.saturating_sub(begin.elapsed()))?;
            }
            sent => return sent,
        }
    }
}

/// Receives one message into `buffer`; zero bytes mean that the other side is gone.
pub fn receive_message(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    recv(socket.as_fd().as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT).map_err(io_error)
}
