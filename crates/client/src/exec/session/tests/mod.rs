//! The state machine, without sockets and with a clock of its own.

mod any;
mod frames;
mod kill;
mod loss;
mod output;
mod patience;

use super::super::frames::Frames;
use super::*;
use crate::error::Phase;
use crate::{CommandOutcome, Error};
use StreamKind::{Stderr, Stdout};
use sandwire_protocol::ErrorCode;
use tokio_tungstenite::tungstenite::Message;

const STARTED: &str = r#"{"type":"started","command_id":"mine","pid":7}"#;
const SECOND: Duration = Duration::from_secs(1);
const PAUSES: Backoff = Backoff { base: Duration::from_millis(500), max: Duration::from_secs(8) };

fn session(timeout: u64) -> (Session, Instant) {
    let now = Instant::now();
    let spec = CommandSpec { timeout_seconds: Some(timeout), ..CommandSpec::new("x") };
    (Session::execute("mine".to_owned(), &spec, Some(PAUSES), now), now)
}

fn text(session: &mut Session, text: &str) -> Step {
    Frames::default().step(Message::text(text), session).unwrap_or(Step::Ignore)
}

fn running(timeout: u64) -> (Session, Instant) {
    let (mut session, now) = session(timeout);
    let started = session.on_frame(ServerFrame::started("mine", Some(7)), now);
    assert!(matches!(started, Step::Started { .. }));
    (session, now)
}

fn output(session: &mut Session, kind: StreamKind, data: &str, offset: u64, now: Instant) -> Step {
    session.on_output(kind, offset, Bytes::copy_from_slice(data.as_bytes()), now)
}

fn delivered(step: Step) -> Option<(StreamKind, String, u64)> {
    match step {
        Step::Deliver(Delivery { kind, bytes, offset, .. }) => {
            Some((kind, String::from_utf8(bytes.to_vec()).unwrap(), offset))
        }
        _ => None,
    }
}

fn end(step: Step) -> Finish {
    match step {
        Step::End(finish) => finish,
        other => panic!("not the end: {other:?}"),
    }
}

/// The pause before the next connection.
fn pause(session: &Session, now: Instant) -> Duration {
    session.reconnects_at().expect("not lost").saturating_duration_since(now)
}

/// Makes another connection, acknowledged.
fn reattach(session: &mut Session, now: Instant) {
    assert!(matches!(session.on_reconnected(false, now), Step::Ignore));
    assert!(matches!(session.on_frame(ServerFrame::started("mine", None), now), Step::Started { .. }));
}
