//! Sockets: between the service and its launcher (whole messages, in order, with an end), and who
//! may connect to one that has a path.

use std::{
    fs::{OpenOptions, Permissions},
    io,
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair},
};

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

/// Ports below this one are for who has a right to them (ip(7), `ip_unprivileged_port_start`).
pub fn unprivileged_port_start() -> u16 {
    const DEFAULT: u16 = 1024;
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT)
}

/// Sets who may connect to the socket at `path`. A link in its place is not followed.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let socket = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !socket.metadata()?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a socket any more"));
    }
    // A descriptor that only stands for a place has no other way (open(2), O_PATH).
    let by_descriptor = format!("/proc/self/fd/{}", socket.as_raw_fd());
    std::fs::set_permissions(by_descriptor, Permissions::from_mode(mode))
}
