//! Output on its way from a pipe or terminal to the ring buffer of its stream, as fast as there is room in it.

use std::cell::RefCell;
use std::io;

use sandwire_protocol::StreamKind;
use tokio::time::{Instant, timeout_at};

use crate::engine::channel::Channel;
use crate::engine::command::Command;
use crate::engine::stream::Room;

/// Bytes that one read takes: the default capacity of a pipe.
const READ_MAX: usize = 64 * 1024;

thread_local! {
    /// Read and append happen without an await between them, so the tasks of a thread can share one buffer.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]);
}

/// Moves one stream to the ring buffer; after the end, to nowhere.
pub(super) async fn pump(command: &Command, kind: StreamKind, channel: Channel) {
    let mut held = false;
    loop {
        tokio::task::coop::consume_budget().await;
        let room = command.room(kind, Instant::now());
        if held != matches!(room, Room::HeldUntil(_)) {
            held = !held;
            command.hold(kind, held);
        }
        let room = match room {
            Room::Bytes(room) => room,
            Room::HeldUntil(until) => {
                let _either = timeout_at(until, command.space(kind).notified()).await;
                continue;
            }
        };
        let Ok(readable) = channel.readable().await else { break };
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let space = scratch.get_mut(..room.min(READ_MAX)).unwrap_or_default();
            let size = readable.read(space)?;
            if size > 0 {
                command.append(kind, space.get(..size).unwrap_or_default());
            }
            Ok::<_, io::Error>(size)
        });
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    command.close_stream(kind);
}
