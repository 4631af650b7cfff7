//! State strings and hand-over tokens: whatever they hold goes to bytes and back, and no bytes do any
//! harm.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use disklease::format::{LeaseVersion, LockspaceName, ResourceName};
use disklease::libvirt::{HoldState, LeasePlace, LeaseState, parse_state, state_string};
use disklease::{HandoverAnswer, HandoverToken, SuspendedLocks};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes that mean something in a state string, more often than others.
fn telling_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        3 => prop::sample::select(b"\\: /0123456789SHx".to_vec()),
        1 => any::<u8>(),
    ]
}

fn field(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(
        telling_byte().prop_filter("no NUL", |&byte| byte != 0),
        1..=max,
    )
}

/// A name is text; its characters may be any.
fn name() -> impl Strategy<Value = String> {
    vec(
        prop::sample::select(vec!['\\', ':', ' ', 'a', '/', '0', 'ü']),
        1..=20,
    )
    .prop_map(|chars| chars.into_iter().collect())
}

fn place() -> impl Strategy<Value = LeasePlace> {
    (field(200), any::<u64>()).prop_map(|(path, offset)| LeasePlace {
        path: PathBuf::from(OsStr::from_bytes(&path)),
        offset,
    })
}

fn hold() -> impl Strategy<Value = HoldState> {
    prop_oneof![
        any::<u64>().prop_map(|version| HoldState::Version(LeaseVersion::new(version))),
        Just(HoldState::Shared),
        Just(HoldState::Unsaid),
    ]
}

fn lease() -> impl Strategy<Value = LeaseState> {
    (name(), name(), vec(place(), 1..=4), hold()).prop_map(|(lockspace, name, places, hold)| {
        let lockspace = LockspaceName::new(&lockspace).unwrap();
        let name = ResourceName::new(&name).unwrap();
        let mut lease = LeaseState::new(lockspace, name, "/", 0, hold);
        lease.places = places;
        lease
    })
}

proptest! {
    #[test]
    fn leases_go_to_a_state_string_and_back(leases in vec(lease(), 1..6)) {
        let text = state_string(&leases);
        prop_assert_eq!(parse_state(&text), Ok(leases));
    }

    /// What is read of any bytes is what its own text says.
    #[test]
    fn any_bytes_are_a_state_string_or_an_error(bytes in vec(telling_byte(), 0..300)) {
        match parse_state(&bytes) {
            Ok(leases) => {
                prop_assert!(!leases.is_empty());
                prop_assert_eq!(parse_state(&state_string(&leases)), Ok(leases));
            }
            Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control)),
        }
        if let Ok(state) = SuspendedLocks::from_bytes(&bytes) {
            prop_assert_eq!(SuspendedLocks::from_bytes(&state.to_bytes()), Ok(state));
        }
    }

    #[test]
    fn any_bytes_are_a_token_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        for bytes in [bytes.clone(), [b"ldho\x01\x00".as_slice(), &bytes].concat()] {
            if let Ok(token) = HandoverToken::from_bytes(&bytes) {
                prop_assert_eq!(token.to_bytes(), bytes.clone());
            }
            if let Ok(answer) = HandoverAnswer::from_bytes(&bytes) {
                prop_assert_eq!(answer.to_bytes(), bytes);
            }
        }
    }
}
