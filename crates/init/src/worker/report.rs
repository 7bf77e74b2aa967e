//! What a worker tells the server, and when it has to stop.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sandwire_init::job::Record;
use sandwire_init::wire::Failure;

use crate::failure::from_io;

/// Steps of work between two looks at the clock and the server.
const STRIDE: u32 = 64;

/// Why work ends before it is done.
#[derive(Debug)]
pub(super) enum Stop {
    /// The limit or the deadline is reached.
    Truncated,
    /// The server no longer reads.
    Unread,
    /// It failed.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Stop {
    /// For work of which a part is of no use: being stopped is a failure.
    pub(super) fn unless_whole(self, step: impl Into<String>) -> Self {
        match self {
            Self::Truncated => Self::Failed(Failure { step: step.into(), errno: libc::ETIMEDOUT }),
            stop => stop,
        }
    }

    pub(super) fn io(step: impl Into<String>, error: &io::Error) -> Self {
        Self::Failed(from_io(step, error))
    }
}

pub(super) struct Report {
    pipe: BufWriter<File>,
    deadline: Instant,
    steps: u32,
    /// Something was left out, though the work went on.
    pub(super) truncated: bool,
}

impl Report {
    pub(super) fn new(pipe: OwnedFd, seconds: u32) -> Self {
        let deadline = Instant::now() + Duration::from_secs(u64::from(seconds));
        Self { pipe: BufWriter::new(pipe.into()), deadline, steps: 0, truncated: false }
    }

    pub(super) fn tell(&mut self, record: &Record) -> Result<(), Stop> {
        serde_json::to_writer(&mut self.pipe, record).map_err(|_| Stop::Unread)?;
        self.pipe.write_all(b"\n").map_err(|_| Stop::Unread)
    }

    /// Tells at once.
    pub(super) fn tell_now(&mut self, record: &Record) -> Result<(), Stop> {
        self.tell(record)?;
        self.pipe.flush().map_err(|_| Stop::Unread)
    }

    /// To be called at every step of work: stops it at the deadline and when nobody wants it any more.
    pub(super) fn step(&mut self) -> Result<(), Stop> {
        self.steps += 1;
        if !self.steps.is_multiple_of(STRIDE) {
            return Ok(());
        }
        if Instant::now() >= self.deadline {
            return Err(Stop::Truncated);
        }
        self.pipe.flush().map_err(|_| Stop::Unread)?;
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut ready = [PollFd::new(self.pipe.get_ref(), PollFlags::empty())];
        match poll(&mut ready, Some(&at_once)) {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => Err(Stop::Unread),
        }
    }

    /// The last record.
    pub(super) fn finish(mut self, result: Result<(), Stop>) {
        let record = match result {
            Ok(()) => Record::End { truncated: self.truncated },
            Err(Stop::Truncated) => Record::End { truncated: true },
            Err(Stop::Failed(failure)) => Record::Failed(failure),
            Err(Stop::Unread) => return,
        };
        let _unread = self.tell_now(&record);
    }
}
