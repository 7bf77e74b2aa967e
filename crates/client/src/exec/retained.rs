//! What a result keeps of one stream: everything up to a limit, beyond it the first and the last half.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use sandwire_protocol::utf8_prefix;

use super::Data;

/// The retained output of one stream.
#[derive(Clone, Default)]
pub struct Retained {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
    limit: usize,
}

impl Retained {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total = self.total.saturating_add(length(bytes.len()));
        let room = self.limit.div_ceil(2).saturating_sub(self.head.len());
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        let tail_limit = self.limit / 2;
        let (_, rest) = rest.split_at(rest.len().saturating_sub(tail_limit));
        let excess = (self.tail.len() + rest.len()).saturating_sub(tail_limit);
        self.tail.drain(..excess.min(self.tail.len()));
        self.tail.extend(rest);
    }

    /// Bytes received, kept or not.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether something between head and tail is missing.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.total > length(self.head.len() + self.tail.len())
    }

    /// What comes before this position is never dropped.
    pub(crate) fn head_limit(&self) -> u64 {
        length(self.limit.div_ceil(2))
    }

    /// The bytes at `start..start + len` of what was received, if they are still here.
    pub(crate) fn slice(&self, start: u64, len: usize) -> Option<Vec<u8>> {
        let end = start.checked_add(length(len))?;
        let head_len = length(self.head.len());
        let tail_start = self.total - length(self.tail.len());
        if end > self.total || (end > head_len && start.max(head_len) < tail_start) {
            return None;
        }
        let from_head = self.head.get(index(start.min(head_len))..index(end.min(head_len)))?;
        let mut bytes = from_head.to_vec();
        if end > tail_start {
            let first = index(start.saturating_sub(tail_start));
            bytes.extend(self.tail.range(first..index(end - tail_start)));
        }
        Some(bytes)
    }

    /// Head and tail as they were received; at a cut, no character is left incomplete.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let (front, back) = self.tail.as_slices();
        if !self.truncated() {
            return [self.head.as_slice(), front, back].concat();
        }
        let (head, _) = self.head.split_at(utf8_prefix(&self.head));
        // A character has at most three continuation bytes.
        let orphans = self.tail.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
        let mut bytes = head.to_vec();
        bytes.extend(self.tail.iter().skip(orphans));
        bytes
    }

    /// The same as text.
    #[must_use]
    pub fn text(&self) -> Data {
        let bytes = if self.tail.is_empty() && !self.truncated() {
            Cow::Borrowed(&self.head)
        } else {
            Cow::Owned(self.bytes())
        };
        match std::str::from_utf8(&bytes) {
            Ok(text) => Data::text(text),
            Err(_) => Data::text(&String::from_utf8_lossy(&bytes)),
        }
    }
}

/// Sizes only: a command's output can be large and can hold secrets.
impl fmt::Debug for Retained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retained").field("total", &self.total).field("truncated", &self.truncated()).finish()
    }
}

fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Positions below the length of a buffer in memory, which is a `usize`.
fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(limit: usize, pieces: &[&str]) -> Retained {
        let mut retained = Retained::new(limit);
        pieces.iter().for_each(|piece| retained.push(piece.as_bytes()));
        retained
    }

    #[test]
    fn below_the_limit_everything_is_kept() {
        let all = kept(6, &["ab", "cd", "ef"]);
        assert_eq!((all.bytes(), all.truncated(), all.total()), (b"abcdef".to_vec(), false, 6));
    }

    #[test]
    fn beyond_it_head_and_tail() {
        let cut = kept(6, &["abcd", "efgh", "ij"]);
        assert_eq!((cut.bytes(), cut.truncated(), cut.total()), (b"abchij".to_vec(), true, 10));
        assert_eq!(kept(0, &["abc"]).bytes(), b"");
        assert_eq!(kept(1, &["abc"]).bytes(), b"a");
    }

    #[test]
    fn a_cut_leaves_whole_characters() {
        let cut = kept(6, &["aé€", "xx€y"]);
        assert_eq!(String::from_utf8(cut.bytes()).unwrap(), "aéy");
    }

    proptest! {
        #[test]
        fn any_slice_is_right_or_absent(
            limit in 0usize..40,
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..12),
            start in 0u64..80,
            len in 0usize..30,
        ) {
            let mut retained = Retained::new(limit);
            pieces.iter().for_each(|piece| retained.push(piece));
            let all = pieces.concat();
            let expected = usize::try_from(start).ok().and_then(|start| all.get(start..start + len));
            let got = retained.slice(start, len);
            if let Some(got) = &got {
                prop_assert_eq!(Some(got.as_slice()), expected);
            }
            if all.len() <= limit {
                prop_assert_eq!(got.as_deref(), expected);
                prop_assert_eq!(retained.bytes(), all);
            }
            prop_assert!(retained.bytes().len() <= limit);
        }
    }
}
