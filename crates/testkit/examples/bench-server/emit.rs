//! What a command prints: its frames, made from one chunk that is escaped once.

use crate::frame::{BINARY, TEXT, push};

const LINE: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n";
const MIXED: &str = "Съешь ещё этих мягких булок 敏捷的棕色狐狸跳过懒狗 いろはにほへと 🙂🚀👩‍💻\n";

/// `emit BYTES COUNT [ascii | mixed]`, understood.
#[derive(Debug)]
pub(crate) struct Emit {
    chunk: String,
    escaped: Vec<u8>,
    count: u64,
    sent: u64,
    extended: bool,
}

impl Emit {
    /// `None` if the text is something else.
    pub(crate) fn parse(command: &str, extended: bool) -> Option<Self> {
        let mut words = command.split_whitespace();
        if words.next()? != "emit" {
            return None;
        }
        let (size, count) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let chunk = match words.next() {
            None | Some("ascii") => fill(LINE, size),
            Some("mixed") => fill(MIXED, size),
            Some(_) => return None,
        };
        let quoted = serde_json::Value::from(chunk.as_str()).to_string();
        let escaped = quoted.trim_matches('"').as_bytes().to_vec();
        Some(Self { chunk, escaped, count, sent: 0, extended })
    }

    /// Adds frames until there are `enough` bytes; `false` when all frames are there.
    pub(crate) fn fill(&mut self, buffer: &mut Vec<u8>, enough: usize) -> bool {
        while buffer.len() < enough && self.sent < self.count {
            let offset = self.sent * self.chunk.len() as u64;
            self.sent += 1;
            if self.extended {
                push(buffer, BINARY, &[&[0], &offset.to_be_bytes()[..], self.chunk.as_bytes()]);
            } else {
                let position = offset.to_string();
                let parts = [
                    &br#"{"type":"stdout","data":""#[..],
                    &self.escaped,
                    br#"","offset":"#,
                    position.as_bytes(),
                    b"}",
                ];
                push(buffer, TEXT, &parts);
            }
        }
        self.sent < self.count
    }

    /// The `exit` frame.
    pub(crate) fn end(&self) -> String {
        let total = self.count * self.chunk.len() as u64;
        if self.extended {
            format!(r#"{{"type":"exit","exit_code":0,"stdout_bytes":{total},"stderr_bytes":0}}"#)
        } else {
            r#"{"type":"exit","exit_code":0}"#.to_owned()
        }
    }
}

/// Repeats `text` to exactly `size` bytes, of whole characters, and ends with the end of a line.
fn fill(text: &str, size: usize) -> String {
    let mut filled = String::with_capacity(size);
    for character in text.chars().cycle() {
        if filled.len() + character.len_utf8() + 1 > size {
            break;
        }
        filled.push(character);
    }
    while filled.len() + 1 < size {
        filled.push('.');
    }
    filled.push('\n');
    filled
}
