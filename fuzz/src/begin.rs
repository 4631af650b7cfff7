//! What a target does before its first input, as the environment tells it.

use std::path::PathBuf;
use std::{env, fs, process};

use disklease_sim::mutations::{Mutation, Mutations};

/// A directory: starting inputs are written to it, and the process ends. So short runs begin behind
/// the first checks.
const SEEDS: &str = "DISKLEASE_FUZZ_SEEDS";

/// The name of a mutant (`docs/testing.md`): the library gets that rule wrong, and a target
/// that is to notice it must fail.
const WRONG: &str = "DISKLEASE_FUZZ_WRONG";

/// Does what is asked for. Everything is in each target's own program, so that nothing else has to
/// be built.
///
/// # Panics
///
/// If the starting inputs cannot be written, or there is no such mutant.
pub fn begin(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    if let Some(directory) = env::var_os(SEEDS).map(PathBuf::from) {
        fs::create_dir_all(&directory).unwrap();
        for (number, seed) in seeds().into_iter().enumerate() {
            fs::write(directory.join(format!("seed-{number:03}")), seed).unwrap();
        }
        process::exit(0);
    }
    if let Ok(name) = env::var(WRONG) {
        Mutations::from(name.parse::<Mutation>().unwrap()).set();
    }
}
