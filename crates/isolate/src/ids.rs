//! Which ids outside stand for the ids inside.

use std::fs;
use std::io;

use sandwire_protocol::IdMapping;

/// Ids that a sandbox has where there is room: 0 to 65535, what Linux distributions assume.
const COUNT: u32 = 65_536;

/// Where the range starts when the server has all ids: above those of real users and system services.
const SHIFTED_START: u32 = 100_000;

/// A contiguous range of ids, seen from the server's user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdRange {
    start: u32,
    count: u32,
}

impl IdRange {
    /// The range to use, given how many consecutive ids from 0 the server itself has.
    pub(crate) fn choose(available: u64) -> Self {
        if available >= u64::from(SHIFTED_START + COUNT) {
            return Self { start: SHIFTED_START, count: COUNT };
        }
        match u32::try_from(available) {
            // The server's own id 0 stays out of the sandboxes' reach.
            Ok(available) if available > 1 => Self { start: 1, count: (available - 1).min(COUNT) },
            _ => Self { start: 0, count: 1 },
        }
    }

    /// How this counts as isolation.
    pub(crate) fn mapping(self) -> IdMapping {
        if self.count > 1 { IdMapping::Range } else { IdMapping::Single }
    }

    /// The id outside of an id inside; one that does not exist inside falls on the last.
    pub(crate) fn outside(self, inside: u32) -> u32 {
        self.start + inside.min(self.count - 1)
    }

    /// The line for `uid_map` and `gid_map`.
    pub(crate) fn map_line(self) -> String {
        format!("0 {} {}", self.start, self.count)
    }
}

/// Ranges for users and groups.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    pub(crate) users: IdRange,
    pub(crate) groups: IdRange,
}

impl Ids {
    /// Finds what this process's user namespace has.
    pub(crate) fn find() -> io::Result<Self> {
        let available = |file| io::Result::Ok(consecutive(&fs::read_to_string(file)?));
        Ok(Self {
            users: IdRange::choose(available("/proc/self/uid_map")?),
            groups: IdRange::choose(available("/proc/self/gid_map")?),
        })
    }

    /// Gives a process in a new user namespace its ids.
    pub(crate) fn apply(self, pid: i32) -> io::Result<()> {
        fs::write(format!("/proc/{pid}/uid_map"), self.users.map_line())?;
        fs::write(format!("/proc/{pid}/gid_map"), self.groups.map_line())
    }

    /// Root inside.
    pub(crate) fn root(self) -> (u32, u32) {
        (self.users.outside(0), self.groups.outside(0))
    }
}

/// How many ids from 0 on a map covers without a hole.
fn consecutive(map: &str) -> u64 {
    let mut extents: Vec<(u64, u64)> = map
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().map(str::parse);
            Some((fields.next()?.ok()?, fields.nth(1)?.ok()?))
        })
        .collect();
    extents.sort_unstable();
    extents.into_iter().fold(0, |next, (start, count)| if start == next { start + count } else { next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_range_is_shifted() {
        let range = IdRange::choose(consecutive("         0          0 4294967295\n"));
        assert_eq!(range, IdRange { start: 100_000, count: 65_536 });
        assert_eq!((range.outside(0), range.outside(1000)), (100_000, 101_000));
        assert_eq!(range.map_line(), "0 100000 65536");
    }

    #[test]
    fn a_subordinate_range_leaves_the_server_out() {
        let range = IdRange::choose(consecutive("0 1000 1\n1 100000 65536\n"));
        assert_eq!(range, IdRange { start: 1, count: 65_536 });
        assert_eq!(range.mapping(), IdMapping::Range);
    }

    #[test]
    fn one_id_is_shared() {
        let range = IdRange::choose(consecutive("0 1000 1\n"));
        assert_eq!((range.mapping(), range.outside(33)), (IdMapping::Single, 0));
    }

    #[test]
    fn holes_end_the_range() {
        assert_eq!(consecutive("1 5 5\n"), 0);
        assert_eq!(consecutive("0 5 5\n10 5 5\n"), 5);
        assert_eq!(consecutive("garbage\n"), 0);
    }
}
