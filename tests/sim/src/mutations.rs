//! The mutants: each gets one rule wrong, in the one place where that rule stands.
//!
//! The places are marked `mutation!(Name, wrong, right)` in the `rules.rs` of each layer, and
//! `mutant_lists` holds that they and the list agree.

use std::fmt;
use std::ops::BitOr;
use std::str::FromStr;

use disklease::__sim::probe;

mod list;

pub use list::Mutation;

/// A bit for each mutant.
type Bits = [u64; WORDS];
const WORDS: usize = 4;

const _: () = assert!(Mutation::ALL.len() <= WORDS * 64, "each has a bit");

impl Mutation {
    const fn word(self) -> usize {
        self as usize / 64
    }

    const fn bit(self) -> u64 {
        1 << (self as usize % 64)
    }

    /// Whether the rule is got wrong on this thread.
    pub fn is_on(self) -> bool {
        probe::is_wrong(self.name())
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mutation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|mutation| mutation.name() == name);
        found
            .copied()
            .ok_or_else(|| format!("there is no mutant {name:?}"))
    }
}

/// Rules that are got wrong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mutations(Bits);

impl Mutations {
    /// All rules as they are.
    pub const NONE: Self = Self([0; WORDS]);

    /// I: success needs this acquire's own input in the leader.
    pub const RULE_I: Self = Self::of(&[
        Mutation::LeaderNamesUsSuffices,
        Mutation::CommitNamesUsSuffices,
    ]);
    /// C: phase 1 keeps what was accepted.
    pub const RULE_C: Self = Self::of(&[Mutation::AcceptedForgotten]);
    /// N: the version is not older than any block's, and a stale leader's owner is not judged.
    pub const RULE_N: Self = Self::of(&[Mutation::BlocksNotCounted]);
    /// L: a newer version leads back to the start.
    pub const RULE_L: Self = Self::of(&[Mutation::NewerVersionRetried]);
    /// P: a failed phase 1 is retracted too.
    pub const RULE_P: Self = Self::of(&[Mutation::Phase1NotRetracted]);
    /// The proof that a re-join needs, where sanlock takes the name for it.
    pub const REJOIN_BY_NAME: Self =
        Self::of(&[Mutation::RejoinMarkIgnored, Mutation::RejoinProofIgnored]);
    /// All that the paxos lease has beyond sanlock's own protocol taken away: the rules I, C, N, L
    /// and P, inputs that differ, values kept by a retraction, and the waiting for own writes in
    /// flight. What differs for host ids is not in it.
    pub const SANLOCK: Self = Self::of(&[
        Mutation::LeaderNamesUsSuffices,
        Mutation::CommitNamesUsSuffices,
        Mutation::InputNotUnique,
        Mutation::AcceptedForgotten,
        Mutation::BlocksNotCounted,
        Mutation::NewerVersionRetried,
        Mutation::Phase1NotRetracted,
        Mutation::RetractZeroes,
        Mutation::WriteInFlightIgnored,
        Mutation::RetractInFlightIgnored,
    ]);

    /// These.
    pub const fn of(mutations: &[Mutation]) -> Self {
        let mut bits = [0; WORDS];
        let mut rest = mutations;
        while let [first, others @ ..] = rest {
            bits[first.word()] |= first.bit();
            rest = others;
        }
        Self(bits)
    }

    /// Those that are in it, in the order of the list.
    pub fn iter(self) -> impl Iterator<Item = Mutation> {
        let all = Mutation::ALL.iter().copied();
        all.filter(move |&mutation| self.has(mutation))
    }

    const fn has(self, mutation: Mutation) -> bool {
        self.0[mutation.word()] & mutation.bit() != 0
    }

    /// Gets these rules wrong on this thread, and no others, until something else is set.
    pub fn set(self) {
        probe::swap_wrong(&mut self.names());
    }

    /// The same until the guard is dropped.
    #[must_use = "they are set only while the guard lives"]
    pub fn switch(self) -> Switched {
        let mut before = self.names();
        probe::swap_wrong(&mut before);
        Switched { before }
    }

    fn names(self) -> Vec<&'static str> {
        self.iter().map(Mutation::name).collect()
    }
}

impl From<Mutation> for Mutations {
    fn from(mutation: Mutation) -> Self {
        Self::of(&[mutation])
    }
}

impl From<Option<Mutation>> for Mutations {
    fn from(mutation: Option<Mutation>) -> Self {
        mutation.map_or(Self::NONE, Self::from)
    }
}

impl BitOr for Mutations {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        let mut bits = self.0;
        for (word, others) in bits.iter_mut().zip(other.0) {
            *word |= others;
        }
        Self(bits)
    }
}

/// Rules are got wrong while this lives; then as it was before.
#[derive(Debug)]
pub struct Switched {
    before: Vec<&'static str>,
}

impl Drop for Switched {
    fn drop(&mut self) {
        probe::swap_wrong(&mut self.before);
    }
}
