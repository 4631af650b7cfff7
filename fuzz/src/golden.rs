//! Sectors that sanlock wrote, as starting points: those in `tests/vectors`.

use std::fs;
use std::path::Path;

/// All whose file names begin with `prefix` and contain `part`, in order.
///
/// # Panics
///
/// If there are none.
#[must_use]
pub fn sectors(prefix: &str, part: &str) -> Vec<Vec<u8>> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let mut names: Vec<String> = fs::read_dir(&vectors)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(prefix) && name.contains(part))
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "bin"))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no vector {prefix}*{part}*");
    names
        .iter()
        .map(|name| fs::read(vectors.join(name)).unwrap())
        .collect()
}
