//! What a request says to the server: ranges, lists, hosts, bodies. It is understood or refused by name, in no other way.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sandwire_protocol::{CreateSandbox, DownloadUrlRequest, UpdateSandbox};
use sandwire_server::fuzzing::{list_is_asked_for, part_of_file, service_of_host};
use serde_json::from_slice;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    range: &'a str,
    size: u64,
    list: Vec<(&'a str, &'a str)>,
    host: &'a str,
    body: &'a [u8],
}

fuzz_target!(|input: Input| {
    if let Some(part) = part_of_file(input.range, input.size) {
        assert!(part.start < part.end && part.end <= input.size, "{part:?}");
    }
    let pairs = input.list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    list_is_asked_for(&pairs.collect::<Vec<_>>());
    if let Some((name, port)) = service_of_host(input.host) {
        assert!(port > 0 && input.host.to_ascii_lowercase().starts_with(&name));
    }
    let _ = from_slice::<CreateSandbox>(input.body);
    let _ = from_slice::<UpdateSandbox>(input.body);
    let _ = from_slice::<DownloadUrlRequest>(input.body);
});
