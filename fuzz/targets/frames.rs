//! Every parser of the exec socket: none panics, and the fast one for output frames never disagrees with `serde_json`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sandwire_client::fuzzing::{parse_fast, parse_slow};
use sandwire_protocol::extension::{decode_input, decode_output, encode_output_header};
use sandwire_protocol::{ClientFrame, ServerFrame};

fuzz_target!(|bytes: &[u8]| {
    if let Some((kind, offset, rest)) = decode_output(bytes) {
        assert_eq!([&encode_output_header(kind, offset)[..], rest].concat(), bytes);
    }
    let _ = decode_input(bytes);
    let _ = serde_json::from_slice::<ServerFrame<'_>>(bytes);
    let _ = serde_json::from_slice::<ClientFrame>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        compare(text);
    }
});

fn compare(text: &str) {
    let Some(fast) = parse_fast(text) else { return };
    match parse_slow(text) {
        Some(slow) => assert_eq!(fast, slow, "{text:?}"),
        // The one thing that it lets pass and `serde_json` does not.
        None => assert!(text.bytes().any(|byte| byte < b' '), "read by the fast parser alone: {text:?}"),
    }
}
