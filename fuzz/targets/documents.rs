//! What comes from a sandbox and goes into one: the documents of `init` and of its workers, and patterns of paths. The code
//! in a sandbox is hostile and may have taken `init` over: whatever it says is read or refused, never more than that.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sandwire_init::job::{Job, Record};
use sandwire_init::pattern::Pattern;
use sandwire_init::wire::{Event, Request, Setup};
use serde::Serialize;
use serde::de::DeserializeOwned;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    document: &'a [u8],
    pattern: &'a str,
    path: Vec<&'a str>,
}

fuzz_target!(|input: Input| {
    survives::<Event>(input.document);
    survives::<Request>(input.document);
    survives::<Setup>(input.document);
    survives::<Job>(input.document);
    survives::<Record>(input.document);
    walks(input.pattern, &input.path);
});

/// What is understood is said again in the same words.
fn survives<T: DeserializeOwned + Serialize>(document: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(document) else { return };
    let said = serde_json::to_string(&read).expect("what was read can be written");
    let again: T = serde_json::from_str(&said).expect("what was written can be read");
    assert_eq!(serde_json::to_string(&again).expect("written"), said);
}

/// A pattern that is over matches nothing below either: a walk may leave such a directory out.
fn walks(pattern: &str, path: &[&str]) {
    let Ok(pattern) = Pattern::new(pattern) else { return };
    let mut progress = pattern.start();
    for name in path {
        let over = !pattern.goes_on(&progress);
        progress = pattern.step(&progress, name);
        assert!(!over || !pattern.is_matched(&progress) && !pattern.goes_on(&progress));
    }
}
