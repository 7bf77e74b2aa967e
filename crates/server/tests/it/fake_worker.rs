//! The fake's workers.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use sandwire_isolate::job::{Entry, Job, Kind, Record};

/// What is in every directory, and how long the names are.
pub(crate) const ENTRIES: usize = 20_000;
pub(crate) const NAME: usize = 4000;

/// An archive of this never begins.
pub(crate) const STOPPED: &str = "/stopped";

/// What a worker does.
pub(crate) fn work(job: Job, fds: Vec<OwnedFd>) {
    let mut fds = fds.into_iter().map(File::from);
    let mut report = fds.next().unwrap();
    let mut tell = |record: Record| {
        let line = serde_json::to_string(&record).unwrap();
        writeln!(report, "{line}").is_ok()
    };
    match job {
        Job::List { offset, limit, .. } => {
            let names = (0..ENTRIES).skip(offset).take(limit);
            let _server_left = names.map(entry).all(&mut tell) && tell(Record::End { truncated: false });
        }
        Job::Pack { path } => {
            let mut data = fds.next().unwrap();
            let _server_left = path == STOPPED || tell(Record::Ready);
            while data.write_all(&[0; 4096]).is_ok() {}
        }
        _ => drop(tell(Record::End { truncated: false })),
    }
}

fn entry(number: usize) -> Record {
    Record::Entry(Entry {
        path: format!("{number:0NAME$}"),
        kind: Kind::Link,
        size: 0,
        mode: 0o777,
        uid: 0,
        gid: 0,
        modified: -1,
        modified_nanos: 0,
        target: None,
    })
}
