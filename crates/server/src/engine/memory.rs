//! What a sandbox may use of the machine's memory if nobody said.

/// Half of it: one sandbox must not take the server and its neighbours along.
const SHARE: u64 = 2;

/// The limit of sandboxes that ask for none, bytes; `None` if the kernel does not say what there is.
pub(super) fn default_limit() -> Option<u64> {
    let total = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total);
    if total.is_none() {
        tracing::warn!("the size of the memory is unknown: sandboxes that ask for no limit have none");
    }
    total.map(|bytes| bytes / SHARE)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       16384 kB\nx: 2 kB\n"), Some(16 << 20));
        for strange in
            ["", "MemTotal:", "MemTotal: 5 pages", "MemTotal: many kB", "MemTotal: 99999999999999999 kB"]
        {
            assert_eq!(total(strange), None);
        }
        assert!(default_limit().is_some_and(|bytes| bytes > 16 << 20));
    }
}
