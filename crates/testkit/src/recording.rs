//! A command that has happened: what it printed and how it ended. A server plays it to whoever attaches, from where
//! they ask, as often as they come back.

use std::io;

use serde_json::{Value, json};

use crate::{Exec, Peer};

/// Name of the subprotocol that a recording is played with, where the client offers it.
pub const EXTENSION: &str = "sandwire.exec.v1";

const NAMES: [&str; 2] = ["stdout", "stderr"];

/// How far a recording is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    /// The client's opening frame was read; nothing was sent.
    Opening,
    /// `started` was sent.
    Started,
    /// So much of the output was sent, in messages.
    Output(usize),
    /// All of the output was sent.
    Exit,
    /// `exit` was sent.
    End,
}

#[derive(Debug, Clone)]
struct Chunk {
    stream: usize,
    offset: u64,
    bytes: Vec<u8>,
}

/// The whole of a command.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    chunks: Vec<Chunk>,
    lengths: [u64; 2],
    /// First byte of each stream that a replay still has.
    kept: [u64; 2],
    /// What `exit` says of the lengths, if not the truth.
    claimed: Option<[u64; 2]>,
    exit_code: i32,
    extended: bool,
}

impl Recording {
    /// A command that prints nothing and succeeds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// It prints to stdout, in a message of its own.
    #[must_use]
    pub fn stdout(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.print(0, bytes.into())
    }

    /// It prints to stderr, in a message of its own.
    #[must_use]
    pub fn stderr(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.print(1, bytes.into())
    }

    fn print(mut self, stream: usize, bytes: Vec<u8>) -> Self {
        if let Some(length) = self.lengths.get_mut(stream) {
            let offset = *length;
            *length += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.chunks.push(Chunk { stream, offset, bytes });
        }
        self
    }

    /// How it ends.
    #[must_use]
    pub fn exit(self, exit_code: i32) -> Self {
        Self { exit_code, ..self }
    }

    /// Bytes before these positions of stdout and stderr are kept no longer.
    #[must_use]
    pub fn keeping(self, kept: [u64; 2]) -> Self {
        Self { kept, ..self }
    }

    /// `exit` says these lengths, whatever was printed.
    #[must_use]
    pub fn claiming(self, lengths: [u64; 2]) -> Self {
        Self { claimed: Some(lengths), ..self }
    }

    /// The server knows the extension.
    #[must_use]
    pub fn extended(self) -> Self {
        Self { extended: true, ..self }
    }

    /// All bytes of stdout and stderr.
    #[must_use]
    pub fn printed(&self) -> [Vec<u8>; 2] {
        [0, 1].map(|stream| {
            let of_stream = self.chunks.iter().filter(|chunk| chunk.stream == stream);
            of_stream.flat_map(|chunk| chunk.bytes.iter().copied()).collect()
        })
    }

    /// Accepts a client, plays all, and waits until it has left. A cut on the way is no error.
    pub async fn play(&self, peer: Peer) {
        if let Ok(mut exec) = self.play_until(peer, Until::End).await {
            exec.drained().await;
        }
    }

    /// Accepts a client and plays so far.
    ///
    /// # Errors
    /// If the client leaves, or the connection was cut.
    pub async fn play_until(&self, peer: Peer, until: Until) -> io::Result<Exec> {
        let extended = self.extended && peer.offers(EXTENSION);
        let mut exec = peer.accept_as(extended.then_some(EXTENSION)).await?;
        match self.play_on(&mut exec, extended, until).await {
            Ok(()) => Ok(exec),
            Err(error) => {
                exec.outlast().await;
                Err(error)
            }
        }
    }

    async fn play_on(&self, exec: &mut Exec, extended: bool, until: Until) -> io::Result<()> {
        let opening = exec.opening().await?;
        if until == Until::Opening {
            return Ok(());
        }
        let extra = if extended { json!({ "stdin_offset": 0 }) } else { json!({}) };
        exec.started(extra).await?;
        let from =
            NAMES.map(|name| opening.get(format!("{name}_offset")).and_then(Value::as_u64).unwrap_or(0));
        let limit = match until {
            Until::Started => 0,
            Until::Output(messages) => messages,
            _ => usize::MAX,
        };
        for chunk in self.chunks.iter().filter_map(|chunk| self.rest(chunk, from)).take(limit) {
            self.send(exec, extended, &chunk).await?;
        }
        if until < Until::End {
            return Ok(());
        }
        exec.send(self.end(extended)).await
    }

    /// What of a chunk lies at or after the wanted byte and is kept still.
    fn rest(&self, chunk: &Chunk, from: [u64; 2]) -> Option<Chunk> {
        let wanted = (*from.get(chunk.stream)?).max(*self.kept.get(chunk.stream)?);
        let skip = usize::try_from(wanted.saturating_sub(chunk.offset)).ok()?;
        let bytes = chunk.bytes.get(skip..).filter(|bytes| !bytes.is_empty())?.to_vec();
        Some(Chunk { offset: chunk.offset.max(wanted), bytes, ..*chunk })
    }

    async fn send(&self, exec: &mut Exec, extended: bool, chunk: &Chunk) -> io::Result<()> {
        let Chunk { stream, offset, bytes } = chunk;
        if extended {
            return exec.bytes(*stream, bytes, *offset).await;
        }
        let name = NAMES.get(*stream).copied().unwrap_or_default();
        let data = String::from_utf8_lossy(bytes);
        exec.send(json!({ "type": name, "data": data, "offset": offset })).await
    }

    fn end(&self, extended: bool) -> Value {
        let [stdout, stderr] = self.claimed.unwrap_or(self.lengths);
        let code = self.exit_code;
        if extended {
            json!({ "type": "exit", "exit_code": code, "stdout_bytes": stdout, "stderr_bytes": stderr })
        } else {
            json!({ "type": "exit", "exit_code": code })
        }
    }
}
