//! What the `Range` header of a download asks for (RFC 9110, section 14).

use std::ops::Range;

/// The part of a file that a request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) enum Part {
    /// All of it: nothing else was asked for, or something that a server may ignore, as several ranges at once.
    Whole,
    /// These bytes, at least one.
    Bytes(Range<u64>),
    /// None: the file ends before them.
    Beyond,
}

/// What `header` means for a file of `size` bytes.
pub(in crate::api) fn parse(header: &str, size: u64) -> Part {
    let Some((unit, range)) = header.split_once('=') else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Part::Whole;
    }
    let Some((first, last)) = range.trim().split_once('-') else { return Part::Whole };
    match (position(first), position(last)) {
        (None, Some(0)) if first.is_empty() => Part::Beyond,
        // An empty file is all of its last bytes, which a partial answer has no words for.
        (None, Some(_)) if first.is_empty() && size == 0 => Part::Whole,
        (None, Some(count)) if first.is_empty() => Part::Bytes(size.saturating_sub(count)..size),
        (Some(start), None) if last.is_empty() => from(start, size, size),
        (Some(start), Some(end)) if start <= end => from(start, end.saturating_add(1), size),
        _ => Part::Whole,
    }
}

fn from(start: u64, end: u64, size: u64) -> Part {
    if start < size { Part::Bytes(start..end.min(size)) } else { Part::Beyond }
}

/// Digits and nothing else; what is too large for a number is beyond every file.
fn position(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_clients_ask_for() {
        for (header, size, part) in [
            ("bytes=0-9", 100, Part::Bytes(0..10)),
            ("bytes=90-", 100, Part::Bytes(90..100)),
            ("bytes=-10", 100, Part::Bytes(90..100)),
            ("bytes=-1000", 100, Part::Bytes(0..100)),
            ("bytes=95-1000", 100, Part::Bytes(95..100)),
            ("bytes=99-99999999999999999999999", 100, Part::Bytes(99..100)),
            ("Bytes = 1-1", 100, Part::Bytes(1..2)),
            ("bytes=100-", 100, Part::Beyond),
            ("bytes=99999999999999999999999-", 100, Part::Beyond),
            ("bytes=-0", 100, Part::Beyond),
            ("bytes=0-", 0, Part::Beyond),
            ("bytes=-5", 0, Part::Whole),
        ] {
            assert_eq!(parse(header, size), part, "{header} of {size}");
        }
    }

    #[test]
    fn what_may_be_ignored_is() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-1",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1-2x",
            "bytes=--1",
            "bytes=1",
            "bytes=0 - 1",
        ] {
            assert_eq!(parse(header, 100), Part::Whole, "{header}");
        }
    }

    proptest! {
        #[test]
        fn parts_are_never_empty_nor_outside(header in "(bytes)?=?[0-9]{0,21}-?[0-9]{0,21}", size: u64) {
            if let Part::Bytes(range) = parse(&header, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn anything_is_understood_or_ignored(header: String, size: u64) {
            parse(&header, size);
        }

        #[test]
        fn what_is_there_is_given(start in 0u64..1000, length in 1u64..1000, size in 1u64..3000) {
            let part = parse(&format!("bytes={start}-{}", start + length - 1), size);
            let expected = match start < size {
                true => Part::Bytes(start..size.min(start + length)),
                false => Part::Beyond,
            };
            prop_assert_eq!(part, expected);
        }
    }
}
