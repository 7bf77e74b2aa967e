//! Names of sandboxes: which are allowed, and how one is made up.

use sandwire_protocol::limits::NAME_MAX;
use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const RANDOM_LETTERS: usize = 6;
/// Longest host name of Linux.
const HOSTNAME_MAX: usize = 64;

/// Why `name` can't be a sandbox's name.
pub fn refusal(name: &str) -> Option<String> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Some(format!("must have 1 to {NAME_MAX} characters"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(allowed) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Some(
            "must consist of letters, digits, '-', '_' and '.', and start with a letter or digit".into(),
        );
    }
    Uuid::try_parse(name).is_ok().then(|| "must not look like an id".into())
}

/// A fresh name, `sandbox-` and six letters.
pub(super) fn random() -> String {
    let uuid = Uuid::new_v4();
    let letters = uuid.as_bytes().iter().take(RANDOM_LETTERS);
    let letter = |byte: &u8| ALPHABET.get(usize::from(byte % 32)).map_or('x', |letter| char::from(*letter));
    format!("sandbox-{}", letters.map(letter).collect::<String>())
}

/// The host name of a sandbox of that name.
pub(super) fn hostname(name: &str) -> String {
    let label = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().take(HOSTNAME_MAX).map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_are_allowed() {
        for name in ["a", "sandbox-abc123", "My_Box.v2", "0"] {
            assert_eq!(refusal(name), None, "{name}");
        }
        assert_eq!(refusal(&random()), None);
    }

    #[test]
    fn names_that_could_be_taken_for_something_else_are_refused() {
        for name in ["", "a/b", "..", "-a", "a b", "a:b", "ä", "a\n", "0192e4a0-0000-7000-8000-000000000000"]
        {
            assert!(refusal(name).is_some(), "{name}");
        }
        assert!(refusal(&"x".repeat(NAME_MAX + 1)).is_some());
    }

    proptest! {
        #[test]
        fn every_name_has_a_host_name(name in "[A-Za-z0-9][A-Za-z0-9._-]{0,127}") {
            prop_assert_eq!(refusal(&name), None);
            let host = hostname(&name);
            prop_assert!(host.len() <= HOSTNAME_MAX && !host.starts_with('-'));
            prop_assert!(host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        }
    }
}
