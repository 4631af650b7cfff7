//! A few words in a file through which a guest process and the test tell each other where they are. They are there
//! still when the process is not.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Where a guest process is. The numbers are known to `guest.py` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Joining, or about to.
    Joining = 0,
    Idle = 1,
    Acquiring = 2,
    /// Has the lease, by its own account.
    Holding = 3,
    Releasing = 4,
    /// Has stopped itself, right before it asks whether it holds, or is about to.
    Parked = 5,
    /// Knows that it is lost, and has let go of everything.
    Out = 6,
    /// Has ended by itself, as it was asked to.
    Ended = 7,
}

impl State {
    const ALL: [Self; 8] = [
        Self::Joining,
        Self::Idle,
        Self::Acquiring,
        Self::Holding,
        Self::Releasing,
        Self::Parked,
        Self::Out,
        Self::Ended,
    ];

    /// Whether the process is in a lockspace.
    pub(crate) const fn is_joined(self) -> bool {
        !matches!(self, Self::Joining | Self::Out | Self::Ended)
    }
}

/// What the test wants of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    None = 0,
    /// To stop itself when it holds next.
    Park = 1,
    /// To go on after that.
    GoOn = 2,
    End = 3,
    /// To keep the lease that it gets next, and to go on raising the counter.
    Keep = 4,
}

impl Wish {
    const ALL: [Self; 5] = [Self::None, Self::Park, Self::GoOn, Self::End, Self::Keep];
}

/// The words: state, host id, disk, wish.
pub(crate) struct Control(File);

const WISH: u64 = 24;

impl Control {
    pub(crate) fn create(path: &Path, host_id: u64) -> Self {
        std::fs::write(path, [0; 32]).expect("the words of a guest");
        let control = Self::open(path);
        control.say(State::Joining, host_id, 0);
        control
    }

    pub(crate) fn open(path: &Path) -> Self {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(path);
        Self(file.expect("the words of a guest"))
    }

    /// Where this process is.
    pub(crate) fn say(&self, state: State, host_id: u64, disk: usize) {
        let number = State::ALL.iter().position(|it| *it == state).expect("all");
        let mut bytes = [0; 24];
        for (word, place) in [number as u64, host_id, disk as u64]
            .iter()
            .zip(bytes.chunks_exact_mut(8))
        {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.0.write_all_at(&bytes, 0).expect("words");
    }

    /// Where the process is, and as which host.
    pub(crate) fn state(&self) -> (State, u64) {
        (State::ALL[self.word(0) as usize], self.word(8))
    }

    pub(crate) fn want(&self, wish: Wish) {
        let number = wish as u64;
        self.0
            .write_all_at(&number.to_le_bytes(), WISH)
            .expect("words");
    }

    pub(crate) fn wish(&self) -> Wish {
        Wish::ALL[self.word(WISH) as usize]
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, at).expect("words");
        u64::from_le_bytes(bytes)
    }
}
