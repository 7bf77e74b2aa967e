//! A command as its attachments use it: each has a cursor per stream, and whatever moves one wakes who waits for room.

use std::sync::Arc;

use bytes::BytesMut;
use sandwire_protocol::StreamKind;
use sandwire_protocol::limits::ATTACHMENTS_MAX;
use tokio::time::Instant;

use super::{Command, Phase, Step};
use crate::engine::attachment::{Attachment, View, other};
use crate::engine::lock::lock;

impl Command {
    /// Another client; `None` if there are too many.
    pub fn attach(self: &Arc<Self>, view: View) -> Option<Attachment> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        if state.attachments >= ATTACHMENTS_MAX {
            return None;
        }
        state.attachments += 1;
        state.was_attached = true;
        state.last_key += 1;
        let key = state.last_key;
        state.stream(StreamKind::Stdout).attach(key, view.form, view.stdout_offset, now);
        state.stream(StreamKind::Stderr).attach(key, view.form, view.stderr_offset, now);
        drop(state);
        self.poke.notify_one();
        self.wake_pumps();
        Some(Attachment::new(Arc::clone(self), key, self.changed.subscribe()))
    }

    /// What comes next for an attachment that looks at stream `first` first. Under one lock: the end must not be
    /// seen before output that was appended before it.
    pub(in crate::engine) fn step(&self, key: u64, first: StreamKind, out: &mut BytesMut) -> Option<Step> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        for kind in [first, other(first)] {
            if let Some(offset) = state.stream(kind).take(key, out, now) {
                drop(state);
                self.space(kind).notify_one();
                return Some(Step::Output(kind, offset));
            }
        }
        match &state.phase {
            Phase::Ended { end, .. } => Some(Step::End(end.clone())),
            _ => None,
        }
    }

    /// The client of that attachment has the output before these offsets.
    pub fn acknowledge(&self, key: u64, stdout: u64, stderr: u64) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.stream(StreamKind::Stdout).acknowledge(key, stdout, now);
        state.stream(StreamKind::Stderr).acknowledge(key, stderr, now);
        drop(state);
        self.wake_pumps();
    }

    pub(in crate::engine) fn detach(&self, key: u64, lost: bool) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.attachments -= 1;
        state.alone_since = now;
        for stream in &mut state.streams {
            stream.detach(key, lost, now);
        }
        drop(state);
        self.poke.notify_one();
        self.wake_pumps();
    }
}
