//! The last bytes of one output stream, addressed by their position in the stream.
//!
//! A plain value: no lock, no clock. Who may evict what is decided in [`super::stream`].

use std::collections::VecDeque;

use bytes::BytesMut;

pub(super) struct Ring {
    /// Grows by doubling up to `capacity`: most commands print little, and there are many of them.
    bytes: VecDeque<u8>,
    start: u64,
    capacity: usize,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self { bytes: VecDeque::new(), start: 0, capacity }
    }

    /// Position of the oldest byte that is still here.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Position after the newest byte: the stream's length so far.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where it starts once `more` bytes were appended.
    pub(super) fn start_after(&self, more: usize) -> u64 {
        self.start + (self.bytes.len() + more).saturating_sub(self.capacity) as u64
    }

    /// Appends `chunk`; the oldest bytes make room.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        let beyond = chunk.len().saturating_sub(self.capacity);
        let kept = chunk.get(beyond..).unwrap_or_default();
        let evicted = (self.bytes.len() + kept.len()).saturating_sub(self.capacity);
        self.bytes.drain(..evicted);
        self.start += (evicted + beyond) as u64;
        self.grow(kept.len());
        self.bytes.extend(kept);
    }

    /// By doubling, but never beyond what may be used.
    fn grow(&mut self, more: usize) {
        let wanted = self.bytes.len() + more;
        if wanted > self.bytes.capacity() {
            let capacity = (self.bytes.capacity() * 2).max(wanted).min(self.capacity);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
    }

    /// Appends up to `max` bytes from position `from` on, which must not be before the start, to `out`.
    pub(super) fn copy(&self, from: u64, max: usize, out: &mut BytesMut) {
        let mut left = max;
        let mut skip = usize::try_from(from.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let (front, back) = self.bytes.as_slices();
        for part in [front, back] {
            let wanted = part.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(part.len());
            let wanted = wanted.get(..left).unwrap_or(wanted);
            left -= wanted.len();
            out.extend_from_slice(wanted);
        }
    }

    /// How many bytes from position `from` on can only be the rest of a character; where there is text.
    pub(super) fn continuation(&self, from: u64) -> usize {
        let skip = usize::try_from(from.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let rest = (0..3).map_while(|ahead| self.bytes.get(skip.saturating_add(ahead)));
        rest.take_while(|byte| matches!(byte, 0x80..=0xBF)).count()
    }

    /// Gives back memory that growing by doubling left over.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_bytes_go() {
        let mut ring = Ring::new(4);
        ring.push(b"abc");
        ring.push(b"de");
        assert_eq!((ring.start(), ring.end()), (1, 5));
        let mut out = BytesMut::from(&b">"[..]);
        ring.copy(1, 10, &mut out);
        assert_eq!(out, &b">bcde"[..]);
        ring.push(b"0123456789");
        assert_eq!((ring.start(), ring.end()), (11, 15));
        out.clear();
        ring.copy(12, 2, &mut out);
        assert_eq!(out, &b"78"[..]);
    }

    #[test]
    fn inside_a_character_is_before_its_end() {
        let mut ring = Ring::new(9);
        ring.push("a€b🙂".as_bytes());
        let inside: Vec<usize> = (0..11).map(|from| ring.continuation(from)).collect();
        assert_eq!(inside, [0, 0, 2, 1, 0, 0, 3, 2, 1, 0, 0]);
        ring.push(b"cd");
        assert_eq!((ring.start(), ring.continuation(2)), (2, 2));
    }

    #[test]
    fn it_never_takes_more_memory_than_it_may() {
        let mut ring = Ring::new(100);
        for _ in 0..10 {
            ring.push(&[7; 33]);
            assert!(ring.bytes.capacity() <= 100);
        }
        assert_eq!(ring.len(), 100);
    }

    proptest! {
        #[test]
        fn it_is_the_tail_of_the_stream(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..30),
            capacity in 1usize..64,
            from in 0usize..400,
            max in 0usize..80,
        ) {
            let mut ring = Ring::new(capacity);
            let mut all = Vec::new();
            for chunk in &chunks {
                ring.push(chunk);
                all.extend_from_slice(chunk);
                prop_assert_eq!(ring.end(), all.len() as u64);
                prop_assert_eq!(ring.start(), all.len().saturating_sub(capacity) as u64);
            }
            let start = all.len().saturating_sub(capacity);
            let from = from.max(start);
            let mut out = BytesMut::new();
            ring.copy(from as u64, max, &mut out);
            let from = from.min(all.len());
            prop_assert_eq!(&out[..], &all[from..(from + max).min(all.len())]);
        }
    }
}
