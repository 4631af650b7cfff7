//! `disklease dump` on good, damaged, cut, zeroed and foreign files.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use disklease::format::{
    Geometry, HostId, LockspaceName, ResourceName, lease_image, lockspace_image,
};
use disklease_fixtures::command::{Ended, golden, put, run, scratch, write};
use disklease_fixtures::sanlock::ScratchLease;
use serde_json::Value;

const MIB: usize = 1 << 20;

fn dump(path: &Path) -> Ended {
    run(&[OsStr::new("dump"), path.as_os_str()])
}

fn dump_json(path: &Path) -> Value {
    let args = [OsStr::new("dump"), path.as_os_str(), OsStr::new("--json")];
    run(&args).json()
}

/// The lockspace of the golden sectors, in which hosts 1 and 2 live and host 3 sends an event.
fn lockspace() -> Vec<u8> {
    let mut area = vec![0; MIB];
    let free = golden("delta_free_512.bin");
    for host in 0..2000 {
        put(&mut area, host, &free);
    }
    put(&mut area, 0, &golden("delta_held_h1_512.bin"));
    put(&mut area, 1, &golden("delta_held_h2_512.bin"));
    put(&mut area, 2, &golden("delta_event_bitmap_512.bin"));
    area
}

/// A lease that host 2 holds and that host 1 held before.
fn lease() -> Vec<u8> {
    let mut area = vec![0; MIB];
    put(&mut area, 0, &golden("paxos_ex2_held_leader_512.bin"));
    put(&mut area, 1, &golden("paxos_request_512.bin"));
    put(&mut area, 2, &golden("paxos_ex_released_dblock_h1_512.bin"));
    put(&mut area, 3, &golden("paxos_ex2_held_dblock_h2_512.bin"));
    area
}

#[test]
fn a_lockspace_and_leases_one_after_another() {
    let dir = scratch();
    let bytes = [lockspace(), vec![0; MIB], lease(), vec![0x5a; MIB]].concat();
    let path = write(dir.path(), "areas", &bytes);
    let document = dump_json(&path);
    assert_eq!(document["document"], "disklease dump 1");
    assert_eq!(document["path"], path.to_str().unwrap());
    assert_eq!(document["length"], 4 * MIB);
    assert_eq!(document["block_device"], false);
    assert_eq!(document["direct_io"], true);
    let areas = document["areas"].as_array().unwrap();
    let kinds: Vec<_> = areas.iter().map(|area| area["kind"].as_str()).collect();
    assert_eq!(kinds, ["lockspace", "zeros", "lease", "foreign"].map(Some));
    let offsets: Vec<_> = areas.iter().map(|area| area["offset"].as_u64()).collect();
    assert_eq!(offsets, [0, 1 << 20, 2 << 20, 3 << 20].map(Some));
    assert_eq!(areas[3]["first_word"], 0x5a5a_5a5a);

    let lockspace = &areas[0];
    assert_eq!(lockspace["damaged"], false);
    assert_eq!(lockspace["cut_at"], Value::Null);
    assert_eq!(lockspace["geometry"]["sector_size"], 512);
    assert_eq!(lockspace["geometry"]["area_size"], MIB);
    assert_eq!(lockspace["geometry"]["max_hosts"], 2000);
    let hosts = lockspace["hosts"].as_array().unwrap();
    assert_eq!(hosts.len(), 3);
    for (host, id) in hosts.iter().zip(1..) {
        assert_eq!(host["host_id"], id);
        assert_eq!(host["offset"], 512 * (id - 1));
        assert_eq!(host["error"], Value::Null);
        assert_eq!(host["free"], false);
        assert_eq!(host["note"], Value::Null);
    }
    assert_eq!(hosts[0]["host_name"], "h1");
    assert_eq!(hosts[1]["host_name"], "h2");
    assert_eq!(hosts[2]["calls"], serde_json::json!([1, 8, 9, 2000]));

    let lease = &areas[2];
    assert_eq!(lease["damaged"], false);
    assert_eq!(lease["geometry_guessed"], false);
    assert_eq!(lease["leader"]["free"], false);
    assert_eq!(lease["leader"]["owner_id"], 2);
    assert_eq!(lease["leader"]["version"], 2);
    assert_eq!(lease["leader"]["timestamp"], 1283);
    assert_eq!(lease["leader"]["num_hosts"], 2000);
    assert_eq!(lease["request"]["version"], 9);
    assert_eq!(lease["request"]["force_mode"], 2);
    let blocks = lease["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 2);
    assert_eq!(blocks[0]["released"], true);
    assert_eq!(blocks[1]["host_id"], 2);
    assert_eq!(blocks[1]["offset"], 2 * MIB + 3 * 512);
    assert_eq!(blocks[1]["ballot"]["mbal"], 2002);
    assert_eq!(blocks[1]["ballot"]["bal"], 2002);
    assert_eq!(blocks[1]["ballot"]["input"]["owner_id"], 2);
    assert_eq!(blocks[1]["released"], false);
    assert_eq!(blocks[1]["shared_generation"], Value::Null);
}

#[test]
fn people_read_the_same() {
    let dir = scratch();
    let path = write(dir.path(), "areas", &[lockspace(), lease()].concat());
    let ended = dump(&path);
    let text = ended.text();
    for part in [
        "byte 0: lockspace \"",
        "byte 1048576: lease \"",
        "512-byte sectors, 1 MiB area, 2000 hosts",
        "held, by host 2, generation 1, timestamp 1283, version 2",
        "calls hosts 1, 8, 9, 2000",
        "by the asker of version 9, mode 2",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains("DAMAGED"), "{text}");
    assert!(text.lines().all(|line| line == line.trim_end()));
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn every_geometry_as_sanlock_initialises_it() {
    for (sector, mib) in [(512, 1), (4096, 1), (4096, 2), (4096, 4), (4096, 8)] {
        let dir = ScratchLease::new();
        let geometry = disklease_fixtures::sanlock::Geometry::new(sector, mib);
        let lockspace = dir.lockspace_of(geometry, "LS", 1);
        let resource = dir.resource(&lockspace, "RES");
        for (path, kind) in [(&lockspace.path, "lockspace"), (&resource.path, "lease")] {
            let document = dump_json(path);
            let areas = document["areas"].as_array().unwrap();
            assert_eq!(areas.len(), 1, "{document}");
            assert_eq!(areas[0]["kind"], kind);
            assert_eq!(areas[0]["damaged"], false, "{document}");
            assert_eq!(areas[0]["geometry"]["sector_size"], sector);
            assert_eq!(areas[0]["geometry"]["area_size"], mib << 20);
        }
        let document = dump_json(&resource.path);
        let leader = &document["areas"][0]["leader"];
        assert_eq!(leader["resource"], "RES");
        assert_eq!(leader["lockspace"], "LS");
        assert_eq!(leader["owner_id"], Value::Null);
        assert_eq!(leader["free"], true);
    }
}

#[test]
fn an_offset_and_a_lease_of_4096_byte_sectors() {
    let dir = scratch();
    let mut area = vec![0; 8 * MIB];
    put(&mut area, 0, &golden("paxos_ex_held_leader_4k8M.bin"));
    put(&mut area, 8, &golden("paxos_request_empty_4k8M.bin"));
    let block = golden("paxos_ex_held_dblock_h1500_4k8M.bin");
    put(&mut area, 8 * 1501, &block);
    let path = write(dir.path(), "areas", &[lockspace(), area].concat());
    let args = ["dump", "--json", "--offset", "1048576"].map(OsStr::new);
    let document = run(&[&args[..], &[path.as_os_str()]].concat()).json();
    let areas = document["areas"].as_array().unwrap();
    assert_eq!(areas.len(), 1);
    assert_eq!(areas[0]["offset"], MIB);
    assert_eq!(areas[0]["leader"]["owner_id"], 1500);
    assert_eq!(areas[0]["blocks"][0]["host_id"], 1500);
    assert_eq!(areas[0]["blocks"][0]["offset"], MIB + 1501 * 4096);
    let args = ["dump", "--offset", "99999999"].map(OsStr::new);
    run(&[&args[..], &[path.as_os_str()]].concat()).expect_failure(69, "before byte 99999999");
}

/// Bytes without a pattern, the same in each run.
fn noise(seed: usize, len: usize) -> Vec<u8> {
    let mut state = u64::try_from(seed).unwrap().wrapping_mul(2) | 1;
    let step = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    };
    (0..len).map(step).collect()
}

const AT_ONCE: usize = 64;

/// Some of the sectors of an area: the first and last ones, those around the last host, and one in
/// 61 of the others. A whole lockspace takes long in a build without optimisation.
fn some_sectors() -> Vec<usize> {
    let wanted = |sector: &usize| {
        *sector < 8 || (1998..2006).contains(sector) || *sector > 2040 || sector.is_multiple_of(61)
    };
    (0..MIB / 512).filter(wanted).collect()
}

/// Dumps areas that come from `area` by overwriting one of `sectors`, many in one file.
fn with_each_sector_lost(
    area: &[u8],
    sectors: &[usize],
    lost: impl Fn(usize) -> Vec<u8>,
    judge: impl Fn(usize, &Value),
) {
    let dir = scratch();
    for some in sectors.chunks(AT_ONCE) {
        let mut bytes = area.repeat(some.len());
        for (n, &sector) in some.iter().enumerate() {
            put(&mut bytes, n * MIB / 512 + sector, &lost(sector));
        }
        let path = write(dir.path(), "areas", &bytes);
        let document = dump_json(&path);
        let areas = document["areas"].as_array().unwrap();
        assert_eq!(areas.len(), some.len());
        for (n, (area, &sector)) in areas.iter().zip(some).enumerate() {
            assert_eq!(area["offset"], n * MIB);
            judge(sector, area);
        }
        if some[0] == 0 {
            let ended = dump(&path);
            assert!(ended.text().contains("DAMAGED at byte "), "{ended:?}");
        }
    }
}

fn judge_lease(sector: usize, area: &Value, blocks_lost: bool) {
    assert_eq!(area["kind"], "lease", "sector {sector}");
    let wrong = |error: &Value| error.is_string();
    let leader = wrong(&area["leader"]["error"]);
    assert_eq!(leader, sector == 0, "sector {sector}");
    let request = wrong(&area["request"]["error"]);
    assert_eq!(request, sector == 1, "sector {sector}");
    let blocks = area["blocks"].as_array().unwrap();
    let damaged: Vec<_> = blocks
        .iter()
        .filter(|block| wrong(&block["error"]))
        .collect();
    if blocks_lost && (2..2002).contains(&sector) {
        assert_eq!(damaged.len(), 1, "sector {sector}");
        assert_eq!(damaged[0]["host_id"], sector - 1);
        let offset = area["offset"].as_u64().unwrap();
        assert_eq!(
            damaged[0]["offset"],
            offset + 512 * u64::try_from(sector).unwrap()
        );
    } else {
        assert_eq!(damaged.len(), 0, "sector {sector}");
    }
}

#[test]
fn a_lease_with_any_sector_zeroed() {
    with_each_sector_lost(
        &lease(),
        &(0..MIB / 512).collect::<Vec<_>>(),
        |_| vec![0; 512],
        |sector, area| {
            judge_lease(sector, area, false);
            let blocks = area["blocks"].as_array().unwrap().len();
            assert_eq!(blocks, if matches!(sector, 2 | 3) { 1 } else { 2 });
        },
    );
}

#[test]
fn a_lease_with_any_sector_overwritten() {
    with_each_sector_lost(
        &lease(),
        &(0..MIB / 512).collect::<Vec<_>>(),
        |sector| noise(sector, 512),
        |sector, area| judge_lease(sector, area, true),
    );
}

#[test]
fn a_lockspace_with_a_sector_zeroed() {
    with_each_sector_lost(
        &lockspace(),
        &some_sectors(),
        |_| vec![0; 512],
        |sector, area| {
            assert_eq!(area["kind"], "lockspace");
            assert_eq!(area["damaged"], sector < 2000, "sector {sector}");
            let hosts = area["hosts"].as_array().unwrap();
            let damaged: Vec<_> = hosts
                .iter()
                .filter(|host| host["error"].is_string())
                .collect();
            assert_eq!(damaged.len(), usize::from(sector < 2000));
            if let [host] = damaged[..] {
                assert_eq!(host["host_id"], sector + 1);
                let error = host["error"].as_str().unwrap();
                assert!(error.contains("magic number is 0x00000000"), "{error}");
            }
        },
    );
}

#[test]
fn noise_and_areas_full_of_it() {
    let dir = scratch();
    for seed in 0..8 {
        let mut bytes = noise(seed, 2 * MIB + 100);
        // With the beginnings of areas, so that the rest is inspected.
        match seed % 4 {
            1 => put(&mut bytes, 0, &golden("delta_held_h1_512.bin")),
            2 => put(&mut bytes, 0, &golden("paxos_ex_held_leader_512.bin")),
            3 => put(&mut bytes, 0, &golden("paxos_free_leader_4k8M.bin")),
            _ => {}
        }
        let path = write(dir.path(), "noise", &bytes);
        let area = &dump_json(&path)["areas"][0];
        let kinds = ["foreign", "lockspace", "lease", "lease"];
        assert_eq!(area["kind"], kinds[seed % 4]);
        assert_eq!(area["damaged"].as_bool(), (seed % 4 != 0).then_some(true));
        assert!(!dump(&path).text().contains('\0'));
    }
}

#[test]
fn a_cut_file_is_shown_as_far_as_it_goes() {
    let dir = scratch();
    for (area, kind) in [(lockspace(), "lockspace"), (lease(), "lease")] {
        for len in [
            1,
            199,
            200,
            511,
            512,
            513,
            1024,
            1536,
            1600,
            4096,
            5000,
            MIB - 512,
            MIB - 1,
        ] {
            let path = write(dir.path(), "cut", &area[..len]);
            let document = dump_json(&path);
            assert_eq!(document["length"], len);
            let found = &document["areas"][0];
            let ended = dump(&path);
            if len < 200 {
                assert_eq!(found["kind"], "foreign", "{len}");
                continue;
            }
            assert_eq!(found["kind"], kind, "{len}");
            assert_eq!(found["cut_at"], len);
            assert_eq!(found["damaged"], true);
            let says = format!("the file ends at byte {len}, before the 1048576 bytes");
            assert!(ended.text().contains(&says), "{ended:?}");
            if kind == "lockspace" {
                assert_eq!(found["hosts"][0]["host_name"], "h1", "{len}");
                let second = &found["hosts"][1]["host_name"];
                assert_eq!(second == "h2", len >= 1024, "{len}: {second}");
            } else {
                assert_eq!(found["leader"]["owner_id"], 2, "{len}");
                assert_eq!(found["request"]["version"] == 9, len >= 536, "{len}");
            }
        }
    }
}

#[test]
fn zeros_nothing_and_a_cleared_lease() {
    let dir = scratch();
    let path = write(dir.path(), "empty", &[]);
    assert!(dump(&path).text().contains("it is empty"));
    assert_eq!(dump_json(&path)["areas"], serde_json::json!([]));
    let path = write(dir.path(), "zeros", &vec![0; 3 * MIB + 17]);
    let areas = &dump_json(&path)["areas"];
    assert_eq!(areas.as_array().unwrap().len(), 1);
    assert_eq!(areas[0]["kind"], "zeros");
    assert_eq!(areas[0]["length"], 3 * MIB + 17);
    let mut area = vec![0; MIB];
    put(
        &mut area,
        0,
        &golden("rindex_deleted_resource_leader_512.bin"),
    );
    let path = write(dir.path(), "cleared", &area);
    let found = &dump_json(&path)["areas"][0];
    assert_eq!(found["kind"], "lease");
    assert_eq!(
        found["leader"]["error"],
        "leader record: the lease was cleared"
    );
}

#[test]
fn a_look_writes_nothing_and_follows_links() {
    let dir = scratch();
    let bytes = [lockspace(), lease(), noise(1, MIB)].concat();
    let path = write(dir.path(), "areas", &bytes);
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    let before = fs::metadata(&path).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(dump_json(&link)["areas"], dump_json(&path)["areas"]);
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    assert_eq!(after.len(), before.len());
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn hostile_names_do_not_reach_the_terminal() {
    let dir = scratch();
    let space = LockspaceName::new("\u{1b}[2Jspace\n").unwrap();
    let name = ResourceName::new("res\u{202e}ource").unwrap();
    let area = lease_image(Geometry::S512_A1M, &space, &name, 0);
    let path = write(dir.path(), "hostile\u{1b}[1m", &area);
    let ended = dump(&path);
    let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!ended.text().contains(bad), "{ended:?}");
    let leader = &dump_json(&path)["areas"][0]["leader"];
    assert_eq!(leader["lockspace"], "\u{1b}[2Jspace\n");
}

#[test]
fn what_is_no_file_or_device_is_refused() {
    let dir = scratch();
    dump(dir.path()).expect_failure(69, "a directory");
    dump(Path::new("/dev/null")).expect_failure(69, "a character device");
    dump(&dir.path().join("missing")).expect_failure(69, "does not exist");
    let socket = dir.path().join("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    dump(&socket).expect_failure(69, "a socket");
}

#[test]
fn wrong_usage_and_help() {
    run(&["dump"]).expect_failure(64, "<PATH>");
    run(&["dump", "x", "--offset", "many"]).expect_failure(64, "many");
    run(&["frobnicate"]).expect_failure(64, "frobnicate");
    assert_eq!(run::<&str>(&[]).code, Some(64));
    for args in [
        &["--help"][..],
        &["dump", "--help"],
        &["status", "--help"],
        &["run", "--help"],
    ] {
        let ended = run(args);
        assert!(ended.text().contains("Usage: disklease"), "{ended:?}");
    }
    let ended = run(&["--help"]);
    for part in ["dump", "status", "run", "Exit codes:", "DISKLEASE_LOG"] {
        assert!(ended.text().contains(part), "{part}");
    }
    let version = format!("disklease {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["--version"]).text(), version);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = scratch();
    let path = write(dir.path(), "areas", &lockspace());
    let args = [OsStr::new("dump"), path.as_os_str()];
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = disklease_fixtures::command::command(&args)
        .stdout(writer)
        .output()
        .unwrap();
    let ended = Ended::of(output);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn our_own_images_are_whole() {
    let dir = scratch();
    for geometry in Geometry::ALL {
        let name = LockspaceName::new("LS").unwrap();
        let mut area = lockspace_image(geometry, &name, 10, None);
        let path = write(dir.path(), "image", &area);
        let found = &dump_json(&path)["areas"][0];
        assert_eq!(found["name"], "LS");
        assert_eq!(found["damaged"], false);
        assert_eq!(found["hosts"], serde_json::json!([]));
        // A sector of another lockspace among them.
        let other = LockspaceName::new("other").unwrap();
        let foreign = lockspace_image(geometry, &other, 10, None);
        let host = HostId::new(7).unwrap();
        let at = usize::try_from(geometry.delta_offset(host)).unwrap();
        area[at..][..512].copy_from_slice(&foreign[at..][..512]);
        let path = write(dir.path(), "image", &area);
        let found = &dump_json(&path)["areas"][0];
        assert_eq!(found["hosts"][0]["host_id"], 7);
        let error = found["hosts"][0]["error"].as_str().unwrap();
        assert!(
            error.contains("lockspace is \"other\", not \"LS\""),
            "{error}"
        );
    }
}
