//! The library's `World`, one for each host: each call of it waits for whoever drives the host.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use disklease::__sim::world::{ReadError, SectorBuf, Timestamp, World, WriteError};

use super::layout::{Layout, SECTOR, StepDisk};

/// What a host waits for.
#[derive(Debug)]
pub enum Asked {
    Read {
        disk: StepDisk,
        offset: u64,
        into: SectorBuf,
    },
    Write {
        disk: StepDisk,
        offset: u64,
        bytes: SectorBuf,
    },
    Sleep {
        until: Timestamp,
    },
}

#[derive(Debug)]
pub enum Answer {
    Read(Result<SectorBuf, ReadError>),
    Wrote(Result<(), WriteError>),
    Woken,
}

struct Inner {
    layout: Layout,
    asked: Option<Asked>,
    answer: Option<Answer>,
    /// Nanoseconds of this host's clock.
    now: u64,
    /// One bit for each sector to which a write of this host has not ended.
    in_flight: u32,
    /// The answers that were given about writes in flight since this was last taken: a leading 1,
    /// then one bit each.
    told_in_flight: u64,
}

/// The world of one host.
#[derive(Clone)]
pub struct Port {
    inner: Rc<RefCell<Inner>>,
}

impl Port {
    pub fn new(layout: Layout, now: u64) -> Self {
        Self {
            inner: Rc::new(RefCell::new(Inner {
                layout,
                asked: None,
                answer: None,
                now,
                in_flight: 0,
                told_in_flight: 1,
            })),
        }
    }

    pub fn take_asked(&self) -> Option<Asked> {
        self.inner.borrow_mut().asked.take()
    }

    pub fn answer(&self, answer: Answer) {
        self.inner.borrow_mut().answer = Some(answer);
    }

    pub fn set_in_flight(&self, slots: u32) {
        self.inner.borrow_mut().in_flight = slots;
    }

    /// What was found about writes in flight since the last call.
    pub fn take_told_in_flight(&self) -> u64 {
        std::mem::replace(&mut self.inner.borrow_mut().told_in_flight, 1)
    }

    pub fn advance_to(&self, nanos: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.now = inner.now.max(nanos);
    }

    pub fn nanos(&self) -> u64 {
        self.inner.borrow().now
    }

    async fn ask(&self, asked: Asked) -> Answer {
        let port = self.clone();
        Asking {
            port,
            asked: Some(asked),
        }
        .await
    }
}

/// Has a host's whole question to the world in it until it is polled first.
struct Asking {
    port: Port,
    asked: Option<Asked>,
}

impl Future for Asking {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        if let Some(asked) = self.asked.take() {
            let before = self.port.inner.borrow_mut().asked.replace(asked);
            assert!(before.is_none(), "one question at a time");
            return Poll::Pending;
        }
        match self.port.inner.borrow_mut().answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}

impl World for Port {
    type Disk = StepDisk;

    async fn read(
        &self,
        &disk: &StepDisk,
        offset: u64,
        into: SectorBuf,
        _: Duration,
    ) -> Result<SectorBuf, ReadError> {
        match self.ask(Asked::Read { disk, offset, into }).await {
            Answer::Read(read) => read,
            answer => panic!("a read was answered with {answer:?}"),
        }
    }

    async fn write(
        &self,
        &disk: &StepDisk,
        offset: u64,
        bytes: SectorBuf,
        _: Duration,
    ) -> Result<(), WriteError> {
        assert_eq!(bytes.len(), SECTOR, "one sector at a time");
        match self
            .ask(Asked::Write {
                disk,
                offset,
                bytes,
            })
            .await
        {
            Answer::Wrote(written) => written,
            answer => panic!("a write was answered with {answer:?}"),
        }
    }

    fn is_write_in_flight(&self, &disk: &StepDisk, offset: u64, len: usize) -> bool {
        let mut inner = self.inner.borrow_mut();
        let mut slots = inner.layout.slots_of(disk, offset, len);
        let is = slots.any(|slot| inner.in_flight >> slot & 1 == 1);
        assert!(inner.told_in_flight < 1 << 62, "too many questions");
        inner.told_in_flight = inner.told_in_flight << 1 | u64::from(is);
        is
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.nanos())
    }

    fn clock_secs(&self) -> u64 {
        self.nanos() / 1_000_000_000
    }

    async fn sleep_until(&self, until: Timestamp) {
        if until > self.now() {
            self.ask(Asked::Sleep { until }).await;
            self.advance_to(until.as_nanos());
        }
    }

    fn random(&self, _: u64) -> u64 {
        0
    }
}
