//! Which commands of a sandbox were ever begun, so that none runs twice because its server died in between.
//!
//! A client that lost its server does not know whether its command began, and asks again with the same id. The next
//! server has no such command; the journal, a file of a line per id, tells it that there was one: it is lost, and not
//! run again. An id is written before `init` is asked to start the command. Servers that leave nothing have none.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sandwire_protocol::limits::EXPIRED_COMMANDS_MAX;

use super::lock::lock;

pub(super) struct Journal {
    path: Option<PathBuf>,
    open: Mutex<Option<Lines>>,
}

struct Lines {
    file: File,
    count: usize,
    /// Of earlier servers, the latest last.
    lost: VecDeque<String>,
    known: HashSet<String>,
    /// Of this one, the latest last.
    begun: VecDeque<String>,
    /// The last line is not whole.
    torn: bool,
}

impl Journal {
    /// Kept in that file, which need not exist; `None` is kept nowhere.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path, open: Mutex::default() }
    }

    /// Whether a command of that id was begun by an earlier server.
    pub(super) fn is_lost(&self, id: &str) -> io::Result<bool> {
        self.with(false, |open| Ok(open.known.contains(id)))
    }

    /// Notes that a command is about to begin.
    pub(super) fn note(&self, id: &str) -> io::Result<()> {
        self.with((), |open| open.note(id))?;
        self.shorten()
    }

    /// Removes it with its sandbox.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mut open = lock(&self.open);
        *open = None;
        match self.path.as_ref().map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn with<T>(&self, nothing: T, work: impl FnOnce(&mut Lines) -> io::Result<T>) -> io::Result<T> {
        let Some(path) = &self.path else { return Ok(nothing) };
        let mut open = lock(&self.open);
        let open = match &mut *open {
            Some(open) => open,
            closed => closed.insert(Lines::open(path)?),
        };
        work(open)
    }

    /// Starts a new file once the old one has many lines that nobody needs.
    fn shorten(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut open = lock(&self.open);
        match open.as_mut() {
            Some(long) if long.count > 2 * EXPIRED_COMMANDS_MAX => long.shorten(path),
            _ => Ok(()),
        }
    }
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let (mut count, mut torn, mut lost) = (0, false, VecDeque::new());
        let mut reader = BufReader::new(&file);
        let mut text = Vec::new();
        while reader.read_until(b'\n', &mut text)? > 0 {
            (count, torn) = (count + 1, !text.ends_with(b"\n"));
            // Half a line is of a command that never began.
            if let Ok(id) = serde_json::from_slice(&text) {
                push(&mut lost, id);
            }
            text.clear();
        }
        let known = lost.iter().cloned().collect();
        Ok(Self { file, count, lost, known, begun: VecDeque::new(), torn })
    }

    fn note(&mut self, id: &str) -> io::Result<()> {
        let mut text = Vec::new();
        if self.torn {
            text.push(b'\n');
        }
        line(&mut text, id)?;
        // Until it is known better: a failure may leave a part of it.
        self.torn = true;
        self.file.write_all(&text)?;
        self.torn = false;
        self.count += 1;
        push(&mut self.begun, id.to_owned());
        Ok(())
    }

    /// Starts a new file with the latest ids of earlier servers and of this one.
    fn shorten(&mut self, path: &Path) -> io::Result<()> {
        let room = EXPIRED_COMMANDS_MAX.saturating_sub(self.begun.len());
        let forgotten = self.lost.len().saturating_sub(room);
        for id in self.lost.drain(..forgotten) {
            self.known.remove(&id);
        }
        let shorter = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&shorter)?;
        let mut text = Vec::new();
        self.lost.iter().chain(&self.begun).try_for_each(|id| line(&mut text, id))?;
        file.write_all(&text)?;
        fs::rename(&shorter, path)?;
        (self.file, self.count, self.torn) = (file, self.lost.len() + self.begun.len(), false);
        Ok(())
    }
}

fn push(ids: &mut VecDeque<String>, id: String) {
    if ids.len() == EXPIRED_COMMANDS_MAX {
        ids.pop_front();
    }
    ids.push_back(id);
}

/// An id may have any character, the end of a line included.
fn line(text: &mut Vec<u8>, id: &str) -> io::Result<()> {
    serde_json::to_writer(&mut *text, id)?;
    text.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_server_began_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let journal = || Journal::new(Some(dir.path().join("log")));
        let first = journal();
        first.note("a\nb").unwrap();
        assert!(!first.is_lost("a\nb").unwrap(), "this one still knows it");
        fs::write(
            dir.path().join("log"),
            [&fs::read(dir.path().join("log")).unwrap()[..], b"\"hal"].concat(),
        )
        .unwrap();
        let second = journal();
        assert!(second.is_lost("a\nb").unwrap() && !second.is_lost("hal").unwrap());
        second.note("c").unwrap();
        let third = journal();
        assert!(third.is_lost("a\nb").unwrap() && third.is_lost("c").unwrap());
        third.remove().unwrap();
        third.remove().unwrap();
        assert!(!journal().is_lost("c").unwrap());
    }

    #[test]
    fn a_torn_line_spoils_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let torn = [&b"\"whole\"\n\"\xc3"[..], b"\"\n\"later\"\n\"\xe2\x82"].concat();
        fs::write(&path, torn).unwrap();
        let journal = Journal::new(Some(path.clone()));
        assert!(journal.is_lost("whole").unwrap() && journal.is_lost("later").unwrap());
        journal.note("next").unwrap();
        assert!(Journal::new(Some(path)).is_lost("next").unwrap());
    }

    #[test]
    fn what_was_lost_last_is_not_forgotten_for_what_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text: String = (0..2 * EXPIRED_COMMANDS_MAX).map(|n| format!("\"old-{n}\"\n")).collect();
        fs::write(&path, text).unwrap();
        let journal = Journal::new(Some(path.clone()));
        journal.note("new").unwrap();
        let last = format!("old-{}", 2 * EXPIRED_COMMANDS_MAX - 1);
        for journal in [journal, Journal::new(Some(path))] {
            assert!(journal.is_lost(&last).unwrap() && !journal.is_lost("old-0").unwrap());
        }
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let journal = Journal::new(Some(path.clone()));
        let last = 2 * EXPIRED_COMMANDS_MAX + 10;
        for n in 0..=last {
            journal.note(&n.to_string()).unwrap();
        }
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < EXPIRED_COMMANDS_MAX + 20, "{lines}");
        let next = Journal::new(Some(path));
        assert!(next.is_lost(&last.to_string()).unwrap() && next.is_lost(&(last - 100).to_string()).unwrap());
    }

    #[test]
    fn without_a_place_nothing_is_lost() {
        let journal = Journal::new(None);
        journal.note("a").unwrap();
        assert!(!journal.is_lost("a").unwrap());
    }
}
