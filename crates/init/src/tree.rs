//! Killing a command's process tree.
//!
//! A command leads a session of its own, so its tree is whoever is in that session or descends from a member,
//! which also catches children that opened a session of their own while their parents live.

use std::collections::HashSet;
use std::fs;

/// Rounds until a tree that forks faster than it is found counts as dead enough; every process found was
/// stopped first, so only one that was never seen can still fork.
const ROUNDS: usize = 64;

struct Process {
    pid: i32,
    parent: i32,
    session: i32,
}

/// Kills the tree of the session that `main` leads or led with SIGKILL.
pub(crate) fn kill(main: i32) {
    let (mut stopped, mut killed) = (HashSet::new(), 0);
    for _ in 0..ROUNDS {
        let fresh: Vec<i32> = members(main, &list()).into_iter().filter(|pid| stopped.insert(*pid)).collect();
        fresh.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
        if !fresh.is_empty() {
            continue;
        }
        if killed == stopped.len() {
            return;
        }
        // The death of a parent continues stopped jobs, which may fork before it is their turn: hence another look.
        killed = stopped.len();
        stopped.iter().for_each(|pid| signal(*pid, libc::SIGKILL));
    }
    stopped.iter().for_each(|pid| signal(*pid, libc::SIGKILL));
}

fn members(main: i32, processes: &[Process]) -> HashSet<i32> {
    let mut found: HashSet<i32> = processes
        .iter()
        .filter(|process| process.session == main || process.pid == main)
        .map(|p| p.pid)
        .collect();
    loop {
        let before = found.len();
        for process in processes {
            if found.contains(&process.parent) {
                found.insert(process.pid);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn list() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// Reads parent and session of a `stat` line. The command name in parentheses may hold anything, so fields are
/// counted from the last parenthesis: state, parent, group, session.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid, parent, session })
}

fn signal(pid: i32, signal: libc::c_int) {
    if pid > 1 {
        // SAFETY: kill takes scalars. A pid can't be reused while this process, its reaper, has not waited for it.
        unsafe { libc::kill(pid, signal) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32) -> Process {
        Process { pid, parent, session }
    }

    #[test]
    fn finds_the_session_and_who_descends_from_it() {
        let all = [process(9, 5, 9), process(2, 1, 2), process(4, 2, 2), process(5, 4, 5), process(7, 1, 7)];
        assert_eq!(members(2, &all), HashSet::from([2, 4, 5, 9]));
    }

    #[test]
    fn an_orphan_of_the_session_is_found() {
        assert_eq!(members(2, &[process(8, 1, 2)]), HashSet::from([8]));
    }

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        let process = parse(3, "3 (a) S) R 2 3 2 0 -1 4194304").unwrap();
        assert_eq!((process.parent, process.session), (2, 2));
        assert!(parse(3, "").is_none());
    }
}
