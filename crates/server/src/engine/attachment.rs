//! One client's view of a command: it waits for what comes next and takes it, at its own pace.

use std::sync::Arc;

use sandwire_protocol::StreamKind;
use tokio::sync::watch;

use super::command::{Command, End, Step};
use super::fault::Fault;

/// One client's view of a command. Dropping it detaches.
pub struct Attachment {
    command: Arc<Command>,
    key: u64,
    changed: watch::Receiver<()>,
    /// The stream that is looked at first: they take turns.
    first: StreamKind,
}

impl Attachment {
    pub(super) fn new(command: Arc<Command>, key: u64, changed: watch::Receiver<()>) -> Self {
        Self { command, key, changed, first: StreamKind::Stdout }
    }

    /// The command.
    pub fn command(&self) -> &Arc<Command> {
        &self.command
    }

    /// Waits until the command runs and returns its process id, or why it does not.
    ///
    /// # Errors
    /// The command could not be started.
    pub async fn started(&mut self) -> Result<i32, Fault> {
        loop {
            self.changed.mark_unchanged();
            if let Some(started) = self.command.start() {
                return started;
            }
            if self.changed.changed().await.is_err() {
                return Err(Fault::gone());
            }
        }
    }

    /// Waits for the next step; output goes into `out`. Cancel safe.
    pub async fn next(&mut self, out: &mut Vec<u8>) -> Step {
        loop {
            self.changed.mark_unchanged();
            if let Some(step) = self.try_next(out) {
                return step;
            }
            if self.changed.changed().await.is_err() {
                return Step::End(End::Failed(Fault::gone()));
            }
        }
    }

    /// The next step, if it is there already.
    pub fn try_next(&mut self, out: &mut Vec<u8>) -> Option<Step> {
        let step = self.command.step(self.key, self.first, out)?;
        if let Step::Output(kind, _) = step {
            self.first = other(kind);
        }
        Some(step)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.command.detach(self.key);
    }
}

pub(super) fn other(kind: StreamKind) -> StreamKind {
    match kind {
        StreamKind::Stdout => StreamKind::Stderr,
        StreamKind::Stderr => StreamKind::Stdout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandwire_protocol::CommandSpec;
    use sandwire_protocol::limits::{ATTACHMENTS_MAX, FRAME_OUTPUT_MAX};

    fn command(spec: CommandSpec) -> Arc<Command> {
        let command = Arc::new(Command::new("c".into(), &spec));
        command.started(7, std::time::Duration::ZERO);
        command
    }

    #[tokio::test]
    async fn streams_take_turns_and_the_end_comes_last() {
        let command = command(CommandSpec::new("x"));
        let mut attachment = command.attach(0, 0).unwrap();
        assert_eq!(attachment.started().await, Ok(7));
        let mut out = Vec::new();
        assert_eq!(attachment.try_next(&mut out), None);
        command.append(StreamKind::Stdout, &vec![b'o'; FRAME_OUTPUT_MAX + 1]);
        command.append(StreamKind::Stderr, b"e\xe2");
        command.finish(End::Exited(3));
        command.append(StreamKind::Stdout, b"after the end");
        let mut seen = Vec::new();
        while let Step::Output(kind, offset) = attachment.next(&mut out).await {
            seen.push((kind, offset, out.len()));
        }
        let (stdout, stderr) = (StreamKind::Stdout, StreamKind::Stderr);
        let frame = FRAME_OUTPUT_MAX;
        assert_eq!(seen, [(stdout, 0, frame), (stderr, 0, 4), (stdout, frame as u64, 1)]);
        assert_eq!(attachment.next(&mut out).await, Step::End(End::Exited(3)));
        assert_eq!(attachment.next(&mut out).await, Step::End(End::Exited(3)));
    }

    #[tokio::test]
    async fn waiting_ends_with_output_and_leaving_is_noticed() {
        let command = command(CommandSpec { kill_on_disconnect: Some(true), ..CommandSpec::new("x") });
        assert!(!command.kill_wanted(), "nobody has come yet");
        let mut attachment = command.attach(0, 0).unwrap();
        let other = command.attach(0, 0).unwrap();
        let mut out = Vec::new();
        let (step, ()) =
            tokio::join!(attachment.next(&mut out), async { command.append(StreamKind::Stderr, b"x") });
        assert_eq!(step, Step::Output(StreamKind::Stderr, 0));
        drop(attachment);
        assert!(!command.kill_wanted(), "one is still there");
        drop(other);
        assert!(command.kill_wanted());
    }

    #[test]
    fn attachments_are_bounded() {
        let command = command(CommandSpec::new("x"));
        let mut all: Vec<_> = (0..ATTACHMENTS_MAX).map(|_| command.attach(0, 0).unwrap()).collect();
        assert!(command.attach(0, 0).is_none());
        all.pop();
        assert!(command.attach(0, 0).is_some());
    }
}
