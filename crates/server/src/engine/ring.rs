//! The last bytes of one output stream, addressed by their position in the stream.
//!
//! A plain value: no lock, no clock. Who may evict what is decided in [`super::stream`].

use std::collections::VecDeque;

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

    /// Appends `chunk`; the oldest bytes make room.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        let beyond = chunk.len().saturating_sub(self.capacity);
        let kept = chunk.get(beyond..).unwrap_or_default();
        let evicted = (self.bytes.len() + kept.len()).saturating_sub(self.capacity);
        self.bytes.drain(..evicted);
        self.start += (evicted + beyond) as u64;
        self.bytes.extend(kept);
    }

    /// Replaces `out` by up to `max` bytes from position `from` on, which must not be before the start.
    pub(super) fn copy(&self, from: u64, max: usize, out: &mut Vec<u8>) {
        out.clear();
        let mut skip = usize::try_from(from.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let (front, back) = self.bytes.as_slices();
        for part in [front, back] {
            let wanted = part.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(part.len());
            let wanted = wanted.get(..max - out.len()).unwrap_or(wanted);
            out.extend_from_slice(wanted);
        }
    }

    /// The first position from `from` on that is not inside a character.
    pub(super) fn boundary(&self, from: u64) -> u64 {
        let skip = usize::try_from(from.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let inside = self.bytes.iter().skip(skip).take_while(|byte| matches!(byte, 0x80..=0xBF)).count();
        from + inside as u64
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
        let mut out = Vec::new();
        ring.copy(1, 10, &mut out);
        assert_eq!(out, b"bcde");
        ring.push(b"0123456789");
        assert_eq!((ring.start(), ring.end()), (11, 15));
        ring.copy(12, 2, &mut out);
        assert_eq!(out, b"78");
    }

    #[test]
    fn a_boundary_is_the_start_of_a_character_or_the_end() {
        let mut ring = Ring::new(9);
        ring.push("a€b🙂".as_bytes());
        let boundaries: Vec<u64> = (0..11).map(|from| ring.boundary(from)).collect();
        assert_eq!(boundaries, [0, 1, 4, 4, 4, 5, 9, 9, 9, 9, 10]);
        ring.push(b"cd");
        assert_eq!((ring.start(), ring.boundary(2)), (2, 4));
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
            let mut out = vec![1, 2, 3];
            ring.copy(from as u64, max, &mut out);
            let from = from.min(all.len());
            prop_assert_eq!(&out[..], &all[from..(from + max).min(all.len())]);
        }
    }
}
