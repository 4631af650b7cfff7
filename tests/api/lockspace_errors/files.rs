//! Files that are no lockspace, or not the right one. All are refused before anything is written.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use disklease::format::{
    FormatErrorKind, Geometry, HostName, LockspaceName, ResourceName, lease_image, lockspace_image,
};
use disklease::{FileKind, HostId, JoinError, JoinErrorKind, LeaseDirectory, OpenErrorKind};

use disklease_fixtures::host::{N, bytes_of, host_id, options, scratch};

const AREA: usize = 1 << 20;

fn image(geometry: Geometry, name: &str) -> Vec<u8> {
    lockspace_image(geometry, &LockspaceName::new(name).unwrap(), 1, None)
}

fn good() -> Vec<u8> {
    image(Geometry::S512_A1M, "__LIBVIRT__DISKS__")
}

/// The refusal of a file with this content, which must be left as it is and named.
fn refusal(dir: &Path, content: &[u8], host: HostId) -> JoinError {
    let path = dir.join("file");
    std::fs::write(&path, content).unwrap();
    let error = options(dir, "alpha").join(&path, host).unwrap_err();
    assert!(bytes_of(&path) == content, "written to, then: {error}");
    assert!(error.to_string().contains("/file\""), "{error}");
    error
}

#[test]
fn a_file_that_is_too_short_is_told_with_its_length() {
    let dir = scratch();
    for len in [
        0,
        1,
        199,
        511,
        512,
        513,
        4095,
        4096,
        4097,
        8192,
        AREA / 2,
        AREA - 512,
        AREA - 1,
    ] {
        let error = refusal(dir.path(), &good()[..len], host_id(2));
        let JoinErrorKind::TooShort {
            offset: 0,
            needed,
            available,
        } = *error.kind()
        else {
            panic!("{len}: {error}");
        };
        assert_eq!(available, u64::try_from(len).unwrap());
        assert!(needed > available && needed <= 1 << 20, "{needed}");
    }
    // Wherever it should begin.
    let path = dir.path().join("file");
    std::fs::write(&path, good()).unwrap();
    for offset in [512, 1 << 20, 1 << 62, u64::MAX - 4095] {
        let options = options(dir.path(), "alpha").offset(offset);
        let error = options.join(&path, host_id(2)).unwrap_err();
        assert!(
            matches!(error.kind(), JoinErrorKind::TooShort { offset: at, .. } if *at == offset),
            "{offset}: {error}"
        );
    }
}

#[test]
fn what_is_no_lockspace_is_told_from_one_that_was_never_made_and_one_that_is_damaged() {
    let dir = scratch();
    let refusal = |content: &[u8]| refusal(dir.path(), content, host_id(2));

    let error = refusal(&vec![0; AREA]);
    assert!(
        matches!(
            error.kind(),
            JoinErrorKind::NotInitialised { offset: 0, .. }
        ),
        "{error}"
    );

    let text: Vec<_> = b"not a lockspace\n"
        .iter()
        .copied()
        .cycle()
        .take(AREA)
        .collect();
    let error = refusal(&text);
    assert!(
        matches!(error.kind(), JoinErrorKind::NotALockspace { offset: 0, .. }),
        "{error}"
    );

    let space = LockspaceName::new("__LIBVIRT__DISKS__").unwrap();
    let resource = ResourceName::new("lease").unwrap();
    let lease = lease_image(Geometry::S512_A1M, &space, &resource, 0);
    let error = refusal(&lease);
    assert!(
        matches!(error.kind(), JoinErrorKind::NotALockspace { offset: 0, .. }),
        "{error}"
    );

    let error = refusal(&image(Geometry::S512_A1M, "other"));
    assert!(
        matches!(error.kind(), JoinErrorKind::Foreign { .. }),
        "{error}"
    );
    for part in ["\"other\"", "\"__LIBVIRT__DISKS__\""] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// In the first sector, which tells what the file is, and in the host's own. The checksum and all that it
/// covers: the bytes behind it are no host's proof of anything. Each bit with the feature `__machine`, else one of many.
#[test]
fn a_record_with_a_flipped_bit_is_never_joined() {
    let dir = scratch();
    let path = dir.path().join("file");
    std::fs::write(&path, good()).unwrap();
    let before = good();
    let every = if cfg!(feature = "__machine") { 1 } else { 61 };
    for sector in [0, 1] {
        for bit in (0..172 * 8_u64).step_by(every) {
            let at = sector * 512 + bit / 8;
            let mut flipped = before.clone();
            let index = usize::try_from(at).unwrap();
            flipped[index] ^= 1 << (bit % 8);
            poke(&path, at, flipped[index]);
            let joined = options(dir.path(), "alpha").join(&path, host_id(2));
            let error = joined.unwrap_err();
            assert!(bytes_of(&path) == flipped, "written to, then: {error}");
            poke(&path, at, before[index]);
            match error.kind() {
                JoinErrorKind::NotALockspace { offset: 0, error }
                    if matches!(error.kind(), FormatErrorKind::Magic { .. }) =>
                {
                    assert!(sector == 0 && bit < 32, "{bit}");
                }
                JoinErrorKind::Damaged { offset, .. } => assert_eq!(*offset, sector * 512, "{bit}"),
                // A length that the file does not have.
                JoinErrorKind::TooShort { .. } => assert!(sector == 0, "{bit}"),
                _ => panic!("bit {bit} of sector {sector}: {error}"),
            }
        }
    }
}

/// Changes one byte. The kernel shows it to direct reads at once.
fn poke(path: &Path, at: u64, byte: u8) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[byte], at).unwrap();
}

#[test]
fn an_offset_in_the_middle_of_a_sector_is_refused() {
    let dir = scratch();
    let path = dir.path().join("file");
    // Of zeros alone, where a read in the middle of a sector may succeed.
    File::create(&path).unwrap().set_len(4 << 20).unwrap();
    let options = options(dir.path(), "alpha").offset(17);
    let error = options.join(&path, host_id(1)).unwrap_err();
    assert!(
        matches!(error.kind(), JoinErrorKind::Misaligned { offset: 17, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("byte 17"), "{error}");
}

#[test]
fn what_is_no_file_is_told_as_what_it_is() {
    let dir = scratch();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("good"), good()).unwrap();
    std::os::unix::fs::symlink(path("good"), path("link")).unwrap();
    let fifo = path("pipe");
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
    let open = |path: &Path| {
        let joined = options(dir.path(), "alpha").join(path, host_id(1));
        let refused = joined.unwrap_err();
        assert_eq!(refused.path(), path);
        match refused.kind() {
            JoinErrorKind::Open(error) => {
                assert_eq!(error.path(), path);
                error.clone()
            }
            other => panic!("{path:?}: {other:?}"),
        }
    };

    for missing in [path("missing"), path("good/in"), path("nowhere/missing")] {
        let error = options(dir.path(), "alpha").join(&missing, host_id(1));
        let error = error.unwrap_err();
        let hint = error.to_string().contains("is the share mounted?");
        assert!(hint && matches!(error.kind(), JoinErrorKind::Missing));
        assert_eq!(error.path(), missing);
        assert!(!missing.exists());
    }
    assert_eq!(open(&path("link")).kind(), OpenErrorKind::IsSymlink);
    // procfs knows no direct I/O.
    let proc = Path::new("/proc/self/oom_score_adj");
    assert_eq!(open(proc).kind(), OpenErrorKind::NoDirectIo);
    for (path, expected) in [
        (dir.path(), FileKind::Directory),
        (&fifo, FileKind::Pipe),
        (Path::new("/dev/null"), FileKind::CharacterDevice),
    ] {
        let error = open(path);
        assert!(error.kind() == OpenErrorKind::NotADisk(expected), "{error}");
    }
}

#[test]
fn a_host_id_without_a_sector_is_refused() {
    let dir = scratch();
    for (geometry, most) in [(Geometry::S4K_A1M, 250), (Geometry::S4K_A2M, 500)] {
        let bytes = image(geometry, "__LIBVIRT__DISKS__");
        let error = refusal_of_host(dir.path(), &bytes, most + 1);
        assert!(error.to_string().contains(&most.to_string()), "{error}");
    }
    assert!(HostId::new(0).is_err() && HostId::new(2001).is_err());
}

fn refusal_of_host(dir: &Path, bytes: &[u8], host: u64) -> JoinError {
    let path = dir.join("sized");
    std::fs::write(&path, bytes).unwrap();
    let error = options(dir, "alpha")
        .join(&path, host_id(host))
        .unwrap_err();
    assert!(
        matches!(error.kind(), JoinErrorKind::HostIdTooLarge { .. }),
        "{error}"
    );
    assert!(bytes_of(&path) == bytes);
    error
}

#[test]
fn times_and_names_out_of_their_limits_are_refused() {
    let dir = scratch();
    let path = LeaseDirectory::new(dir.path()).create_lockspace(N).unwrap();
    let join = |io: Duration, fire: Duration| {
        let options = options(dir.path(), "alpha")
            .io_timeout(io)
            .fire_timeout(fire);
        options.join(&path, host_id(1)).unwrap_err()
    };
    let (good, minute) = (N, Duration::from_secs(60));
    for bad in [
        Duration::ZERO,
        Duration::from_millis(1500),
        Duration::from_secs(256),
        Duration::MAX,
    ] {
        let error = join(bad, minute);
        assert!(matches!(error.kind(), JoinErrorKind::Timing(_)), "{bad:?}");
    }
    for bad in [
        Duration::ZERO,
        Duration::from_millis(1500),
        Duration::from_secs(601),
        Duration::MAX,
    ] {
        let error = join(good, bad);
        assert!(matches!(error.kind(), JoinErrorKind::Timing(_)), "{bad:?}");
    }
    assert!(HostName::new("").is_err() && HostName::new(&"x".repeat(49)).is_err());
}
