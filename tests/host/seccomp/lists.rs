//! The lists of system calls, as `docs/embedding.md` has them: what is tried is what is written there.

/// One of the lists there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// Locks are held, and may be in danger or lost.
    Holding,
    /// This process is killed when it does not stop though its locks are lost.
    Stopping,
    /// Locks are held for other processes.
    Owners,
    /// Threads come and go.
    Threads,
}

impl List {
    const fn heading(self) -> &'static str {
        match self {
            Self::Holding => "### Holding",
            Self::Stopping => "### Stopping",
            Self::Owners => "### Owners",
            Self::Threads => "### Threads",
        }
    }

    /// The names of its calls.
    pub(crate) fn calls(self) -> Vec<&'static str> {
        let text = include_str!("../../../docs/embedding.md");
        let (_, rest) = text
            .split_once(&format!("\n{}\n", self.heading()))
            .unwrap_or_else(|| panic!("there is no list {:?}", self.heading()));
        let section = rest.split("\n#").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let calls: Vec<_> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
        assert!(!calls.is_empty(), "{self:?} is empty");
        calls
    }
}

/// The lists of these words, which are their names.
pub(crate) fn of_words(words: &str) -> Vec<List> {
    let of_word = |word| match word {
        "Holding" => List::Holding,
        "Stopping" => List::Stopping,
        "Owners" => List::Owners,
        "Threads" => List::Threads,
        other => panic!("{other}"),
    };
    words.split('+').map(of_word).collect()
}

#[test]
fn no_call_is_on_a_list_twice() {
    let mut calls: Vec<_> = [List::Holding, List::Stopping, List::Owners, List::Threads]
        .into_iter()
        .flat_map(List::calls)
        .collect();
    calls.sort_unstable();
    let before = calls.len();
    calls.dedup();
    assert_eq!(calls.len(), before);
}
