//! Watching the processes that own locks: what they held is given back as soon as they have ended.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::spawn::{builder, run_apart};
use crate::fence::OwnerProcess;

/// How often to see whether the owners can still be stopped.
const LOOK_INTERVAL: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Whoever holds locks for another process.
pub(crate) trait OwnerEnd: Send + Sync {
    /// The process has ended. Gives back what it held; called on a thread of its own where one is
    /// available, and may take as long as that takes.
    fn owner_ended(&self);
}

/// The owners of one join, and the thread that watches them, once there is one.
pub(crate) struct OwnerWatch {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wards: Vec<Ward>,
    /// Wakes the thread, which waits in poll(2), and so by a descriptor; `None` while there is none.
    wake: Option<Arc<OwnedFd>>,
    closed: bool,
}

#[derive(Clone)]
struct Ward {
    process: Arc<OwnerProcess>,
    holder: Weak<dyn OwnerEnd>,
    /// It was said that it cannot be sent signals any more.
    is_told: bool,
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
        state.wards.retain(|ward| ward.holder.strong_count() > 0);
        state.wards.push(Ward {
            process: Arc::clone(process),
            holder,
            is_told: false,
        });
        drop(state);
        wake_up(&wake);
        Ok(())
    }

    /// How many processes other than this one hold locks, of those that `is_meant`.
    pub(super) fn count(&self, is_meant: impl Fn(&OwnerProcess) -> bool) -> usize {
        let state = self.state.lock();
        let held = |ward: &&Ward| {
            ward.holder.strong_count() > 0 && !ward.process.has_ended() && is_meant(&ward.process)
        };
        state.wards.iter().filter(held).count()
    }

    /// Says once of each owner that it cannot be stopped any more.
    fn tell_of_unreachable(&self) {
        let unreachable: Vec<_> = {
            let mut state = self.state.lock();
            let unheard = state.wards.iter_mut().filter(|ward| !ward.is_told);
            let found = unheard.filter_map(|ward| {
                let error = ward.process.check_reach().err()?;
                ward.is_told = true;
                Some((ward.process.pid(), error))
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
            let wards = {
                let mut state = self.state.lock();
                if state.closed {
                    return;
                }
                state.wards.retain(|ward| ward.holder.strong_count() > 0);
                state.wards.clone()
            };
            let processes = wards
                .iter()
                .map(|ward| PollFd::new(&*ward.process, PollFlags::IN));
            let mut fds: Vec<_> = std::iter::once(PollFd::new(wake, PollFlags::IN))
                .chain(processes)
                .collect();
            // Interrupted, or short of memory: then each is inspected below all the same.
            let _ = poll(&mut fds, Some(&LOOK_INTERVAL));
            let _ = rustix::io::read(wake, &mut [0_u8; 8]);
            let ended = {
                let mut state = self.state.lock();
                let all = std::mem::take(&mut state.wards).into_iter();
                let (ended, rest): (Vec<_>, _) = all.partition(|ward| ward.process.has_ended());
                state.wards = rest;
                ended
            };
            self.tell_of_unreachable();
            for ward in ended {
                // One lease that hangs must not hold up what others held.
                run_apart("dl-owner-end", move || {
                    if let Some(holder) = ward.holder.upgrade() {
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
