//! Frames of the exec WebSocket (section 5.4) and bodies of HTTP exec (section 5.2).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::extension::{Signal, Totals, Usage};
use crate::limits::{COMMAND_TIMEOUT_DEFAULT, IDLE_TIMEOUT_DEFAULT, SESSION_TTL_DEFAULT};

const SHELL: &str = "/bin/bash";

/// Who runs a command, where and with what (section 2.11).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunConfig {
    /// `name`, `uid`, `name:group` or `uid:gid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Absolute working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_dir: Option<String>,
    /// Environment on top of the sandbox's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
}

/// The command of an `execute` frame. Only `command` is required: older senders leave out most of the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CommandSpec {
    /// What the shell runs with `-c`.
    pub command: String,
    /// Limit in seconds; 0 = none. The oldest senders call it `timeout`.
    #[serde(default, alias = "timeout", skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Shell; default `/bin/bash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Seconds that the running command survives without a client; negative = forever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_seconds: Option<i64>,
    /// Kill when the last client leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_on_disconnect: Option<bool>,
    /// Seconds that the ended command can be reconnected to; negative = forever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<i64>,
    /// Chosen by the client, for get-or-create; made by the server if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<String>,
    /// Environment on top of the sandbox's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Working directory; a relative one starts at `/home/user`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Alternative to `env` and `cwd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_config: Option<RunConfig>,
    /// Half-close stdin at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_stdin: Option<bool>,
    /// Run under a pseudo-terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pty: Option<bool>,
    /// Who writes to stdin, by the extension; see [`ClientFrame::Reconnect`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
}

impl CommandSpec {
    /// A command with the protocol's defaults.
    #[must_use]
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            timeout_seconds: None,
            shell: None,
            idle_timeout_seconds: None,
            kill_on_disconnect: None,
            ttl_seconds: None,
            command_id: None,
            env: None,
            cwd: None,
            run_config: None,
            close_stdin: None,
            pty: None,
            writer: None,
        }
    }

    /// Limit in seconds, 0 = none.
    #[must_use]
    pub fn timeout(&self) -> u64 {
        self.timeout_seconds.unwrap_or(COMMAND_TIMEOUT_DEFAULT)
    }

    /// The shell.
    #[must_use]
    pub fn shell(&self) -> &str {
        self.shell.as_deref().unwrap_or(SHELL)
    }

    /// Seconds without a client, `None` = forever.
    #[must_use]
    pub fn idle_timeout(&self) -> Option<u64> {
        u64::try_from(self.idle_timeout_seconds.unwrap_or(IDLE_TIMEOUT_DEFAULT)).ok()
    }

    /// Seconds after the end, `None` = forever.
    #[must_use]
    pub fn ttl(&self) -> Option<u64> {
        u64::try_from(self.ttl_seconds.unwrap_or(SESSION_TTL_DEFAULT)).ok()
    }
}

/// A frame from client to server (section 5.4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame {
    /// Run a command, or attach to the one of the same `command_id`.
    Execute(Box<CommandSpec>),
    /// Attach to a command.
    Reconnect {
        /// Which.
        command_id: String,
        /// First byte of stdout wanted.
        #[serde(default)]
        stdout_offset: u64,
        /// First byte of stderr wanted.
        #[serde(default)]
        stderr_offset: u64,
        /// By the extension: who writes to stdin. Positions of binary input count per writer, over all its
        /// connections, so that input survives a lost connection once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        writer: Option<String>,
    },
    /// Write to stdin.
    Input {
        /// Text to write.
        data: String,
    },
    /// Close stdin.
    CloseStdin,
    /// Kill the process tree.
    Kill,
    /// By the extension: give the command's terminal another size.
    Resize {
        /// Columns, at least 1.
        cols: u16,
        /// Rows, at least 1.
        rows: u16,
    },
    /// By the extension: this connection's client has everything below these positions. What was written to a
    /// connection can be lost with it, wherever it was on its way; what is acknowledged can't.
    OutputAck {
        /// Of stdout.
        stdout: u64,
        /// Of stderr.
        stderr: u64,
    },
    /// By the extension: send a signal to the command's process group; `SIGKILL` is [`ClientFrame::Kill`].
    Signal {
        /// Which.
        signal: Signal,
    },
}

/// One of a command's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl StreamKind {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Payload of an output frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFrame<'a> {
    /// Text, complete characters only.
    #[serde(borrow, default)]
    pub data: Cow<'a, str>,
    /// Position of its first byte in the stream.
    #[serde(default)]
    pub offset: u64,
}

/// A frame from server to client (section 5.4.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame<'a> {
    /// The command runs, or is attached to.
    Started {
        /// The command's id.
        #[serde(default, borrow)]
        command_id: Cow<'a, str>,
        /// Process id inside the sandbox.
        #[serde(default)]
        pid: Option<i64>,
        /// By the extension: whether it runs under a terminal.
        #[serde(default, skip_serializing_if = "is_false")]
        pty: bool,
        /// By the extension: bytes of this writer that were taken so far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stdin_offset: Option<u64>,
    },
    /// Output.
    #[serde(borrow)]
    Stdout(OutputFrame<'a>),
    /// Error output.
    #[serde(borrow)]
    Stderr(OutputFrame<'a>),
    /// The end, with a result.
    Exit {
        /// Exit code; 128 + n after signal n. Absent means -1.
        #[serde(default = "unknown_exit")]
        exit_code: i32,
        /// By the extension: the signal that ended the main process.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// By the extension.
        #[serde(default, flatten)]
        totals: Option<Totals>,
        /// By the extension.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
    },
    /// By the extension: input up to here was taken.
    StdinAck {
        /// Position in what this writer wrote.
        offset: u64,
    },
    /// The end, without a result.
    Error {
        /// See [`crate::ErrorType`]; absent means `CommandError`.
        #[serde(default = "command_error", borrow)]
        error_type: Cow<'a, str>,
        /// Human-readable text.
        #[serde(default, borrow)]
        error: Cow<'a, str>,
    },
    /// A frame of a newer server, to be ignored.
    #[serde(other)]
    Unknown,
}

impl ServerFrame<'_> {
    /// The answer to an opening frame, without the extension.
    #[must_use]
    pub fn started(command_id: &str, pid: Option<i64>) -> ServerFrame<'_> {
        ServerFrame::Started { command_id: Cow::Borrowed(command_id), pid, pty: false, stdin_offset: None }
    }

    /// The end of a command, without the extension.
    #[must_use]
    pub fn exit(exit_code: i32) -> Self {
        Self::Exit { exit_code, signal: None, totals: None, usage: None }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !value
}

fn unknown_exit() -> i32 {
    -1
}

fn command_error() -> Cow<'static, str> {
    Cow::Borrowed(crate::ErrorType::CommandError.as_str())
}

/// Body of `POST /execute` (section 5.2). Here the limit is called `timeout`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExecuteRequest {
    /// What the shell runs with `-c`.
    pub command: String,
    /// Limit in seconds, default 60, 0 = none.
    #[serde(default, alias = "timeout_seconds", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Shell; default `/bin/bash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Environment on top of the sandbox's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Working directory; a relative one starts at `/home/user`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Alternative to `env` and `cwd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_config: Option<RunConfig>,
}

impl From<ExecuteRequest> for CommandSpec {
    fn from(request: ExecuteRequest) -> Self {
        Self {
            timeout_seconds: request.timeout,
            shell: request.shell,
            env: request.env,
            cwd: request.cwd,
            run_config: request.run_config,
            close_stdin: Some(true),
            kill_on_disconnect: Some(true),
            ..Self::new(request.command)
        }
    }
}

/// Answer of `POST /execute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExecuteResponse {
    /// Standard output.
    #[serde(default)]
    pub stdout: String,
    /// Standard error.
    #[serde(default)]
    pub stderr: String,
    /// Exit code.
    #[serde(default = "unknown_exit")]
    pub exit_code: i32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_senders_are_understood() {
        let frame: ClientFrame =
            serde_json::from_str(r#"{"type":"execute","command":"ls","timeout":5,"shell":"/bin/sh"}"#)
                .unwrap();
        let ClientFrame::Execute(spec) = frame else { panic!("not execute") };
        assert_eq!((spec.timeout(), spec.shell()), (5, "/bin/sh"));
        assert_eq!((spec.idle_timeout(), spec.ttl()), (Some(300), Some(600)));
        assert_eq!(spec.command_id, None);
    }

    #[test]
    fn forever_is_negative() {
        let spec =
            CommandSpec { idle_timeout_seconds: Some(-1), ttl_seconds: Some(-1), ..CommandSpec::new("x") };
        assert_eq!((spec.idle_timeout(), spec.ttl()), (None, None));
    }

    #[test]
    fn server_frames_have_defaults() {
        assert_eq!(
            serde_json::from_str::<ServerFrame<'_>>(r#"{"type":"exit"}"#).unwrap(),
            ServerFrame::exit(-1)
        );
        assert_eq!(
            serde_json::from_str::<ServerFrame<'_>>(r#"{"type":"resized","cols":1}"#).unwrap(),
            ServerFrame::Unknown
        );
        let ServerFrame::Error { error_type, .. } = serde_json::from_str(r#"{"type":"error"}"#).unwrap()
        else {
            panic!("not error")
        };
        assert_eq!(error_type, "CommandError");
    }

    #[test]
    fn what_the_extension_adds_is_absent_without_it() {
        let json = |frame: &ServerFrame<'_>| serde_json::to_string(frame).unwrap();
        assert_eq!(json(&ServerFrame::exit(0)), r#"{"type":"exit","exit_code":0}"#);
        assert_eq!(
            json(&ServerFrame::started("a", Some(7))),
            r#"{"type":"started","command_id":"a","pid":7}"#
        );
        let exit = ServerFrame::Exit {
            exit_code: 137,
            signal: Some(9),
            totals: Some(Totals { stdout_bytes: 5, stderr_bytes: 6 }),
            usage: Some(Usage { cpu_ms: Some(7), ..Usage::default() }),
        };
        let text = r#"{"type":"exit","exit_code":137,"signal":9,"stdout_bytes":5,"stderr_bytes":6,"usage":{"cpu_ms":7}}"#;
        assert_eq!((json(&exit), serde_json::from_str(text).unwrap()), (text.to_owned(), exit));
        let signal: ClientFrame = serde_json::from_str(r#"{"type":"signal","signal":"SIGTERM"}"#).unwrap();
        assert_eq!(signal, ClientFrame::Signal { signal: Signal::Term });
        assert!(serde_json::from_str::<ClientFrame>(r#"{"type":"signal","signal":"SIGSEGV"}"#).is_err());
    }

    proptest! {
        #[test]
        fn output_frames_survive_the_round_trip(data in ".*", offset: u64) {
            let frame = ServerFrame::Stdout(OutputFrame { data: Cow::Borrowed(&data), offset });
            let text = serde_json::to_string(&frame).unwrap();
            prop_assert_eq!(serde_json::from_str::<ServerFrame<'_>>(&text).unwrap(), frame);
        }

        #[test]
        fn execute_frames_survive_the_round_trip(command in ".*", timeout: Option<u64>, pty: Option<bool>) {
            let frame = ClientFrame::Execute(Box::new(CommandSpec {
                timeout_seconds: timeout, pty, ..CommandSpec::new(command)
            }));
            let text = serde_json::to_string(&frame).unwrap();
            prop_assert_eq!(serde_json::from_str::<ClientFrame>(&text).unwrap(), frame);
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = serde_json::from_slice::<ServerFrame<'_>>(&bytes);
            let _ = serde_json::from_slice::<ClientFrame>(&bytes);
        }
    }
}
