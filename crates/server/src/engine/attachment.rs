//! One client's view of a command: it waits for what comes next and takes it, at its own pace.

use std::sync::Arc;

use bytes::BytesMut;
use sandwire_protocol::StreamKind;
use tokio::sync::watch;

use super::command::{Command, End, Step};
use super::fault::Fault;
use super::stream::Form;

/// What a client wants to see: everything from these offsets on, in this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Also what the offsets count.
    pub form: Form,
    /// First byte of stdout wanted.
    pub stdout_offset: u64,
    /// First byte of stderr wanted.
    pub stderr_offset: u64,
}

impl View {
    /// Everything.
    #[must_use]
    pub fn all(form: Form) -> Self {
        Self { form, stdout_offset: 0, stderr_offset: 0 }
    }
}

/// One client's view of a command. Dropping it detaches.
pub struct Attachment {
    command: Arc<Command>,
    key: u64,
    changed: watch::Receiver<()>,
    /// The stream that is looked at first: they take turns.
    first: StreamKind,
    /// Whether the client said that it leaves.
    left: bool,
}

impl Attachment {
    pub(super) fn new(command: Arc<Command>, key: u64, changed: watch::Receiver<()>) -> Self {
        Self { command, key, changed, first: StreamKind::Stdout, left: false }
    }

    /// The command.
    pub fn command(&self) -> &Arc<Command> {
        &self.command
    }

    /// Its number among the command's attachments.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The client leaves on purpose: it will not come back for what it has not acknowledged.
    pub fn leave(&mut self) {
        self.left = true;
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

    /// Waits for the next step; output is appended to `out`. Cancel safe.
    pub async fn next(&mut self, out: &mut BytesMut) -> Step {
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
    pub fn try_next(&mut self, out: &mut BytesMut) -> Option<Step> {
        let step = self.command.step(self.key, self.first, out)?;
        if let Step::Output(kind, _) = step {
            self.first = other(kind);
        }
        Some(step)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.command.detach(self.key, !self.left);
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

    #[test]
    fn what_a_pump_left_in_its_pipe_is_not_quiet() {
        let command = command(CommandSpec::new("x"));
        command.hold(StreamKind::Stderr, true);
        assert_eq!(command.quiet_since(), None, "whatever room there is");
        command.hold(StreamKind::Stderr, false);
        assert!(command.quiet_since().is_some());
        command.hold(StreamKind::Stdout, true);
        command.close_stream(StreamKind::Stdout);
        assert!(command.quiet_since().is_some(), "it will not go on");
    }

    #[tokio::test]
    async fn streams_take_turns_and_the_end_comes_last() {
        let command = command(CommandSpec::new("x"));
        let mut attachment = command.attach(View::all(Form::Text)).unwrap();
        assert_eq!(attachment.started().await, Ok(7));
        let mut out = BytesMut::new();
        assert_eq!(attachment.try_next(&mut out), None);
        command.append(StreamKind::Stdout, &vec![b'o'; FRAME_OUTPUT_MAX + 1]);
        command.append(StreamKind::Stderr, b"e\xe2");
        command.finish(End::Exited { code: 3, signal: None });
        command.append(StreamKind::Stdout, b"after the end");
        let mut seen = Vec::new();
        while let Step::Output(kind, offset) = attachment.next(&mut out).await {
            seen.push((kind, offset, out.len()));
            out.clear();
        }
        let (stdout, stderr) = (StreamKind::Stdout, StreamKind::Stderr);
        let frame = FRAME_OUTPUT_MAX;
        assert_eq!(seen, [(stdout, 0, frame), (stderr, 0, 4), (stdout, frame as u64, 1)]);
        assert_eq!(attachment.next(&mut out).await, Step::End(End::Exited { code: 3, signal: None }));
        assert_eq!(attachment.next(&mut out).await, Step::End(End::Exited { code: 3, signal: None }));
    }

    #[tokio::test]
    async fn waiting_ends_with_output_and_leaving_is_noticed() {
        let command = command(CommandSpec { kill_on_disconnect: Some(true), ..CommandSpec::new("x") });
        assert!(!command.kill_wanted(), "nobody has come yet");
        let mut attachment = command.attach(View::all(Form::Text)).unwrap();
        let other = command.attach(View::all(Form::Text)).unwrap();
        let mut out = BytesMut::new();
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
        let mut all: Vec<_> =
            (0..ATTACHMENTS_MAX).map(|_| command.attach(View::all(Form::Text)).unwrap()).collect();
        assert!(command.attach(View::all(Form::Text)).is_none());
        all.pop();
        assert!(command.attach(View::all(Form::Text)).is_some());
    }
}
