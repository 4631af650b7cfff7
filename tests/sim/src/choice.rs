//! Who goes next, and every number that is drawn.

use std::cell::RefCell;
use std::rc::Rc;

/// Whom a number is drawn for. Each has a stream of its own, so that a change to what happens to
/// one host leaves what happens to the others as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(pub usize);

impl Stream {
    /// The run as a whole: the scenario, and the order of what happens at one instant.
    pub const RUN: Self = Self(0);
}

/// Decides all that is left open in a run.
pub trait Chooser {
    /// One of `n` things that could happen now, counted from 0. `n` is 2 at least.
    fn choose(&mut self, n: usize) -> usize;

    /// A number below `below`; 0 if that is 0. For latencies, faults and the hosts' own chance.
    fn draw(&mut self, below: u64) -> u64;

    /// The same, out of a stream.
    fn draw_for(&mut self, _: Stream, below: u64) -> u64 {
        self.draw(below)
    }
}

/// One stream of a chooser.
pub struct On<'a>(pub &'a mut dyn Chooser, pub Stream);

impl Chooser for On<'_> {
    fn choose(&mut self, n: usize) -> usize {
        self.draw(n as u64) as usize
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.0.draw_for(self.1, below)
    }
}

/// All that was drawn in a run, by stream.
pub type Drawn = Vec<Vec<u64>>;

/// Remembers all that another chooser decides.
pub struct Recorded<C> {
    from: C,
    drawn: Rc<RefCell<Drawn>>,
}

impl<C: Chooser> Recorded<C> {
    pub fn new(from: C) -> (Self, Rc<RefCell<Drawn>>) {
        let drawn = Rc::<RefCell<Drawn>>::default();
        let into = drawn.clone();
        (Self { from, drawn: into }, drawn)
    }
}

impl<C: Chooser> Chooser for Recorded<C> {
    fn choose(&mut self, n: usize) -> usize {
        self.draw_for(Stream::RUN, n as u64) as usize
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.draw_for(Stream::RUN, below)
    }

    fn draw_for(&mut self, stream: Stream, below: u64) -> u64 {
        let number = self.from.draw_for(stream, below);
        let mut drawn = self.drawn.borrow_mut();
        if drawn.len() <= stream.0 {
            drawn.resize(stream.0 + 1, Vec::new());
        }
        drawn[stream.0].push(number);
        number
    }
}

/// Decides as it was given; 0, the plainest there is, when that is used up.
pub struct Told {
    streams: Vec<std::vec::IntoIter<u64>>,
}

impl Told {
    pub fn new(drawn: &Drawn) -> Self {
        let streams = drawn.iter().map(|stream| stream.clone().into_iter());
        Self {
            streams: streams.collect(),
        }
    }
}

impl Chooser for Told {
    fn choose(&mut self, n: usize) -> usize {
        self.draw_for(Stream::RUN, n as u64) as usize
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.draw_for(Stream::RUN, below)
    }

    fn draw_for(&mut self, stream: Stream, below: u64) -> u64 {
        let told = self.streams.get_mut(stream.0).and_then(Iterator::next);
        told.unwrap_or(0).min(below.saturating_sub(1))
    }
}

/// Always the first, always 0: one plain run, for tests that set the order themselves.
pub struct First;

impl Chooser for First {
    fn choose(&mut self, _: usize) -> usize {
        0
    }

    fn draw(&mut self, _: u64) -> u64 {
        0
    }
}

/// Everything from one seed (splitmix64).
pub struct Seeded(u64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        // Seeds that follow each other are to give runs that have nothing in common.
        let mut seeded = Self(seed);
        Self(seeded.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Chooser for Seeded {
    fn choose(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn draw(&mut self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.next() % below }
    }
}

/// One path through all choices, and the way to the next one: depth first, so that after the last
/// all have been taken. Numbers that are drawn are 0 on each path: only orders are explored.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// What was chosen at each point, and out of how many.
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Paths {
    /// Runs `run` once for each path, and gives their number. Panics when there are more than
    /// `most`: then they are too many to be explored.
    pub fn explore(most: usize, mut run: impl FnMut(Rc<RefCell<Self>>)) -> usize {
        let mut paths = Self::default();
        for count in 1..=most {
            let shared = Rc::new(RefCell::new(paths));
            run(shared.clone());
            paths = shared.take();
            if !paths.to_next() {
                return count;
            }
        }
        panic!("more than {most} paths");
    }

    fn to_next(&mut self) -> bool {
        self.taken.truncate(self.at);
        self.at = 0;
        while let Some((chosen, of)) = self.taken.pop() {
            if chosen + 1 < of {
                self.taken.push((chosen + 1, of));
                return true;
            }
        }
        false
    }
}

impl Chooser for Rc<RefCell<Paths>> {
    fn choose(&mut self, n: usize) -> usize {
        let mut paths = self.borrow_mut();
        let at = paths.at;
        paths.at += 1;
        if at == paths.taken.len() {
            paths.taken.push((0, n));
        }
        let (chosen, of) = paths.taken[at];
        assert_eq!(of, n, "the same path must find the same choices");
        chosen
    }

    fn draw(&mut self, _: u64) -> u64 {
        0
    }
}
