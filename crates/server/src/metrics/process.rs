//! The server's own process, by the names that all exporters use.

use std::fs;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::gauge;

/// What `/proc/self/stat` says.
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    /// Ticks from the machine's start to the process's.
    started: u64,
    resident_pages: u64,
}

pub(super) fn registry() -> Registry {
    let mut registry = Registry::default();
    let build = prometheus_client::metrics::family::Family::<super::Label, Gauge>::default();
    build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register("sandwired_build_info", "Version of the server; always 1", build);
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(stat) {
        let ticks = clock_ticks_per_second();
        let cpu: Counter<f64, AtomicU64> = Counter::default();
        cpu.inc_by(seconds(stat.cpu_ticks, ticks));
        registry.register("process_cpu_seconds", "Processor time, user and system", cpu);
        let resident = stat.resident_pages.saturating_mul(page_size() as u64);
        registry.register("process_resident_memory_bytes", "Resident memory", gauge(resident));
        registry.register("process_threads", "Threads", gauge(stat.threads));
        if let Some(start) = start(stat.started, ticks) {
            let started: Gauge<f64, AtomicU64> = Gauge::default();
            started.set(start);
            registry.register("process_start_time_seconds", "Start, seconds since the epoch", started);
        }
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // One of them reads the directory.
        let open = descriptors.count().saturating_sub(1) as u64;
        registry.register("process_open_fds", "Open file descriptors", gauge(open));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        registry.register("process_max_fds", "Limit of open file descriptors", gauge(most));
    }
    registry
}

/// The second field is the program's name in parentheses and may contain anything.
fn stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // Numbered from 3, as in proc_pid_stat(5).
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: field(14)?.saturating_add(field(15)?),
        threads: field(20)?,
        started: field(22)?,
        resident_pages: field(24)?,
    })
}

fn seconds(ticks: u64, per_second: u64) -> f64 {
    std::time::Duration::from_millis(ticks.saturating_mul(1000) / per_second.max(1)).as_secs_f64()
}

fn start(ticks: u64, per_second: u64) -> Option<f64> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    Some(now - uptime + seconds(ticks, per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_programs_do_not_confuse() {
        let text =
            "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 1000 4096 25 18446744073709551615";
        let stat = stat(text).unwrap();
        assert_eq!((stat.cpu_ticks, stat.threads, stat.started, stat.resident_pages), (200, 3, 1000, 25));
        assert!(super::stat("7 (a) S 1").is_none() && super::stat("").is_none());
    }

    #[test]
    fn this_process_has_started_before_now() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let text = fs::read_to_string("/proc/self/stat").unwrap();
        let started = start(stat(&text).unwrap().started, clock_ticks_per_second()).unwrap();
        assert!(started <= now + 1.0 && started > now - 3600.0, "{started} {now}");
    }
}
