//! EXP-1 and EXP-3, as anybody sees them.

use disklease::__sim::delta_lease::Expiry;
use disklease::__sim::world::Timestamp;

use disklease_sim::wrong::switch_as_asked;

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

/// EXP-1: a renewal that ends after the deadline comes too late, though nobody has looked meanwhile.
#[test]
fn a_renewal_that_ends_after_the_deadline_saves_nothing() {
    switch_as_asked();
    let expiry = Expiry::until(at(100));
    assert!(!expiry.extend(at(100), at(1000)));
    assert!(!expiry.is_held(at(99)));
}

/// EXP-3: of two renewals whose ends are seen out of order the later deadline counts.
#[test]
fn a_deadline_never_moves_back() {
    switch_as_asked();
    let expiry = Expiry::until(at(100));
    assert!(expiry.extend(at(10), at(300)));
    assert!(expiry.extend(at(20), at(200)));
    assert!(expiry.is_held(at(250)));
}
