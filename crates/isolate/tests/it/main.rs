//! Real sandboxes on this machine, through the crate's public API and nothing else.
//!
//! A harness of its own: entering namespaces must happen before any thread exists.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test program: without the harness clippy does not know that"
)]

mod groups;
mod inside;
mod terminal;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use sandwire_isolate::{Host, HostConfig, enter};

type Test = (&'static str, fn(&Host, &Path));

/// Ordinary users to run as, where root runs this and they exist: one with subordinate ids and one without.
const USERS: &[&str] = &["sandwire-test", "sandwire-single"];

const TESTS: &[Test] = &[
    ("a_command_runs_and_reports", inside::a_command_runs_and_reports),
    ("what_is_missing_is_named", inside::what_is_missing_is_named),
    ("the_tree_is_killed", inside::the_tree_is_killed),
    ("what_outlives_its_command_can_be_killed", inside::what_outlives_its_command_can_be_killed),
    ("init_can_not_be_held_up", inside::init_can_not_be_held_up),
    ("limits_of_init_are_out_of_reach", inside::limits_of_init_are_out_of_reach),
    ("files_are_opened_inside", inside::files_are_opened_inside),
    ("links_lead_nowhere", inside::links_lead_nowhere),
    ("users_are_found_by_name", inside::users_are_found_by_name),
    ("layers_survive_and_do_not_mix", inside::layers_survive_and_do_not_mix),
    ("limits_hold", inside::limits_hold),
    ("a_terminal_is_one", terminal::a_terminal_is_one),
    ("programs_talk_to_their_terminal", terminal::programs_talk_to_their_terminal),
    ("a_window_changes_its_size", terminal::a_window_changes_its_size),
    ("a_terminal_lasts_as_long_as_its_command", terminal::a_terminal_lasts_as_long_as_its_command),
    ("a_terminal_is_its_users", terminal::a_terminal_is_its_users),
    ("a_terminal_leads_nowhere", terminal::a_terminal_leads_nowhere),
    ("terminals_are_bounded_and_returned", terminal::terminals_are_bounded_and_returned),
    ("a_kill_takes_the_jobs_of_a_terminal", terminal::a_kill_takes_the_jobs_of_a_terminal),
    ("signals_reach_the_group", terminal::signals_reach_the_group),
    ("signals_reach_nobody_else", terminal::signals_reach_nobody_else),
    ("a_kill_takes_daemons", groups::a_kill_takes_daemons),
    ("a_kill_is_faster_than_forks", groups::a_kill_is_faster_than_forks),
    ("a_command_that_ate_the_memory_is_known", groups::a_command_that_ate_the_memory_is_known),
    ("groups_do_not_pile_up", groups::groups_do_not_pile_up),
    ("nothing_is_left_behind", inside::nothing_is_left_behind),
];

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let init_path = build_init();
    let users_failed = USERS.iter().filter(|user| !run_as(user, &init_path)).count();
    let mode = match enter() {
        Ok(mode) => mode,
        Err(error) => {
            println!("skipped: {error} ({:?})\n0 passed, 0 failed, {} skipped", error.remedy(), TESTS.len());
            return ExitCode::SUCCESS;
        }
    };
    let state = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let config = HostConfig { state_dir: state.path().to_owned(), init_path };
    let host = Host::prepare(&config, mode).expect("a host");
    let mut failed = 0;
    let wanted: Vec<&(&str, _)> = TESTS.iter().filter(|(name, _)| is_wanted(name)).collect();
    for (name, test) in &wanted {
        let dir = state.path().join(name);
        std::fs::create_dir(&dir).expect("a directory");
        let outcome = std::panic::catch_unwind(|| test(&host, &dir));
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed += usize::from(outcome.is_err());
    }
    host.shutdown().expect("shutdown");
    println!("{} passed, {failed} failed", wanted.len() - failed);
    ExitCode::from(u8::from(failed + users_failed > 0))
}

/// As with the usual harness, words are parts of names to run.
fn is_wanted(name: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    words.peek().is_none() || words.any(|word| name.contains(&word))
}

/// Runs all of this again as an ordinary user; whether it succeeded.
fn run_as(user: &str, init_path: &Path) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").expect("users");
    let entry = passwd.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(':'));
    let Some(ids) = entry.map(|entry| entry.split(':').skip(1).take(2).map(str::parse::<u32>)) else {
        println!("skipped as {user}: no such user here");
        return true;
    };
    let ids: Vec<u32> = ids.collect::<Result<_, _>>().expect("ids");
    // The user may not be able to reach the build directory.
    let programs = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    std::fs::set_permissions(programs.path(), Permissions::from_mode(0o755)).expect("chmod");
    let (test, init) = (programs.path().join("it"), programs.path().join("init"));
    std::fs::copy(std::env::current_exe().expect("own path"), &test).expect("copy");
    std::fs::copy(init_path, &init).expect("copy");
    println!("as {user}:");
    let status = Command::new(test)
        .args(std::env::args().skip(1))
        .uid(ids[0])
        .gid(ids[1])
        .env("SANDWIRE_INIT", init)
        .current_dir("/")
        .status();
    status.expect("run").success()
}

/// The static init, built now unless the caller has one.
fn build_init() -> PathBuf {
    if let Some(path) = std::env::var_os("SANDWIRE_INIT") {
        return path.into();
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../init/Cargo.toml");
    let status = Command::new(cargo)
        .args(["rustc", "-q", "--manifest-path", manifest, "--bin", "sandwire-init", "--"])
        .args(["-C", "target-feature=+crt-static"])
        .status()
        .expect("cargo");
    assert!(status.success(), "init does not build");
    let test = std::env::current_exe().expect("own path");
    test.ancestors().nth(2).expect("target/debug").join("sandwire-init")
}
