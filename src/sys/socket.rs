//! The socket between the service and its launcher: whole messages, in order, with an end.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair,
};
use std::os::fd::AsRawFd as _;

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

/// Receives one message into `buffer`; zero bytes mean that the other side is gone.
pub fn receive_message(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    recv(socket.as_fd().as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT).map_err(io_error)
}
