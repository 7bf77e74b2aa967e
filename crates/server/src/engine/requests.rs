//! What attachments ask of a command's driver, until it looks. Bounded by its nature: as in the kernel, a signal that
//! waits already is not queued twice, and only the newest size of a window matters.

pub use sandwire_isolate::wire::WindowSize;
use sandwire_protocol::Signal;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Any but SIGKILL, which is a kill.
    Signal(Signal),
    Resize(WindowSize),
}

#[derive(Default)]
pub(super) struct Requests(Vec<Request>);

impl Requests {
    pub(super) fn push(&mut self, request: Request) {
        let replaces = |waiting: &Request| match (waiting, &request) {
            (Request::Signal(waiting), Request::Signal(new)) => waiting == new,
            (Request::Resize(_), Request::Resize(_)) => true,
            _ => false,
        };
        match self.0.iter_mut().find(|waiting| replaces(waiting)) {
            Some(waiting) => *waiting = request,
            None => self.0.push(request),
        }
    }

    /// What waits, in order.
    pub(super) fn take(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_waits_twice() {
        let size = |cols| Request::Resize(WindowSize { cols, rows: 24 });
        let mut requests = Requests::default();
        for _ in 0..1000 {
            let (int, term) = (Request::Signal(Signal::Int), Request::Signal(Signal::Term));
            [int, size(80), term, size(132)].into_iter().for_each(|request| requests.push(request));
        }
        let (int, term) = (Request::Signal(Signal::Int), Request::Signal(Signal::Term));
        assert_eq!(requests.take(), [int, size(132), term]);
        assert_eq!(requests.take(), []);
    }
}
