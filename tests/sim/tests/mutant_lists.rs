//! The lists of mutants and of coverage marks agree with the places in the library, of which each has one; and a
//! switch changes what it is said to change, while it is held.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use disklease::__sim::delta_lease::{DeltaRecord, Expiry};
use disklease::__sim::world::Timestamp;
use disklease::format::{DeltaLeader, Generation, Geometry, HostId, HostNote, LockspaceName};

use disklease_sim::marks::{MARKS, count_marks, take_marks};
use disklease_sim::mutations::{Mutation, Mutations};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All source files of the library but `probe.rs`, by their path below `src`.
fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    let mut dirs = vec![src.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    let below_src = |path: &PathBuf| path.strip_prefix(&src).unwrap().display().to_string();
    let with_text = files.iter().map(|path| {
        let text = fs::read_to_string(path).unwrap();
        (below_src(path), text)
    });
    with_text.filter(|(name, _)| name != "probe.rs").collect()
}

/// Where each name stands right behind `before`, comments aside.
fn uses(before: &str) -> BTreeMap<String, Vec<String>> {
    let mut uses: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (file, text) in sources() {
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let code: Vec<_> = text.lines().filter(is_code).collect();
        for rest in code.join("\n").split(before).skip(1) {
            let name: String = rest
                .trim_start()
                .chars()
                .take_while(|&c| c.is_ascii_alphanumeric() || c == '_')
                .collect();
            uses.entry(name).or_default().push(file.clone());
        }
    }
    uses
}

/// Each of `names` stands in one place behind `before`, and no other name does.
#[track_caller]
fn each_is_used_once<'a>(
    before: &str,
    names: impl Iterator<Item = &'a str>,
) -> BTreeMap<&'a str, String> {
    let mut uses = uses(before);
    let once = names.map(|name| {
        let files = uses.remove(name).unwrap_or_default();
        assert_eq!(files.len(), 1, "{before}{name} is in {files:?}");
        (name, files.concat())
    });
    let once = once.collect();
    assert!(uses.is_empty(), "not in the list: {uses:?}");
    once
}

#[test]
fn each_rule_is_got_wrong_in_one_place() {
    let names = Mutation::ALL.iter().map(|mutation| mutation.name());
    let places = each_is_used_once("mutation!(", names);
    for mutation in Mutation::ALL {
        let (name, rule) = (mutation.name(), mutation.rule());
        let place = &places[name];
        assert!(place.ends_with("rules.rs"), "{name} is in {place}");
        println!("{name} ({place}): {rule}");
    }
}

/// Rules of real processes and files: no thread of a test could get them wrong for them, and no simulated
/// machine has the file locks of a kernel. Their tests stand beside the code, in `lockspace/process_lock.rs` and
/// `lockspace/joined.rs`, and in `lockspace_errors`.
const OF_PROCESSES: &[Mutation] = &[
    Mutation::LeftWithIoInFlight,
    Mutation::ProcessLockNotInherited,
    Mutation::NetworkIoForgotten,
    Mutation::ProcessLockIgnored,
    Mutation::RejoinedWithIoInFlight,
];

#[test]
fn each_mutant_is_looked_for() {
    let hunters = [
        "tests/sim/tests/delta_rules/wrong.rs",
        "tests/sim/tests/exhaustive.rs",
        "tests/sim/tests/fence_rules/wrong.rs",
        "tests/sim/tests/mutations.rs",
        "tests/sim/tests/paxos_rules/wrong.rs",
    ];
    let sources: String = hunters
        .iter()
        .map(|path| fs::read_to_string(root().join(path)).unwrap())
        .collect();
    let is_named = |name: &str| {
        let mark = format!("Mutation::{name}");
        sources
            .match_indices(&mark)
            .any(|(at, _)| !sources[at + mark.len()..].starts_with(char::is_alphanumeric))
    };
    for mutation in Mutation::ALL {
        let somewhere = is_named(mutation.name()) || OF_PROCESSES.contains(mutation);
        assert!(somewhere, "nobody looks for {mutation}");
    }
}

#[test]
fn each_mark_is_counted_in_one_place() {
    each_is_used_once("!(name: \"", MARKS.iter().copied());
}

/// A thread may reach an event before any other counts it, and several may at once.
#[test]
fn each_thread_counts_its_own_marks() {
    let lose = || {
        let expiry = Expiry::until(Timestamp::from_nanos(1));
        assert!(expiry.expire(Timestamp::from_nanos(1)));
    };
    let count = |times| {
        take_marks();
        (0..times).for_each(|_| lose());
        take_marks().of("expired_by_deadline")
    };
    std::thread::scope(|scope| scope.spawn(lose).join()).unwrap();
    count_marks();
    count_marks();
    let threads = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || count(n))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert_eq!(threads, [0, 1, 2, 3]);
}

#[test]
fn names_go_to_mutations_and_back() {
    for mutation in Mutation::ALL {
        assert_eq!(mutation.name().parse(), Ok(*mutation));
    }
    assert!("Nonsense".parse::<Mutation>().is_err());
}

#[test]
fn a_set_holds_what_was_put_in() {
    let set = Mutations::RULE_I | Mutation::MbalIgnored.into() | None.into();
    let expected = [
        Mutation::LeaderNamesUsSuffices,
        Mutation::CommitNamesUsSuffices,
        Mutation::MbalIgnored,
    ];
    assert_eq!(set.iter().collect::<Vec<_>>(), expected);
    assert_eq!(Mutations::NONE.iter().count(), 0);
    let all = Mutations::of(Mutation::ALL);
    assert_eq!(all.iter().collect::<Vec<_>>(), Mutation::ALL);
}

#[test]
fn a_switch_holds_on_its_thread_while_it_lives() {
    let name = LockspaceName::new("LS").unwrap();
    let mut note = HostNote::new(HostId::FIRST, Generation::new(1));
    note.io_timeout_secs = 20;
    let record = DeltaRecord {
        // No host writes 0: the longest io timeout that there is.
        leader: DeltaLeader::free(Geometry::S512_A1M, &name, 0),
        note: Some(note),
    };
    let io_timeout = || record.io_timeout().as_secs();
    assert_eq!(io_timeout(), 255);
    let outer = Mutations::from(Mutation::BadTimeoutDefaulted).switch();
    assert_eq!(io_timeout(), 20);
    {
        let both = [Mutation::BadTimeoutDefaulted, Mutation::TimeoutFieldTrusted];
        let _inner = Mutations::of(&both).switch();
        assert_eq!(io_timeout(), 10);
        let elsewhere = std::thread::scope(|scope| scope.spawn(io_timeout).join().unwrap());
        assert_eq!(elsewhere, 255);
    }
    assert_eq!(io_timeout(), 20);
    drop(outer);
    assert_eq!(io_timeout(), 255);
}
