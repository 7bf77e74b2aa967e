//! What a session makes of output: each byte once, in order, and every hole told.

use std::time::Instant;

use bytes::Bytes;
use sandwire_protocol::{StreamKind, Totals};

use super::{Gap, Origin, Session, State, Step};

/// Gaps that are told one by one in the result.
const GAPS_MAX: usize = 4096;

/// Output.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) kind: StreamKind,
    /// Position of its first byte.
    pub(crate) offset: u64,
    /// Never empty.
    pub(crate) bytes: Bytes,
    /// What is missing before it.
    pub(crate) gap: Option<Gap>,
}

impl Session {
    /// Output. Positions and lengths are those of its bytes.
    pub(crate) fn on_output(&mut self, kind: StreamKind, offset: u64, bytes: Bytes, now: Instant) -> Step {
        self.alive = now;
        match self.state {
            State::Over | State::Lost(_) => return Step::Ignore,
            State::Starting if self.origin == Origin::Executed => return self.on_wrong_first(kind.as_str()),
            // The oldest servers don't acknowledge a re-attachment.
            State::Starting | State::Reattaching => self.attach(now),
            State::Running => {}
        }
        self.numbered |= offset > 0;
        let next = self.next_offset(kind);
        let offset = if self.numbered { offset } else { next };
        let (offset, bytes) = if offset < next { self.after(bytes, offset, next) } else { (offset, bytes) };
        if bytes.is_empty() {
            return Step::Ignore;
        }
        let gap = (offset > next).then_some(Gap { stream: kind, from: next, to: offset });
        if let Some(gap) = gap {
            self.record(gap);
        }
        self.advance(kind, offset.saturating_add(length(&bytes)));
        (self.failures, self.futile, self.fruitful) = (0, 0, true);
        self.active = now;
        Step::Deliver(Delivery { kind, offset, bytes, gap })
    }

    /// Only a server that means harm loses output in thousands of places: from then on the last gap grows.
    fn record(&mut self, gap: Gap) {
        let full = self.gaps.len() >= GAPS_MAX;
        match self.gaps.iter_mut().rev().find(|last| full && last.stream == gap.stream) {
            Some(last) => last.to = gap.to,
            None => self.gaps.push(gap),
        }
    }

    fn advance(&mut self, kind: StreamKind, to: u64) {
        let [stdout, stderr] = &mut self.next;
        match kind {
            StreamKind::Stdout => *stdout = to,
            StreamKind::Stderr => *stderr = to,
        }
    }

    /// What of `bytes`, which begin at `offset`, lies at or after `next`; of text never half a character.
    fn after(&self, mut bytes: Bytes, offset: u64, next: u64) -> (u64, Bytes) {
        let known = usize::try_from(next - offset).unwrap_or(usize::MAX).min(bytes.len());
        let mut rest = bytes.split_off(known);
        let inside = rest.iter().take_while(|byte| !self.extended && matches!(byte, 0x80..=0xBF)).count();
        let rest = rest.split_off(inside);
        let skipped = u64::try_from(known + inside).unwrap_or(u64::MAX);
        (offset.saturating_add(skipped), rest)
    }

    /// What the streams had and this client never got.
    pub(super) fn missing(&mut self, totals: Totals) -> Vec<Gap> {
        let Totals { stdout_bytes, stderr_bytes } = totals;
        let mut missing = Vec::new();
        for (stream, to) in [(StreamKind::Stdout, stdout_bytes), (StreamKind::Stderr, stderr_bytes)] {
            let from = self.next_offset(stream);
            if from < to {
                missing.push(Gap { stream, from, to });
                self.advance(stream, to);
            }
        }
        missing
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
