//! Names and numbers that people or disks give.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use disklease::LeaseDirectory;
use disklease::ManagerKind;
use disklease::format::{
    HolderNote, HostId, HostName, LeaseVersion, LockspaceName, NameBytes, NameError, ResourceName,
};
use disklease::libvirt::{lease_name, lockspace_name};

use crate::input::Input;
use crate::shown;

/// Any text as each kind of name; any bytes as a name field, a path, a number.
///
/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 => text(&String::from_utf8_lossy(input.rest())),
        1 => fields(NameBytes::new(input.array()), NameBytes::new(input.array())),
        2 => path(input.rest()),
        _ => host_id(input.u64()),
    }
}

/// What is wrong with a text as a name of at most `max` bytes.
fn judged(text: &str, max: usize) -> Result<(), NameError> {
    let len = text.len();
    match text.as_bytes().iter().position(|&byte| byte == 0) {
        _ if len == 0 => Err(NameError::Empty),
        _ if len > max => Err(NameError::TooLong { len, max }),
        Some(at) => Err(NameError::Nul { at }),
        None => Ok(()),
    }
}

fn text(text: &str) {
    let space = LockspaceName::new(text);
    let resource = ResourceName::new(text);
    let host = HostName::new(text);
    assert_eq!(space.map(|_| ()), judged(text, 48));
    assert_eq!(resource.map(|_| ()), judged(text, 48));
    assert_eq!(host.map(|_| ()), judged(text, 47));
    if let Ok(space) = space {
        is_field_of(space.as_name(), text);
        assert_eq!(LockspaceName::from_disk(space.as_name()), space);
        assert_eq!(space.to_string(), space.as_name().to_string());
    }
    if let Ok(resource) = resource {
        is_field_of(resource.as_name(), text);
        assert_eq!(ResourceName::from_disk(resource.as_name()), resource);
    }
    match host {
        Ok(host) => is_field_of(host.as_name(), text),
        Err(error) => {
            shown::one_line(&error);
        }
    }
    guest_name(text);
    match text.parse::<ManagerKind>() {
        Ok(_) => assert!(["nop", "paxos", "sanlock"].contains(&text)),
        Err(error) => {
            shown::one_line(&error);
            assert_eq!(error.name, text);
        }
    }
}

fn is_field_of(field: NameBytes, text: &str) {
    assert_eq!(field.text(), text.as_bytes());
    assert!(field.as_bytes()[text.len()..].iter().all(|&byte| byte == 0));
    shown::name(field);
}

fn guest_name(text: &str) {
    let note = HolderNote::new(
        HostId::FIRST,
        disklease::format::Generation::new(1),
        LeaseVersion::new(1),
    );
    let kept = note.with_guest_name(text).guest_name;
    let wanted = text.split('\0').next().unwrap_or_default();
    assert!(wanted.starts_with(&kept) && kept.len() <= HolderNote::GUEST_NAME_MAX);
    // No more is cut than has to be.
    if let Some(next) = wanted[kept.len()..].chars().next() {
        assert!(kept.len() + next.len_utf8() > HolderNote::GUEST_NAME_MAX);
    }
}

fn fields(one: NameBytes, other: NameBytes) {
    shown::name(one);
    let text = one.as_bytes().split(|&byte| byte == 0).next().unwrap();
    assert_eq!(one.text(), text);
    let same = text == other.as_bytes().split(|&byte| byte == 0).next().unwrap();
    assert_eq!(one.same_text(&other), same);
    let [space, other_space] = [one, other].map(LockspaceName::from_disk);
    assert_eq!(space == other_space, same);
    assert!(space.as_name().same_text(&one));
    let [resource, other_resource] = [one, other].map(ResourceName::from_disk);
    assert_eq!(resource == other_resource, same);
    // Wider and narrower than a name can be.
    assert!(format!("{one:>600}").chars().count() >= 600);
    assert!(one.to_string().starts_with(&format!("{one:.3}")));
}

fn path(bytes: &[u8]) {
    let disk = Path::new(OsStr::from_bytes(bytes));
    let name = lease_name(disk);
    let text = name.to_string();
    assert!(
        text.len() == 32
            && text
                .bytes()
                .all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
    );
    assert_eq!(ResourceName::new(&text), Ok(name));
    let directory = LeaseDirectory::new("/leases");
    let place = directory.lease_path(disk);
    assert_eq!(place, Path::new("/leases").join(&text));
    assert_ne!(place, directory.lockspace_path());
    let mut longer = bytes.to_vec();
    longer.push(b'/');
    assert_ne!(lease_name(Path::new(OsStr::from_bytes(&longer))), name);
    assert_eq!(lockspace_name().to_string(), "__LIBVIRT__DISKS__");
}

fn host_id(number: u64) {
    match HostId::new(number) {
        Ok(host) => {
            assert!((1..=2000).contains(&number) && u64::from(host) == number);
            assert_eq!(host.to_string(), number.to_string());
        }
        Err(error) => {
            assert!(!(1..=2000).contains(&number));
            assert!(shown::one_line(&error).contains(&number.to_string()));
        }
    }
}

/// One or more of each kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "nop",
        "sanlock",
        "__LIBVIRT__DISKS__",
        "gäst\u{202e}\n",
        "a\0b",
    ];
    let long = ["x".repeat(47), "x".repeat(48), "ü".repeat(70)];
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for text in texts.into_iter().chain(long.iter().map(String::as_str)) {
        for kind in 0..3 {
            seeds.push([&[kind], text.as_bytes()].concat());
        }
    }
    seeds.extend([1_u64, 2000, 2001, 65_537].map(|id| [&[3][..], &id.to_le_bytes()].concat()));
    seeds
}
