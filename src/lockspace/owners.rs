//! Watching the processes that own locks: what they held is given back as soon as they have ended.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::spawn::{builder, run_apart};
use crate::fence::OwnerProcess;

/// How often to check whether the owners can still be stopped.
const CHECK_INTERVAL: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// A holder of locks for another process.
pub(crate) trait OwnerEnd: Send + Sync {
    /// The process has ended. Gives back what it held; called on a thread of its own where one is
    /// available, and may take as long as that takes.
    fn owner_ended(&self);
}

/// The owners of one member host, and the thread that watches them, once there is one.
pub(crate) struct OwnerWatch {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    owners: Vec<Owner>,
    /// Wakes the thread, which waits in poll(2), and so by a descriptor; `None` while there is none.
    wake: Option<Arc<OwnedFd>>,
    closed: bool,
}

#[derive(Clone)]
struct Owner {
    process: Arc<OwnerProcess>,
    holder: Weak<dyn OwnerEnd>,
    /// It was logged that this process can send it no signal any more.
    is_logged: bool,
}

impl OwnerWatch {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
        })
    }

    /// Calls `holder` when `process` has ended, unless the holder has gone before.
    ///
    /// # Errors
    ///
    /// The system refuses a thread or a descriptor.
    pub(crate) fn watch(
        self: &Arc<Self>,
        process: &Arc<OwnerProcess>,
        holder: Weak<dyn OwnerEnd>,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        let wake = if let Some(wake) = &state.wake {
            Arc::clone(wake)
        } else {
            let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let (me, fd) = (Arc::clone(self), Arc::clone(&wake));
            builder("dl-owners").spawn(move || me.run(&fd))?;
            state.wake = Some(Arc::clone(&wake));
            wake
        };
        state.owners.retain(|owner| owner.holder.strong_count() > 0);
        state.owners.push(Owner {
            process: Arc::clone(process),
            holder,
            is_logged: false,
        });
        drop(state);
        wake_up(&wake);
        Ok(())
    }

    /// How many processes other than this one hold locks, of those that `is_meant`.
    pub(super) fn count(&self, is_meant: impl Fn(&OwnerProcess) -> bool) -> usize {
        let state = self.state.lock();
        let held = |owner: &&Owner| {
            owner.holder.strong_count() > 0
                && !owner.process.has_ended()
                && is_meant(&owner.process)
        };
        state.owners.iter().filter(held).count()
    }

    /// Logs once of each owner that this process cannot stop it any more.
    fn log_unreachable(&self) {
        let unreachable: Vec<_> = {
            let mut state = self.state.lock();
            let unlogged = state.owners.iter_mut().filter(|owner| !owner.is_logged);
            let found = unlogged.filter_map(|owner| {
                let error = owner.process.check_reach().err()?;
                owner.is_logged = true;
                Some((owner.process.pid(), error))
            });
            found.collect()
        };
        for (pid, error) in unreachable {
            tracing::error!(pid, %error, "the owner of locks has changed its user: this process could not stop it if they were lost");
        }
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        if let Some(wake) = &state.wake {
            wake_up(wake);
        }
    }

    fn run(&self, wake: &OwnedFd) {
        loop {
            let owners = {
                let mut state = self.state.lock();
                if state.closed {
                    return;
                }
                state.owners.retain(|owner| owner.holder.strong_count() > 0);
                state.owners.clone()
            };
            let processes = owners
                .iter()
                .map(|owner| PollFd::new(&*owner.process, PollFlags::IN));
            let mut fds: Vec<_> = std::iter::once(PollFd::new(wake, PollFlags::IN))
                .chain(processes)
                .collect();
            // Interrupted, or short of memory: then each is inspected below all the same.
            let _ = poll(&mut fds, Some(&CHECK_INTERVAL));
            let _ = rustix::io::read(wake, &mut [0_u8; 8]);
            let ended = {
                let mut state = self.state.lock();
                let all = std::mem::take(&mut state.owners).into_iter();
                let (ended, rest): (Vec<_>, _) = all.partition(|owner| owner.process.has_ended());
                state.owners = rest;
                ended
            };
            self.log_unreachable();
            for owner in ended {
                // One lease that hangs must not hold up what others held.
                run_apart("dl-owner-end", move || {
                    if let Some(holder) = owner.holder.upgrade() {
                        holder.owner_ended();
                    }
                });
            }
        }
    }
}

fn wake_up(wake: &OwnedFd) {
    // Cannot block: a counter that is full would be readable already.
    let _ = rustix::io::write(wake, bytemuck::bytes_of(&1_u64));
}
