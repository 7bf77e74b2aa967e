//! The cgroups of commands: what a kill finds by them, and what they tell.

use std::fs;
use std::io::Read;
use std::path::Path;

use sandwire_isolate::wire::{Event, Used};
use sandwire_isolate::{CommandGroup, CommandGroups, Host, Limits, Sandbox};

use crate::inside::{create, event, run, send_start, spawn, spec, until_left};

/// Runs a command in a group of its own until its main process ends: output, and what that used.
fn run_in(host: &Host, sandbox: &Sandbox, group: &CommandGroup, command: &str) -> (String, Used) {
    let mut start = spawn(1, &["/bin/bash", "-c", command], "/");
    start.joins = true;
    let (started, mut output) = send_start(host, sandbox, start, Some(group.entrance().unwrap()));
    assert!(matches!(started, Event::Spawned { .. }), "{started:?}");
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    let Event::Exited { used, .. } = event(sandbox).0 else { panic!("no exit") };
    (text, used)
}

fn groups(sandbox: &Sandbox) -> Option<std::sync::Arc<CommandGroups>> {
    let groups = sandbox.groups();
    if groups.is_none() {
        println!("there are no cgroups for commands here");
    }
    groups
}

pub(crate) fn a_kill_takes_daemons(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let Some(groups) = groups(&sandbox) else { return };
    let daemon = "(setsid bash -c '(setsid sleep 1000 &)' >/dev/null 2>&1 &)";
    let (mine, other) = (groups.take().unwrap(), groups.take().unwrap());
    run_in(host, &sandbox, &mine, &format!("{daemon}; {daemon}"));
    run_in(host, &sandbox, &other, daemon);
    until_left(host, &sandbox, &[3]);
    mine.kill().unwrap();
    until_left(host, &sandbox, &[1]);
    other.kill().unwrap();
    until_left(host, &sandbox, &[0]);
}

pub(crate) fn a_kill_is_faster_than_forks(host: &Host, dir: &Path) {
    let sandbox = host.create(&spec(
        dir,
        Limits { pids: host.isolation().limits.pids.then_some(200), ..Limits::default() },
    ));
    let sandbox = sandbox.unwrap();
    let Some(groups) = groups(&sandbox) else { return };
    let group = groups.take().unwrap();
    let attack = "fork() { while :; do (setsid sleep 0.01 &) ; done; }; for i in 1 2 3 4; do fork >/dev/null 2>&1 & done; disown -a";
    run_in(host, &sandbox, &group, attack);
    group.kill().unwrap();
    // It can only be used again when nothing is left in it.
    groups.give_back(&group);
    until_left(host, &sandbox, &[0]);
    assert_eq!(run(host, &sandbox, "pgrep -c bash").1, "0\n", "bash became pgrep");
}

pub(crate) fn a_command_that_ate_the_memory_is_known(host: &Host, dir: &Path) {
    if !host.isolation().limits.memory {
        println!("memory is not limited here");
        return;
    }
    let limits = Limits { memory_bytes: Some(64 << 20), ..Limits::default() };
    let sandbox = host.create(&spec(dir, limits)).unwrap();
    let Some(groups) = groups(&sandbox) else { return };
    let (greedy, modest) = (groups.take().unwrap(), groups.take().unwrap());
    run_in(host, &sandbox, &greedy, "python3 -c 'x = bytearray(256 << 20)'");
    assert_eq!(greedy.usage().oom_killed, Some(true));
    groups.give_back(&greedy);
    let (_, used) =
        run_in(host, &sandbox, &modest, "python3 -c 'x = bytearray(20 << 20); print(sum(range(2000000)))'");
    assert_eq!(modest.usage().oom_killed, Some(false));
    assert!(modest.usage().peak_bytes.unwrap() > 20 << 20, "{:?}", modest.usage());
    assert!(used.peak_bytes > 20 << 20 && used.cpu_micros > 0, "{used:?}");
    let again = groups.take().unwrap();
    run_in(host, &sandbox, &again, "true");
    assert_eq!(again.usage().oom_killed, Some(false), "what came before is not this command's");
}

pub(crate) fn groups_do_not_pile_up(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let Some(groups) = groups(&sandbox) else { return };
    for _ in 0..50 {
        let group = groups.take().unwrap();
        run_in(host, &sandbox, &group, "echo x > /root/x");
        groups.give_back(&group);
    }
    let names = run(host, &sandbox, "cat /proc/1/cgroup").1;
    assert!(!names.contains("sandwire"), "{names}");
    let all: Vec<_> = (0..20).map(|_| groups.take().unwrap()).collect();
    all.iter().for_each(|group| groups.give_back(group));
    groups.sweep();
    let live = groups.take().unwrap();
    run_in(host, &sandbox, &live, "setsid sleep 1000 >/dev/null 2>&1 &");
    groups.give_back(&live);
    // With somebody in one of them, the sandbox's end removes them all the same.
    sandbox.destroy().unwrap();
    assert!(groups.take().is_err());
    let record = fs::read_to_string(dir.parent().unwrap().join("cgroups")).unwrap();
    for place in record.lines() {
        assert!(!Path::new(place).join(dir.file_name().unwrap()).exists(), "{place}");
    }
}
