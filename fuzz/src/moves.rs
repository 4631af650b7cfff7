//! What comes with a guest from elsewhere: state strings, hand-over tokens and answers.

use disklease::format::checksum;
use disklease::libvirt::{HoldState, LeaseState, parse_state, state_string};
use disklease::{HandoverAnswer, HandoverToken, SuspendedLocks};

use crate::input::Input;
use crate::shown;

/// Any bytes as a state string, or as a token whose checksum is put right if the input says so.
///
/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 3 {
        0 => state(input.rest()),
        1 => token(input.rest()),
        _ => {
            let body = input.rest();
            token(&[body, &checksum(body).to_le_bytes()].concat());
        }
    }
}

fn state(text: &[u8]) {
    match parse_state(text) {
        Ok(leases) => {
            assert!(!leases.is_empty());
            leases.iter().for_each(is_possible);
            assert_eq!(parse_state(&state_string(&leases)), Ok(leases));
        }
        Err(error) => {
            shown::one_line(&error);
        }
    }
    if let Ok(state) = SuspendedLocks::from_bytes(text) {
        assert_eq!(
            SuspendedLocks::from_bytes(&state.to_bytes()).as_ref(),
            Ok(&state)
        );
        assert!(state.holder().is_none());
        assert!(state.locks().iter().all(|lock| lock.places.len() == 1));
    }
}

fn is_possible(lease: &LeaseState) {
    assert!((1..=4).contains(&lease.places.len()));
    for place in &lease.places {
        let len = place.path.as_os_str().len();
        assert!((1..=1023).contains(&len));
    }
    for name in [lease.lockspace.as_name(), lease.name.as_name()] {
        assert!(!name.is_empty());
    }
    assert!(
        !matches!(lease.hold, HoldState::Version(_))
            || !state_string(std::slice::from_ref(lease)).ends_with(b":SH")
    );
}

fn token(bytes: &[u8]) {
    // One content, one text: what is read is what is written.
    match HandoverToken::from_bytes(bytes) {
        Ok(token) => {
            assert_eq!(token.to_bytes(), bytes);
            assert!(bytes.len() <= HandoverToken::MAX_LEN);
            assert!(HandoverAnswer::from_bytes(bytes).is_err());
        }
        Err(error) => {
            shown::one_line(&error);
        }
    }
    if let Ok(answer) = HandoverAnswer::from_bytes(bytes) {
        assert_eq!(answer.to_bytes(), bytes);
    }
}

/// One or more of each kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "__LIBVIRT__DISKS__:bfa0240911bc17753e0b473688822159:/a/bfa0240911bc17753e0b473688822159:0:7",
        "LS:a b:/p q:0:1 LS:c:/p\\ q\\:r:1048576:SH LS:d:/p:0",
        "LS:R:/a:0:/b:1:/c:2:/d:3:0x1f",
    ];
    let mut seeds: Vec<Vec<u8>> = texts
        .iter()
        .map(|text| [&[0], text.as_bytes()].concat())
        .collect();
    for (kind, host, locks) in [(0, 1_u16, 0), (0, 7, 2), (1, 2000, 1), (2, 2, 1)] {
        let mut body = b"ldho\x01".to_vec();
        body.extend([kind, locks]);
        body.extend([9; 8]);
        body.extend(host.to_le_bytes());
        body.extend(3_u64.to_le_bytes());
        for lock in 0..locks {
            body.extend([lock; 8]);
            body.extend([0x85, 0x02]);
        }
        seeds.push([&[2], &body[..]].concat());
        let sum = checksum(&body).to_le_bytes();
        seeds.push([&[1], &body[..], &sum].concat());
    }
    seeds
}
