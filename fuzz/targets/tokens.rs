//! Links, services and cursors: nobody makes a signed text but the server, and one for a purpose serves no other.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sandwire_server::engine::{Purpose, Secret};
use std::sync::LazyLock;

static SECRET: LazyLock<Secret> = LazyLock::new(Secret::random);

#[derive(Debug, Arbitrary)]
struct Forgery<'a> {
    claims: (u64, &'a str),
    at: usize,
    with: &'a str,
    out_of_thin_air: &'a str,
}

fuzz_target!(|forgery: Forgery| {
    type Claims = (u64, String);
    let token = SECRET.sign(Purpose::Download, &forgery.claims);
    let read: Option<Claims> = SECRET.verify(Purpose::Download, &token);
    assert_eq!(read.as_ref().map(|(number, text)| (*number, text.as_str())), Some(forgery.claims));
    assert!(SECRET.verify::<Claims>(Purpose::Cursor, &token).is_none());
    assert!(SECRET.verify::<Claims>(Purpose::Download, forgery.out_of_thin_air).is_none());
    let at = (0..=forgery.at % (token.len() + 1)).rev().find(|at| token.is_char_boundary(*at)).unwrap_or(0);
    let (before, after) = token.split_at(at);
    let rest: String = after.chars().skip(forgery.with.chars().count()).collect();
    let forged = format!("{before}{}{rest}", forgery.with);
    assert!(forged == token || SECRET.verify::<Claims>(Purpose::Download, &forged).is_none(), "{forged}");
});
