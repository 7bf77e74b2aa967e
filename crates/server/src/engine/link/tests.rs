//! What a link promises to those who wait.

use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;

fn link() -> (Link, OwnedFd) {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    (Link::new(ours.as_fd(), None).unwrap(), theirs)
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_not_waited_for_for_ever() {
    let (link, _init) = link();
    let mut turns = Vec::new();
    for _ in 0..ARCHIVE_WORKERS_MAX {
        turns.push(link.worker_turn(true).await.unwrap());
    }
    let refused = link.worker_turn(true).await.unwrap_err();
    assert_eq!(refused.kind, ErrorType::ServiceUnavailable);
    for _ in ARCHIVE_WORKERS_MAX..WORKERS_MAX {
        turns.push(link.worker_turn(false).await.unwrap());
    }
    assert_eq!(link.worker_turn(false).await.unwrap_err().kind, ErrorType::ServiceUnavailable);
    turns.remove(0);
    link.worker_turn(true).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_forgotten() {
    let (link, _init) = link();
    // Until the socket is full, requests are sent and wait for their answer; then they wait to be sent.
    for _ in 0..500 {
        let asked = link.ask(|req| Request::FindUser { req, user: "x".repeat(10_000) }, &[]);
        assert!(timeout(Duration::from_millis(1), asked).await.is_err());
    }
    assert!(lock(&link.waiting).answers.is_empty());
}
