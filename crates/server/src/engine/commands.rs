//! The commands of one sandbox by their id: running, ended and still remembered, and expired.
//!
//! An id is given to a command once. A repeat attaches, also when two arrive at the same instant; after the time
//! to live it is `SessionExpired`, so that a late repeat never runs a command twice.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use sandwire_protocol::limits::{COMMAND_ID_MAX, COMMANDS_MAX, ENDED_OUTPUT_MAX, EXPIRED_COMMANDS_MAX};
use sandwire_protocol::{CommandSpec, ErrorType};
use tokio::time::Instant;

use super::command::Command;
use super::fault::Fault;
use super::lock::lock;

#[derive(Default)]
pub(super) struct Commands {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    known: HashMap<String, Arc<Command>>,
    expired: HashSet<String>,
    expired_order: VecDeque<String>,
}

impl Commands {
    /// The command of that id, and whether it was made just now.
    pub(super) fn get_or_create(
        &self,
        id: String,
        spec: &CommandSpec,
    ) -> Result<(Arc<Command>, bool), Fault> {
        if id.is_empty() || id.len() > COMMAND_ID_MAX {
            return Err(Fault::invalid(format!("command_id must have 1 to {COMMAND_ID_MAX} bytes")));
        }
        let now = Instant::now();
        let mut table = lock(&self.table);
        if let Some(known) = table.find(&id, now)? {
            return Ok((known, false));
        }
        if table.known.len() >= COMMANDS_MAX && !table.make_room() {
            return Err(Fault::command(format!("{COMMANDS_MAX} commands run in this sandbox: the limit")));
        }
        let command = Arc::new(Command::new(id.clone(), spec));
        table.known.insert(id, Arc::clone(&command));
        Ok((command, true))
    }

    /// The command of that id.
    pub(super) fn get(&self, id: &str) -> Result<Arc<Command>, Fault> {
        let known = lock(&self.table).find(id, Instant::now())?;
        known.ok_or_else(|| Fault::new(ErrorType::CommandNotFound, format!("no command has the id {id:?}")))
    }

    /// How many run.
    pub(super) fn running(&self) -> usize {
        lock(&self.table).known.values().filter(|command| command.remains().is_none()).count()
    }

    /// All that are remembered, the oldest first.
    pub(super) fn list(&self) -> Vec<Arc<Command>> {
        let mut all: Vec<_> = lock(&self.table).known.values().map(Arc::clone).collect();
        all.sort_by_cached_key(|command| (command.summary().started_at, command.id().to_owned()));
        all
    }

    /// Forgets a command that never ran, so that its id can be used again.
    pub(super) fn forget(&self, id: &str) {
        lock(&self.table).known.remove(id);
    }

    /// Expires what is over its time, and the oldest ended ones while their output is too much.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let mut table = lock(&self.table);
        let over: Vec<String> =
            table.known.iter().filter(|(_, c)| c.expired(now)).map(|(id, _)| id.clone()).collect();
        over.into_iter().for_each(|id| table.expire(id));
        let ended = table.ended();
        let mut kept: usize = ended.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, id) in ended {
            if kept <= ENDED_OUTPUT_MAX {
                break;
            }
            kept -= bytes;
            table.expire(id);
        }
    }
}

impl Table {
    fn find(&mut self, id: &str, now: Instant) -> Result<Option<Arc<Command>>, Fault> {
        if self.known.get(id).is_some_and(|command| command.expired(now)) {
            self.expire(id.to_owned());
        }
        if self.expired.contains(id) {
            let message = format!("the session of command {id:?} has expired");
            return Err(Fault::new(ErrorType::SessionExpired, message));
        }
        Ok(self.known.get(id).map(Arc::clone))
    }

    fn expire(&mut self, id: String) {
        self.known.remove(&id);
        self.expired_order.push_back(id.clone());
        self.expired.insert(id);
        if self.expired.len() > EXPIRED_COMMANDS_MAX
            && let Some(oldest) = self.expired_order.pop_front()
        {
            self.expired.remove(&oldest);
        }
    }

    /// Expires the commands that ended first, many at once, as finding them costs a look at all. False if all run.
    fn make_room(&mut self) -> bool {
        let ended = self.ended();
        let any = !ended.is_empty();
        ended.into_iter().take(COMMANDS_MAX / 8).for_each(|(_, _, id)| self.expire(id));
        any
    }

    /// Ended commands, the oldest first: when, and the output bytes that each keeps.
    fn ended(&self) -> Vec<(Instant, usize, String)> {
        let ended = |(id, command): (&String, &Arc<Command>)| {
            command.remains().map(|(at, bytes)| (at, bytes, id.clone()))
        };
        let mut ended: Vec<_> = self.known.iter().filter_map(ended).collect();
        ended.sort_unstable();
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::End;
    use super::*;
    use std::time::Duration;

    fn spec(ttl: i64) -> CommandSpec {
        CommandSpec { ttl_seconds: Some(ttl), ..CommandSpec::new("true") }
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_is_used_once() {
        let commands = Commands::default();
        let (first, fresh) = commands.get_or_create("a".into(), &spec(5)).unwrap();
        assert!(fresh);
        let (again, fresh) = commands.get_or_create("a".into(), &spec(5)).unwrap();
        assert!(!fresh && Arc::ptr_eq(&first, &again));
        first.finish(End::Exited { code: 0, signal: None });
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(commands.get("a").is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(commands.get("a").err().unwrap().kind, ErrorType::SessionExpired);
        assert_eq!(
            commands.get_or_create("a".into(), &spec(5)).err().unwrap().kind,
            ErrorType::SessionExpired
        );
        assert_eq!(commands.get("b").err().unwrap().kind, ErrorType::CommandNotFound);
    }

    #[tokio::test(start_paused = true)]
    async fn forever_is_until_room_is_needed() {
        let commands = Commands::default();
        for n in 0..COMMANDS_MAX {
            let (command, _) = commands.get_or_create(n.to_string(), &spec(-1)).unwrap();
            if n == 7 {
                command.finish(End::Exited { code: 0, signal: None });
            }
        }
        tokio::time::advance(Duration::from_secs(1_000_000)).await;
        commands.sweep();
        assert!(commands.get("7").is_ok());
        assert!(commands.get_or_create("new".into(), &spec(-1)).is_ok());
        assert_eq!(commands.get("7").err().unwrap().kind, ErrorType::SessionExpired);
        let full = commands.get_or_create("one more".into(), &spec(-1)).err().unwrap();
        assert_eq!(full.kind, ErrorType::CommandError);
    }

    #[tokio::test]
    async fn old_output_makes_room_for_new() {
        use sandwire_protocol::StreamKind;
        use sandwire_protocol::limits::RING_BUFFER_BYTES;
        let commands = Commands::default();
        let chunk = vec![b'x'; RING_BUFFER_BYTES];
        for n in 0..=ENDED_OUTPUT_MAX / RING_BUFFER_BYTES {
            let (command, _) = commands.get_or_create(n.to_string(), &spec(600)).unwrap();
            command.append(StreamKind::Stdout, &chunk);
            command.finish(End::Exited { code: 0, signal: None });
        }
        commands.sweep();
        assert_eq!(commands.get("0").err().unwrap().kind, ErrorType::SessionExpired);
        assert!(commands.get("1").is_ok());
    }

    #[test]
    fn ids_are_bounded() {
        let commands = Commands::default();
        assert!(commands.get_or_create(String::new(), &spec(1)).is_err());
        assert!(commands.get_or_create("x".repeat(COMMAND_ID_MAX + 1), &spec(1)).is_err());
    }
}
