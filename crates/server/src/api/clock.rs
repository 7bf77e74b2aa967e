//! Timestamps as the control plane writes them.

use std::time::{SystemTime, UNIX_EPOCH};

/// The first second of the year 1 and the last one of 9999: RFC 3339 has four digits for a year, and the calendars of
/// common languages have no year 0.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// RFC 3339 in UTC with milliseconds; times before 1970 become 1970.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339_of(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_millis())
}

/// RFC 3339 in UTC of a time since 1970, or before it; what lies beyond the years 1 to 9999 becomes the nearest of them.
pub(super) fn rfc3339_of(seconds: i64, millis: u32) -> String {
    let (seconds, millis) = (seconds.clamp(*SECONDS.start(), *SECONDS.end()), millis.min(999));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day since 1970, or before it back to the year 1. Counts in years that begin in March, so that
/// the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn known_times() {
        let at = |seconds, millis: u32| rfc3339(UNIX_EPOCH + Duration::new(seconds, millis * 1_000_000));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399, 7), "2000-02-28T23:59:59.007Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_709_251_200, 0), "2024-03-01T00:00:00.000Z");
        assert_eq!(at(4_102_444_799, 999), "2099-12-31T23:59:59.999Z");
    }

    #[test]
    fn times_before_1970() {
        assert_eq!(rfc3339_of(-1, 999), "1969-12-31T23:59:59.999Z");
        assert_eq!(rfc3339_of(-2_203_891_200, 0), "1900-03-01T00:00:00.000Z");
        assert_eq!(rfc3339_of(i64::MIN, 0), "0001-01-01T00:00:00.000Z");
        assert_eq!(rfc3339_of(i64::MAX, u32::MAX), "9999-12-31T23:59:59.999Z");
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_http_date(seconds in 0u64..4_000_000_000) {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            let (ours, http) = (rfc3339(time), httpdate::fmt_http_date(time));
            prop_assert_eq!(ours.get(11..19), http.get(17..25));
            prop_assert_eq!(ours.get(8..10), http.get(5..7));
            prop_assert_eq!(ours.get(..4), http.get(12..16));
        }
    }
}
