//! What workers make of trees that can't be read wholly.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::Path;

use sandwire_init::job::{Entry, Kind, Record};

use super::*;

/// All reports of a job; what it writes beside them is little.
fn reports(job: &Job) -> Vec<Record> {
    let (reader, writer) = std::io::pipe().unwrap();
    let (_archive, data) = std::io::pipe().unwrap();
    let mut report = Report::new(writer.into(), 60);
    let result = run(job, Some(data.into()), &mut report);
    report.finish(result);
    let lines = BufReader::new(reader).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

/// A file that can't be opened, though it is there.
fn leased(path: &Path) -> File {
    fs::write(path, "x").unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    // SAFETY: plain calls on a descriptor that is open; the signal tells that somebody wants the file.
    let taken = unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
        libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
    };
    assert_eq!(taken, 0, "{}", std::io::Error::last_os_error());
    file
}

#[test]
fn what_cant_be_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap().to_owned();
    fs::write(dir.path().join("readable"), "x").unwrap();
    let _lease = leased(&dir.path().join("leased"));
    let packed = reports(&Job::Pack { path: path.clone() });
    assert!(
        matches!(&packed[..], [Record::Ready, Record::Failed(failure)] if failure.step.contains("leased")),
        "{packed:?}"
    );
    let found = reports(&Job::Grep { path, pattern: "x".into(), glob: None, limit: 10 });
    assert!(matches!(&found[..], [Record::Line { .. }, Record::End { truncated: true }]), "{found:?}");
}

#[test]
fn links_to_descriptors_are_not_followed() {
    let found = reports(&Job::Glob { path: "/proc/self/fd".into(), pattern: "0".into(), limit: 10 });
    assert!(
        matches!(&found[..], [Record::Entry(Entry { kind: Kind::Link, .. }), Record::End { .. }]),
        "{found:?}"
    );
}
