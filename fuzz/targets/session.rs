//! The state machine of a command against a server that is honest about bytes and about nothing else: it repeats, skips,
//! hangs up, answers for others and talks nonsense, at any time. What is delivered is what was printed, byte by byte, or
//! an explicit gap of exactly the bytes that are missing.

#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sandwire_client::Gap;
use sandwire_client::fuzzing::{Event, Session, parse_slow};
use sandwire_protocol::StreamKind;
use sandwire_protocol::extension::encode_output_header;

const ID: &str = "c";

#[derive(Debug, Arbitrary)]
struct Life {
    extended: bool,
    limit: u8,
    acts: Vec<Act>,
}

#[derive(Debug, Arbitrary)]
enum Act {
    Started,
    Foreign,
    /// Output that begins so far before or after what the client has.
    Output {
        error: bool,
        shift: i16,
        length: u8,
    },
    /// The end, with so many bytes more than the client has.
    Exit {
        beyond: [u8; 2],
    },
    Error,
    Taken(u64),
    Junk {
        bytes: Vec<u8>,
        binary: bool,
    },
    Lost(Option<u16>),
    Reconnected {
        otherwise: bool,
    },
    Wait(u16),
    Kill,
}

/// What the client must have, by what the server printed.
struct Model {
    session: Session,
    extended: bool,
    next: [u64; 2],
    gaps: Vec<Gap>,
    /// The connection was made again and nothing has come on it yet.
    fresh: bool,
    started: bool,
    over: bool,
}

fuzz_target!(|life: Life| {
    let mut model = Model {
        session: Session::execute(ID, u64::from(life.limit), life.extended),
        extended: life.extended,
        next: [0; 2],
        gaps: Vec::new(),
        fresh: false,
        started: false,
        over: false,
    };
    for act in life.acts {
        model.act(act);
        assert_eq!(model.session.next_offsets(), model.next);
        assert_eq!(model.session.gaps(), model.gaps);
    }
});

impl Model {
    fn act(&mut self, act: Act) {
        match act {
            Act::Started => self.json(&format!(r#"{{"type":"started","command_id":"{ID}","pid":1}}"#)),
            Act::Foreign => self.foreign(),
            Act::Output { error, shift, length } => self.output(error, shift, length),
            Act::Exit { beyond } => self.exit(beyond),
            Act::Error => self.json(r#"{"type":"error","error_type":"CommandError","error":"no"}"#),
            Act::Taken(offset) => self.json(&format!(r#"{{"type":"stdin_ack","offset":{offset}}}"#)),
            Act::Junk { bytes, binary } => self.junk(bytes, binary),
            Act::Lost(code) => {
                let event = self.session.lost(code);
                self.check(event);
            }
            Act::Reconnected { otherwise } => self.reconnected(otherwise),
            Act::Wait(milliseconds) => {
                let event = self.session.wait(Duration::from_millis(u64::from(milliseconds)));
                self.check(event);
            }
            Act::Kill => self.session.kill(),
        }
    }

    fn json(&mut self, text: &str) {
        self.message(text.as_bytes().to_vec(), false);
    }

    fn message(&mut self, bytes: Vec<u8>, binary: bool) {
        let deaf = self.over || self.session.is_lost();
        let event = self.session.message(bytes, binary);
        assert!(!deaf || event == Event::Nothing, "heard without a connection: {event:?}");
        self.check(event);
    }

    /// Somebody else's command, where this one was asked for.
    fn foreign(&mut self) {
        // The id that answers the first `execute` is the command's, whatever was asked for.
        if !self.started {
            return;
        }
        let asked = self.fresh && !self.over && !self.session.is_lost();
        self.json(r#"{"type":"started","command_id":"of somebody else"}"#);
        assert!(!asked || self.over || self.session.is_lost(), "attached to another command");
    }

    fn output(&mut self, error: bool, shift: i16, length: u8) {
        let stream = usize::from(error);
        let offset = self.next[stream].saturating_add_signed(i64::from(shift));
        // Without the extension, a server that numbers nothing says 0 each time: to repeat from 0 is to be such a one.
        if !self.extended && offset == 0 && self.next[stream] > 0 {
            return;
        }
        let bytes: Vec<u8> = (offset..).take(usize::from(length)).map(|at| printed(stream, at)).collect();
        // The oldest servers don't acknowledge: output says as much.
        self.fresh = false;
        if self.extended {
            let kind = if error { StreamKind::Stderr } else { StreamKind::Stdout };
            return self.message([&encode_output_header(kind, offset)[..], &bytes].concat(), true);
        }
        let (name, data) = (["stdout", "stderr"][stream], String::from_utf8(bytes).expect("ASCII"));
        self.json(&format!(r#"{{"type":"{name}","data":"{data}","offset":{offset}}}"#));
    }

    fn exit(&mut self, beyond: [u8; 2]) {
        if !self.extended {
            return self.json(r#"{"type":"exit","exit_code":0}"#);
        }
        let [stdout, stderr] = [0, 1].map(|stream| self.next[stream] + u64::from(beyond[stream]));
        self.json(&format!(
            r#"{{"type":"exit","exit_code":0,"stdout_bytes":{stdout},"stderr_bytes":{stderr}}}"#
        ));
    }

    /// Anything but output, which would not be what was printed.
    fn junk(&mut self, bytes: Vec<u8>, binary: bool) {
        let raw = self.extended && bytes.len() >= 9 && bytes[0] < 2;
        let text = std::str::from_utf8(&bytes).is_ok_and(|text| parse_slow(text).is_some());
        // Totals of nonsense are nonsense, and so are ids.
        let names = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
        let ends = names(b"exit") || names(b"started");
        // Whoever drives the session drops a connection that is lost, with all that may still come on it.
        if !raw && !text && !ends && !self.session.is_lost() {
            self.message(bytes, binary);
        }
    }

    fn reconnected(&mut self, otherwise: bool) {
        if self.over || !self.session.is_lost() {
            return;
        }
        self.fresh = true;
        let event = self.session.reconnected(self.extended != otherwise);
        self.check(event);
    }

    fn check(&mut self, event: Event) {
        match event {
            Event::Nothing => return,
            Event::Started => self.started = true,
            Event::Lost => {}
            Event::Delivered { kind, offset, bytes, gap } => {
                let stream = usize::from(kind == StreamKind::Stderr);
                match gap {
                    Some(gap) => {
                        let exact = Gap { stream: kind, from: self.next[stream], to: offset };
                        assert_eq!(gap, exact);
                        assert!(gap.from < gap.to, "{gap:?}");
                        self.gaps.push(gap);
                    }
                    None => assert_eq!(offset, self.next[stream], "repeated or skipped"),
                }
                assert!(!bytes.is_empty());
                for (at, byte) in (offset..).zip(&bytes) {
                    assert_eq!(*byte, printed(stream, at), "at {at}");
                }
                self.next[stream] = offset + bytes.len() as u64;
            }
            Event::Over(missing) => {
                for gap in missing {
                    let stream = usize::from(gap.stream == StreamKind::Stderr);
                    assert_eq!(gap.from, self.next[stream]);
                    assert!(gap.from < gap.to, "{gap:?}");
                    self.next[stream] = gap.to;
                    self.gaps.push(gap);
                }
                self.over = true;
            }
        }
        self.fresh = self.fresh && self.session.is_lost();
    }
}

/// What the command printed there: another letter at nearly each place.
fn printed(stream: usize, at: u64) -> u8 {
    let letter = at.wrapping_mul(7).wrapping_add(at >> 4).wrapping_add(stream as u64 * 3) % 26;
    b'a' + u8::try_from(letter).expect("below 26")
}
