//! How many bytes of each writer a command's stdin has taken, so that input which is sent again after a lost connection
//! is taken once. Bounded: the writer that was heard least recently is forgotten.

use std::collections::VecDeque;

use sandwire_protocol::limits::ATTACHMENTS_MAX;

/// The least recently heard first.
#[derive(Default)]
pub(super) struct Writers(VecDeque<Writer>);

struct Writer {
    name: String,
    taken: u64,
}

impl Writers {
    /// Bytes taken of that writer; 0 if it is not known.
    pub(super) fn taken(&self, name: &str) -> u64 {
        self.0.iter().find(|writer| writer.name == name).map_or(0, |writer| writer.taken)
    }

    /// Notes that a writer was heard, and what was taken of it so far.
    pub(super) fn set(&mut self, name: &str, taken: u64) {
        let known = self.0.iter().position(|writer| writer.name == name).and_then(|at| self.0.remove(at));
        let name = known.map_or_else(|| name.to_owned(), |writer| writer.name);
        self.0.push_back(Writer { name, taken });
        if self.0.len() > ATTACHMENTS_MAX {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_heard_goes() {
        let mut writers = Writers::default();
        for n in 0..ATTACHMENTS_MAX {
            writers.set(&n.to_string(), 5);
        }
        writers.set("0", 7);
        writers.set("new", 1);
        assert_eq!(["0", "1", "2", "new"].map(|name| writers.taken(name)), [7, 0, 5, 1]);
    }
}
