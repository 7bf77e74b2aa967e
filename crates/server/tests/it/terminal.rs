//! Commands on a terminal, and signals, through the engine.

use bytes::BytesMut;
use sandwire_protocol::extension::Signal;
use sandwire_protocol::limits::STDIN_BUFFER_MAX;
use sandwire_protocol::{CommandSpec, ErrorType, StreamKind};
use sandwire_server::engine::{Attachment, End, Form, Step, WindowSize};
use serde_json::json;

use crate::fake::{CUT, LIAR, Server, server};
use crate::socket::{execute, fixture};

/// A terminal of a sandbox of its own.
struct Terminal {
    attachment: Attachment,
    seen: String,
    _server: Server,
}

impl Terminal {
    async fn start(command: &str) -> Self {
        let server = server();
        let path = server.sandbox().await;
        let sandbox = server.app.engine.get(path.trim_start_matches("/sandboxes/")).unwrap();
        // A terminal's input is not closed by it.
        let spec = CommandSpec {
            shell: Some("/bin/sh".into()),
            pty: Some(true),
            close_stdin: Some(true),
            ..CommandSpec::new(command)
        };
        let attachment = sandbox.execute(&spec, Form::Text).unwrap();
        Self { attachment, seen: String::new(), _server: server }
    }

    /// Reads on until `word`.
    async fn until(&mut self, word: &str) {
        while !self.seen.contains(word) {
            assert_eq!(self.read().await, None, "{word:?} did not come, but {:?}", self.seen);
        }
    }

    async fn end(&mut self) -> End {
        loop {
            if let Some(end) = self.read().await {
                return end;
            }
        }
    }

    async fn read(&mut self) -> Option<End> {
        let mut chunk = BytesMut::new();
        match self.attachment.next(&mut chunk).await {
            Step::Output(kind, offset) => {
                assert_eq!((kind, offset), (StreamKind::Stdout, self.seen.len() as u64));
                self.seen.push_str(std::str::from_utf8(&chunk).unwrap());
                None
            }
            Step::End(end) => Some(end),
        }
    }

    async fn type_in(&self, text: &str) {
        self.attachment.command().input(text.as_bytes()).await.unwrap();
    }
}

fn exited(code: i32) -> End {
    End::Exited { code, signal: None }
}

fn ended_by(signal: Signal) -> End {
    End::Exited { code: 128 + signal.number(), signal: Some(signal.number()) }
}

#[tokio::test]
async fn all_output_is_stdout_and_input_stays_open() {
    let mut terminal =
        Terminal::start("stty size; echo $TERM; echo err >&2; read line; echo got $line; exit 3").await;
    terminal.until("err\r\n").await;
    assert_eq!(terminal.seen, "24 80\r\nxterm-256color\r\nerr\r\n");
    terminal.attachment.command().close_stdin();
    terminal.type_in("it\n").await;
    assert_eq!(terminal.end().await, exited(3));
    assert!(terminal.seen.ends_with("it\r\ngot it\r\n"), "{}", terminal.seen);
}

#[tokio::test]
async fn the_exec_socket_has_terminals() {
    let said = fixture().await.talk(&[execute("tty; echo err >&2", json!({"pty": true}))]).await;
    assert!(said.stdout.starts_with("/dev/pts/") && said.stdout.ends_with("\r\nerr\r\n"), "{said:?}");
    assert_eq!(said.last["exit_code"], 0);
}

#[tokio::test]
async fn a_plain_request_has_none() {
    let fixture = fixture().await;
    let body =
        json!({"command": "[ -t 0 ] || [ -t 1 ] || [ -t 2 ] || echo none", "shell": "/bin/sh", "pty": true});
    let (_, answer) =
        fixture.server.call("POST", &format!("{}/execute", fixture.sandbox), body.to_string()).await;
    assert_eq!(answer["stdout"], "none\n");
}

#[tokio::test]
async fn a_window_is_resized_also_before_the_start() {
    let wait = |size| format!("until [ \"$(stty size)\" = '{size}' ]; do sleep 0.01; done; echo {size}; ");
    let mut terminal = Terminal::start(&(wait("43 132") + &wait("10 20"))).await;
    terminal.attachment.command().resize(WindowSize { cols: 132, rows: 43 });
    terminal.until("43 132\r\n").await;
    terminal.attachment.command().resize(WindowSize { cols: 20, rows: 10 });
    terminal.until("10 20\r\n").await;
    assert_eq!(terminal.end().await, exited(0));
}

#[tokio::test]
async fn signals_end_commands_and_are_told() {
    for signal in [Signal::Term, Signal::Int, Signal::Kill] {
        let mut terminal = Terminal::start("echo ready; exec sleep 1000").await;
        terminal.until("ready\r\n").await;
        terminal.attachment.command().signal(signal);
        assert_eq!(terminal.end().await, ended_by(signal));
    }
    let server = server();
    let path = server.sandbox().await;
    let sandbox = server.app.engine.get(path.trim_start_matches("/sandboxes/")).unwrap();
    let spec = CommandSpec::new("trap 'echo caught; exit 5' USR1; echo ready; while :; do :; done");
    let mut attachment = sandbox.execute(&spec, Form::Text).unwrap();
    let mut chunk = BytesMut::new();
    assert_eq!(attachment.next(&mut chunk).await, Step::Output(StreamKind::Stdout, 0));
    chunk.clear();
    attachment.command().signal(Signal::Usr1);
    assert_eq!(attachment.next(&mut chunk).await, Step::Output(StreamKind::Stdout, 6));
    assert_eq!(&chunk[..], b"caught\n");
    assert_eq!(attachment.next(&mut chunk).await, Step::End(exited(5)));
    attachment.command().signal(Signal::Term);
}

#[tokio::test]
async fn a_key_interrupts_what_floods_the_terminal() {
    let mut terminal = Terminal::start("trap 'exit 9' INT; while :; do echo yyyyyyyyyyyyyyyyyy; done").await;
    terminal.until("y\r\n").await;
    terminal.type_in("\x03").await;
    assert_eq!(terminal.end().await, exited(9));
}

#[tokio::test]
async fn much_goes_through_in_both_directions() {
    let size = STDIN_BUFFER_MAX + 1_000_000;
    let mut terminal =
        Terminal::start(&format!("stty raw -echo; echo ready; head -c {size} | tee /dev/tty | wc -c")).await;
    terminal.until("ready").await;
    let command = std::sync::Arc::clone(terminal.attachment.command());
    let line = "0123456789abcde\n".repeat(4096);
    let input = async {
        for _ in 0..=size / line.len() {
            command.input(line.as_bytes()).await.unwrap();
        }
    };
    let (end, ()) = tokio::join!(terminal.end(), input);
    assert_eq!(end, exited(0));
    let (echo, count) = terminal.seen.trim_start_matches("ready\n").trim_end().rsplit_once('\n').unwrap();
    let count = count.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    assert_eq!(echo.len() + 1 + count.len() - size.to_string().len(), size, "{count}");
    assert!(count.ends_with(&size.to_string()));
}

#[tokio::test]
async fn who_keeps_the_terminal_does_not_keep_the_command() {
    let command = "trap '' HUP; sleep 1000 & exit 2";
    let mut terminal = Terminal::start(command).await;
    assert_eq!(terminal.end().await, exited(2));
}

#[tokio::test]
async fn a_master_that_is_none_is_refused() {
    let mut terminal = Terminal::start(&format!("sleep 1000; {LIAR}")).await;
    let end = terminal.end().await;
    assert!(matches!(&end, End::Failed(fault) if fault.kind == ErrorType::CommandError), "{end:?}");
}

#[tokio::test]
async fn a_master_that_finds_no_room_is_said_so() {
    let mut terminal = Terminal::start(&format!("sleep 1000; {CUT}")).await;
    let end = terminal.end().await;
    assert!(matches!(&end, End::Failed(fault) if fault.message.contains("LimitNOFILE")), "{end:?}");
}
