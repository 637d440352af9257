//! The rights of root, one by one, and doing without most of them (capabilities(7)).

use std::io;

use caps::{CapSet, CapsHashSet, errors::CapsError};
use nix::{libc, sys::prctl};

pub use caps::Capability;

/// Gives up the rights of root for this thread, and for all that it starts from here on, but for
/// `kept`. Call while it is the only one. Who is not root loses nothing: what else was given to
/// it was given on purpose.
///
/// A program that root executes has all rights again that are in its bounding set
/// (capabilities(7), "Capabilities and execution of programs by root"). Where `no_new_privs` is in
/// force it has no more than this process is permitted: then they are put to sleep and not given
/// up. The same where programs of root are like any others (`SECBIT_NOROOT`).
pub fn give_up_all_but(kept: &[Capability]) -> io::Result<()> {
    if super::process::own_uid() != 0 {
        return Ok(());
    }
    let kept: CapsHashSet = kept.iter().copied().collect();
    lower(CapSet::Effective, &kept)?;
    if comes_back_by_exec()? { lower(CapSet::Permitted, &kept) } else { Ok(()) }
}

/// Whether this process has a right now.
pub fn has(right: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, right).unwrap_or(false)
}

fn lower(set: CapSet, kept: &CapsHashSet) -> io::Result<()> {
    let held = caps::read(None, set).map_err(error)?;
    caps::set(None, set, &held.intersection(kept).copied().collect()).map_err(error)
}

/// Whether a program that this process executes as root has all rights of root again.
fn comes_back_by_exec() -> io::Result<bool> {
    let may_gain_none = prctl::get_no_new_privs().map_err(super::io_error)?;
    Ok(!may_gain_none && root_is_special()?)
}

/// Whether programs that root executes have rights because it is root.
pub fn root_is_special() -> io::Result<bool> {
    /// From linux/securebits.h.
    const SECBIT_NOROOT: libc::c_int = 1;
    // SAFETY: PR_GET_SECUREBITS takes no more arguments and changes no memory.
    let bits = unsafe { libc::prctl(libc::PR_GET_SECUREBITS, 0, 0, 0, 0) };
    if bits < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(bits & SECBIT_NOROOT == 0)
}

fn error(error: CapsError) -> io::Error {
    io::Error::other(error)
}
