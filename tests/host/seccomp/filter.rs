//! A filter that kills the process at any call that is not on its list, closed on all threads.

use seccompiler::{TargetArch, apply_filter_all_threads, compile_from_json};
use serde_json::{Value, json};

/// What the test itself calls in the child, beside what is tried: it waits for events, speaks, and ends.
fn own_calls() -> Vec<Value> {
    // Only to its standard output: to anything else is the library's.
    let say = json!([{"index": 0, "type": "dword", "op": "eq", "val": 1}]);
    vec![
        json!({"syscall": "epoll_pwait"}),
        json!({"syscall": "exit_group"}),
        // The end of a program of Rust's.
        json!({"syscall": "sigaltstack"}),
        // Rust's own check of a descriptor that is closed, in a build with assertions.
        json!({"syscall": "fcntl"}),
        json!({"syscall": "write", "args": say}),
    ]
}

/// What glibc opens now and then may as well be refused.
const REFUSED: &str = "openat";

/// From now on no thread of this process calls anything that is not in `calls`, or the test's own.
pub(crate) fn close(calls: &[&str]) {
    let is_theirs = |own: &Value| calls.iter().any(|call| own["syscall"] == *call);
    let own = own_calls().into_iter().filter(|own| !is_theirs(own));
    let theirs = calls.iter().map(|call| json!({"syscall": call}));
    let rules: Vec<_> = theirs.chain(own).collect();
    // Of two filters the harder answer counts.
    let filters = json!({
        "refuse": {
            "mismatch_action": "allow",
            "match_action": {"errno": rustix::io::Errno::PERM.raw_os_error()},
            "filter": [{"syscall": REFUSED}],
        },
        "kill": {
            "mismatch_action": "kill_process",
            "match_action": "allow",
            "filter": rules,
        },
    });
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filters = compile_from_json(filters.to_string().as_bytes(), arch).unwrap();
    for name in ["refuse", "kill"] {
        apply_filter_all_threads(&filters[name]).unwrap();
    }
}
