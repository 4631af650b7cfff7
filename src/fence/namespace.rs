//! A PID namespace for a child: when its first process ends, the kernel kills all in it.

#![allow(unsafe_code)]

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// From now on this process can start no thread. Its next child is the first process of a new PID
/// namespace, and later children are in that namespace, too.
///
/// # Errors
///
/// Mostly that this process may not: `CAP_SYS_ADMIN` is needed.
pub fn new_pid_namespace() -> io::Result<()> {
    // SAFETY: descriptors are not among what is unshared.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWPID) }?)
}

/// From now on this process sees a `/proc` of its own PID namespace. Where mounts are shared with
/// others they stay so, but for this one.
///
/// # Errors
///
/// This process may not mount, or `/proc` is not in its place.
pub fn mount_proc() -> io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

    // SAFETY: descriptors are not among what is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(c"/proc", private)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount(c"proc", c"/proc", c"proc", flags, None)?)
}
