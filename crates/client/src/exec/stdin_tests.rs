//! Input over connections that come and go, without sockets.

use super::*;
use proptest::prelude::*;
use sandwire_protocol::extension::decode_input;
use tokio::sync::oneshot;

use crate::Error;

type Answer = oneshot::Receiver<Result<bool, Error>>;

fn send(stdin: &mut Stdin, data: &[u8]) -> Answer {
    let (reply, answer) = oneshot::channel();
    stdin.send(Bytes::copy_from_slice(data), reply);
    answer
}

fn close(stdin: &mut Stdin) -> Answer {
    let (reply, answer) = oneshot::channel();
    stdin.close(reply);
    answer
}

fn json(message: &Message) -> String {
    message.to_text().unwrap().to_owned()
}

/// Writes everything that can be written, and returns it.
fn write_all(stdin: &mut Stdin) -> Vec<Message> {
    std::iter::from_fn(|| {
        let message = stdin.next()?;
        stdin.written();
        Some(message)
    })
    .collect()
}

/// The extension's server: takes what it has not taken yet.
#[derive(Default)]
struct Reader {
    taken: Vec<u8>,
    ended: bool,
}

impl Reader {
    fn read(&mut self, message: &Message) {
        let Message::Binary(bytes) = message else {
            assert_eq!(json(message), r#"{"type":"close_stdin"}"#);
            self.ended = true;
            return;
        };
        let (offset, data) = decode_input(bytes).unwrap();
        let known = (self.taken.len() as u64).checked_sub(offset).expect("a hole");
        self.taken.extend_from_slice(data.get(known as usize..).unwrap_or_default());
    }

    fn position(&self) -> u64 {
        self.taken.len() as u64
    }
}

#[test]
fn text_counts_as_arrived_once_it_is_written() {
    let mut stdin = Stdin::new(false, false, false);
    let mut answer = send(&mut stdin, "é".as_bytes());
    assert_eq!(json(&stdin.next().unwrap()), r#"{"type":"input","data":"é"}"#);
    stdin.lost();
    assert!(answer.try_recv().is_err());
    stdin.attached(None);
    assert_eq!(write_all(&mut stdin).len(), 1, "it was not written whole");
    assert!(answer.try_recv().unwrap().unwrap());
    assert!(send(&mut stdin, b"\xff").try_recv().unwrap().is_err());
}

#[test]
fn the_end_comes_last_and_is_said_again_on_a_new_connection() {
    for extended in [false, true] {
        let mut stdin = Stdin::new(false, false, extended);
        stdin.attached(Some(0));
        let _input = send(&mut stdin, b"a");
        let mut closed = close(&mut stdin);
        let messages = write_all(&mut stdin);
        assert_eq!(messages.last().map(json).as_deref(), Some(r#"{"type":"close_stdin"}"#));
        assert_eq!((messages.len(), closed.try_recv().unwrap().unwrap()), (2, true));
        assert!(!send(&mut stdin, b"late").try_recv().unwrap().unwrap());
        stdin.lost();
        stdin.attached(Some(1));
        let again: Vec<_> = write_all(&mut stdin).iter().map(json).collect();
        assert_eq!(again, [r#"{"type":"close_stdin"}"#], "{extended}");
    }
}

#[test]
fn a_terminal_is_told_by_its_own_character_and_stays_open() {
    let mut stdin = Stdin::new(true, false, false);
    let _closed = close(&mut stdin);
    assert_eq!(json(&write_all(&mut stdin)[0]), "{\"type\":\"input\",\"data\":\"\\u0004\"}");
    let _more = send(&mut stdin, b"x");
    assert_eq!(write_all(&mut stdin).len(), 1);
}

#[test]
fn a_server_that_takes_nothing_is_sent_a_window() {
    let mut stdin = Stdin::new(false, false, true);
    let mut answer = send(&mut stdin, &vec![b'x'; 3 * STDIN_WINDOW]);
    let sent: usize = write_all(&mut stdin).iter().map(|message| message.len() - HEADER).sum();
    assert_eq!(sent, STDIN_WINDOW);
    stdin.taken(10);
    assert_eq!(write_all(&mut stdin).iter().map(Message::len).collect::<Vec<_>>(), [10 + HEADER]);
    assert!(answer.try_recv().is_err(), "it is not written yet");
    for taken in [STDIN_WINDOW, 2 * STDIN_WINDOW, 3 * STDIN_WINDOW] {
        write_all(&mut stdin);
        stdin.taken(taken as u64);
    }
    assert!(answer.try_recv().unwrap().unwrap());
    assert!(stdin.next().is_none());
}

#[test]
fn a_kill_drops_what_waits() {
    for extended in [false, true] {
        let mut stdin = Stdin::new(false, false, extended);
        let mut answer = send(&mut stdin, b"a");
        stdin.discard();
        assert!(stdin.next().is_none());
        assert!(answer.try_recv().is_err(), "its sender is gone: over");
        assert!(!send(&mut stdin, b"b").try_recv().unwrap().unwrap());
        stdin.attached(Some(0));
        assert!(stdin.next().is_none());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Send(usize),
    /// Writes that many messages, of which so many arrive before the connection is cut; the server's last word does
    /// or does not.
    Write {
        messages: usize,
        arrive: usize,
        cut: bool,
    },
    Acknowledge,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0usize..200_000).prop_map(Step::Send),
        (0usize..9, 0usize..9, any::<bool>()).prop_map(|(messages, arrive, cut)| Step::Write {
            messages,
            arrive,
            cut
        }),
        Just(Step::Acknowledge),
    ]
}

proptest! {
    #[test]
    fn however_often_it_is_cut_every_byte_is_taken_once(steps in proptest::collection::vec(step(), 0..30)) {
        let mut stdin = Stdin::new(false, false, true);
        stdin.attached(Some(0));
        let (mut reader, mut sent, mut answers) = (Reader::default(), Vec::new(), Vec::new());
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send(size) => {
                    let data: Vec<u8> = (0..size).map(|n| (n + index) as u8).collect();
                    answers.push(send(&mut stdin, &data));
                    sent.extend(data);
                }
                Step::Write { messages, arrive, cut } => {
                    for n in 0..messages {
                        let Some(message) = stdin.next() else { break };
                        stdin.written();
                        if n < arrive || !cut {
                            reader.read(&message);
                        }
                    }
                    if cut {
                        stdin.lost();
                        assert!(stdin.next().is_none(), "before the server said what it has");
                        stdin.attached(Some(reader.position()));
                    }
                }
                Step::Acknowledge => stdin.taken(reader.position()),
            }
        }
        let _closed = close(&mut stdin);
        while !reader.ended {
            stdin.taken(reader.position());
            let Some(message) = stdin.next() else { continue };
            stdin.written();
            reader.read(&message);
        }
        stdin.taken(reader.position());
        prop_assert!(reader.taken == sent);
        for mut answer in answers {
            prop_assert!(answer.try_recv().unwrap().unwrap());
        }
    }
}
