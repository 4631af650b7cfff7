//! Rules got wrong in the tests of single rules, from outside: `DISKLEASE_WRONG` names them.

use std::process::Command;

use crate::mutations::{Mutation, Mutations};

/// Names of mutants, with commas between.
const WRONG: &str = "DISKLEASE_WRONG";

/// Gets the rules wrong, on this thread, that the environment names.
pub fn switch_as_asked() {
    if let Ok(names) = std::env::var(WRONG) {
        let wrong: Vec<Mutation> = names.split(',').map(|name| name.parse().unwrap()).collect();
        Mutations::of(&wrong).set();
    }
}

/// Runs each of these tests of this very program with its rule got wrong: it must fail.
pub fn each_is_caught(table: &[(Mutation, &str)]) {
    let program = std::env::current_exe().unwrap();
    let mut unnoticed = Vec::new();
    for &(mutation, test) in table {
        let run = Command::new(&program)
            .args([test, "--exact"])
            .env(WRONG, mutation.name())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(
            said.contains("running 1 test"),
            "there is no test {test}: {said}"
        );
        if run.status.success() {
            unnoticed.push((mutation.name(), test));
        }
    }
    assert!(
        unnoticed.is_empty(),
        "got wrong and not noticed: {unnoticed:#?}"
    );
}
