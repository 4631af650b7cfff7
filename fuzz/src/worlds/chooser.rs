//! The schedule of a run, from an input.

use std::cell::Cell;
use std::rc::Rc;

use disklease_sim::Chooser;

/// Takes each choice and each number from the input; 0 when that is used up.
#[derive(Debug)]
pub struct Bytes {
    input: Vec<u8>,
    at: usize,
    used_up: Rc<Cell<bool>>,
}

impl Bytes {
    /// The cell tells when the input is used up: then nothing is to go wrong any more.
    #[must_use]
    pub fn new(bytes: &[u8]) -> (Self, Rc<Cell<bool>>) {
        let used_up = Rc::new(Cell::new(bytes.is_empty()));
        let chooser = Self {
            input: bytes.to_vec(),
            at: 0,
            used_up: used_up.clone(),
        };
        (chooser, used_up)
    }

    fn next(&mut self) -> u64 {
        let byte = self.input.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        if self.at >= self.input.len() {
            self.used_up.set(true);
        }
        u64::from(byte)
    }
}

impl Chooser for Bytes {
    fn choose(&mut self, n: usize) -> usize {
        usize::try_from(self.next()).unwrap() % n
    }

    /// One byte for what needs no more, two for times in nanoseconds.
    fn draw(&mut self, below: u64) -> u64 {
        match below {
            0 | 1 => 0,
            2..=1000 => (self.next() * below) >> 8,
            _ => {
                let word = (self.next() << 8) | self.next();
                let scaled = (u128::from(word) * u128::from(below)) >> 16;
                u64::try_from(scaled).unwrap()
            }
        }
    }
}
