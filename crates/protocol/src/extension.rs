//! What our client and server add to the exec socket, where both know the WebSocket subprotocol [`SUBPROTOCOL`].
//!
//! Output and input travel as binary messages of raw bytes: a header of [`HEADER`] bytes (one for the kind, eight for
//! the position, big endian) and what follows it. Everything else stays JSON in text messages. Without the
//! subprotocol nothing of this is on the wire. `docs/WIRE.md` says the same for others.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::StreamKind;

/// The subprotocol's name.
pub const SUBPROTOCOL: &str = "sandwire.exec.v1";

/// Bytes before the payload of a binary message.
pub const HEADER: usize = 9;

const STDOUT: u8 = 0;
const STDERR: u8 = 1;
const STDIN: u8 = 0;

/// The header of output that begins at `offset`.
#[must_use]
pub fn encode_output_header(kind: StreamKind, offset: u64) -> [u8; HEADER] {
    let kind = match kind {
        StreamKind::Stdout => STDOUT,
        StreamKind::Stderr => STDERR,
    };
    header(kind, offset)
}

/// Stream, position and bytes of an output message; `None` if it is none.
#[must_use]
pub fn decode_output(message: &[u8]) -> Option<(StreamKind, u64, &[u8])> {
    let (kind, offset, bytes) = split(message)?;
    match kind {
        STDOUT => Some((StreamKind::Stdout, offset, bytes)),
        STDERR => Some((StreamKind::Stderr, offset, bytes)),
        _ => None,
    }
}

/// The header of input that begins at `offset` of what its writer writes.
#[must_use]
pub fn encode_input_header(offset: u64) -> [u8; HEADER] {
    header(STDIN, offset)
}

/// Position and bytes of an input message; `None` if it is none.
#[must_use]
pub fn decode_input(message: &[u8]) -> Option<(u64, &[u8])> {
    let (kind, offset, bytes) = split(message)?;
    (kind == STDIN).then_some((offset, bytes))
}

fn header(kind: u8, offset: u64) -> [u8; HEADER] {
    let [a, b, c, d, e, f, g, h] = offset.to_be_bytes();
    [kind, a, b, c, d, e, f, g, h]
}

fn split(message: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (kind, rest) = message.split_first()?;
    let (offset, bytes) = rest.split_first_chunk::<8>()?;
    Some((*kind, u64::from_be_bytes(*offset), bytes))
}

macro_rules! signals {
    ($($variant:ident $name:literal $number:literal $doc:literal;)*) => {
        /// A signal that can be sent to a command.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Signal {
            $(#[doc = $doc] #[serde(rename = $name)] $variant,)*
        }

        impl Signal {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name, as on the wire.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The number, on Linux.
            #[must_use]
            pub fn number(self) -> i32 {
                match self { $(Self::$variant => $number,)* }
            }
        }
    };
}

signals! {
    Hup "SIGHUP" 1 "The terminal is gone; by custom: read the configuration again.";
    Int "SIGINT" 2 "Ctrl-C.";
    Quit "SIGQUIT" 3 "Ctrl-\\.";
    Kill "SIGKILL" 9 "The end of the whole process tree.";
    Usr1 "SIGUSR1" 10 "For the program to define.";
    Usr2 "SIGUSR2" 12 "For the program to define.";
    Term "SIGTERM" 15 "A request to end.";
    Cont "SIGCONT" 18 "Go on after a stop.";
    Stop "SIGSTOP" 19 "Stop.";
    Tstp "SIGTSTP" 20 "Ctrl-Z.";
    Winch "SIGWINCH" 28 "The window has another size.";
}

/// A name that is no [`Signal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a signal that can be sent")]
pub struct UnknownSignal;

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(name: &str) -> Result<Self, UnknownSignal> {
        Self::ALL.iter().copied().find(|signal| signal.name() == name).ok_or(UnknownSignal)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Output bytes of a whole command, dropped or not; part of `exit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Of standard output.
    pub stdout_bytes: u64,
    /// Of standard error.
    pub stderr_bytes: u64,
}

/// What a command used; part of `exit`. A member is absent where the machine can't tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Usage {
    /// Processor time, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Most memory at a time, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Whether the kernel killed a process of it because the sandbox's memory was used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_killed: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn signals_go_by_their_names() {
        for signal in Signal::ALL {
            assert_eq!(signal.name().parse(), Ok(*signal));
            assert_eq!(serde_json::to_value(signal).unwrap(), signal.name());
        }
        assert_eq!("SIGSEGV".parse::<Signal>(), Err(UnknownSignal));
        assert_eq!(Signal::Term.number(), libc_number("TERM"));
    }

    fn libc_number(name: &str) -> i32 {
        let output = std::process::Command::new("kill").args(["-l", name]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn what_is_too_short_or_of_another_kind_is_refused() {
        assert_eq!(decode_output(&[0; HEADER - 1]), None);
        assert_eq!(decode_output(&[0; HEADER]), Some((StreamKind::Stdout, 0, &[][..])));
        assert_eq!(decode_output(&[2; HEADER + 1]), None);
        assert_eq!(decode_input(&[1; HEADER + 1]), None);
    }

    proptest! {
        #[test]
        fn headers_survive_the_round_trip(error: bool, offset: u64, bytes: Vec<u8>) {
            let kind = if error { StreamKind::Stderr } else { StreamKind::Stdout };
            let message = [&encode_output_header(kind, offset)[..], &bytes].concat();
            prop_assert_eq!(decode_output(&message), Some((kind, offset, &bytes[..])));
            let message = [&encode_input_header(offset)[..], &bytes].concat();
            prop_assert_eq!(decode_input(&message), Some((offset, &bytes[..])));
        }
    }
}
