//! One host id for a host of each kind, by mistake: exactly one of the two wins it.

use std::thread;
use std::time::Duration;

use disklease::{ClaimError, HostId, JoinError, JoinErrorKind, Lockspace};

use super::setup::{Directory, LIMIT, Maker, OUR_NAME, SANLOCK_NAME, Sanlock};
use disklease_fixtures::host_process::{IO_TIMEOUT_SECS, options, timed};
use disklease_fixtures::sanlock::{SanlockDaemon, read_lockspace_leader, wait_until};

const HOST_ID: u64 = 7;
/// `sanlock` while a host id is being won.
const JOINING: i32 = -115;
/// Another has the host id.
const HOST_ID_BUSY: i32 = -262;

fn join(directory: &Directory) -> Result<Lockspace, JoinError> {
    options(directory.scratch.path(), OUR_NAME).join(
        directory.leases.lockspace_path(),
        HostId::new(HOST_ID).unwrap(),
    )
}

fn assert_in_use(error: &JoinError) {
    let JoinErrorKind::Claim(ClaimError::InUse { owner, .. }) = error.kind() else {
        panic!("not in use: {error}");
    };
    assert_eq!(u64::from(error.host_id()), HOST_ID);
    assert_eq!(owner.text(), SANLOCK_NAME.as_bytes());
}

#[test]
fn sanlock_has_it_already() {
    let directory = Directory::new(Maker::Us);
    let daemon = SanlockDaemon::start(SANLOCK_NAME);
    let joined = daemon.add_lockspace(&directory.lockspace, HOST_ID, IO_TIMEOUT_SECS, LIMIT);
    assert_eq!(joined, Ok(()), "{}", daemon.log());

    let (refused, took) = timed(|| join(&directory));
    let error = refused.expect_err("sanlock has the host id");
    println!("time: refused join by us {took:?}: {error}");
    assert_in_use(&error);
    // As soon as it is seen to be renewed, which is within 3 s.
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(daemon.inq_lockspace(&directory.lockspace, HOST_ID), Ok(()));
    let leader = read_lockspace_leader(&directory.lockspace, HOST_ID).expect("the host id");
    assert_eq!(leader.text("resource_name"), SANLOCK_NAME);
    assert_eq!(leader.number("owner_generation"), 1, "{leader:?}");

    // And another id is available beside it.
    let other = Sanlock::join(&directory.lockspace);
    drop(other);
}

/// Sanlock then waits for our death, which takes it more than a minute; that it gives up in the end is tested
/// where dead hosts are waited for.
#[test]
fn we_have_it_already() {
    let directory = Directory::new(Maker::Sanlock);
    let ours = join(&directory).expect("a free host id");
    let daemon = SanlockDaemon::start(SANLOCK_NAME);
    let _asked = daemon.start_add_lockspace(&directory.lockspace, HOST_ID, IO_TIMEOUT_SECS);
    wait_until("sanlock is about to join", LIMIT, || {
        (daemon.inq_lockspace(&directory.lockspace, HOST_ID) == Err(JOINING)).then_some(())
    });
    thread::sleep(Duration::from_secs(5));
    we_have_it(&directory, &ours);
    let sanlock = daemon.inq_lockspace(&directory.lockspace, HOST_ID);
    assert_eq!(sanlock, Err(JOINING));
}

fn we_have_it(directory: &Directory, ours: &Lockspace) {
    assert!(ours.is_held(), "{:?}", ours.loss());
    let leader = read_lockspace_leader(&directory.lockspace, HOST_ID).expect("the host id");
    assert_eq!(leader.text("resource_name"), OUR_NAME);
    let generation = leader.number("owner_generation");
    assert_eq!(generation, ours.generation().get());
}

/// The one that writes last within the short delay wins. Sanlock needs some milliseconds to come to its first
/// read, so we begin that much later, by several amounts.
#[test]
fn both_want_it_at_the_same_time() {
    let delays = [0, 3, 6, 9, 12, 20].map(Duration::from_millis);
    thread::scope(|scope| {
        let races = delays.map(|delay| (delay, scope.spawn(move || race(delay))));
        for (delay, race) in races {
            assert!(race.join().is_ok(), "we {delay:?} later: see above");
        }
    });
}

fn race(delay: Duration) {
    let directory = Directory::new(Maker::Us);
    let daemon = SanlockDaemon::start(SANLOCK_NAME);
    let asked = daemon.start_add_lockspace(&directory.lockspace, HOST_ID, IO_TIMEOUT_SECS);
    thread::sleep(delay);
    let (ours, took) = timed(|| join(&directory));
    match ours {
        Ok(ours) => {
            // Sanlock waits for our death, or has seen us overwrite it.
            thread::sleep(Duration::from_secs(4));
            we_have_it(&directory, &ours);
            let sanlock = daemon.inq_lockspace(&directory.lockspace, HOST_ID);
            println!("race, we {delay:?} later: we won in {took:?}, sanlock is at {sanlock:?}");
            match sanlock {
                Err(JOINING) => {}
                Err(_) => assert_eq!(asked.finish(LIMIT), Err(HOST_ID_BUSY)),
                Ok(()) => panic!("both won: {}", daemon.log()),
            }
        }
        Err(error) => {
            assert_in_use(&error);
            println!("race, we {delay:?} later: sanlock won, we gave up in {took:?}");
            assert_eq!(asked.finish(LIMIT), Ok(()), "{}", daemon.log());
            assert_eq!(daemon.inq_lockspace(&directory.lockspace, HOST_ID), Ok(()));
            let leader = read_lockspace_leader(&directory.lockspace, HOST_ID);
            let leader = leader.expect("the host id");
            assert_eq!(leader.text("resource_name"), SANLOCK_NAME);
        }
    }
}
