//! What happens in one sandbox at a time.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{PipeReader, Read, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use sandwire_isolate::socket::{recv, send};
use sandwire_isolate::wire::{Account, Event, Request, Spawn};
use sandwire_isolate::{Host, Limits, Sandbox, SandboxSpec};
use sandwire_protocol::IdMapping;

pub(crate) fn spec(dir: &Path, limits: Limits) -> SandboxSpec {
    let id = dir.file_name().unwrap().to_str().unwrap().to_owned();
    SandboxSpec { id, dir: dir.to_owned(), hostname: "box".to_owned(), limits, disposable: true }
}

pub(crate) fn create(host: &Host, dir: &Path) -> Sandbox {
    host.create(&spec(dir, Limits::default())).unwrap()
}

pub(crate) fn event(sandbox: &Sandbox) -> (Event, Vec<OwnedFd>) {
    poll(&mut [PollFd::new(&sandbox.control(), PollFlags::IN)], None).unwrap();
    recv(sandbox.control()).unwrap().expect("init lives")
}

pub(crate) fn ask(sandbox: &Sandbox, request: &Request) -> (Event, Vec<OwnedFd>) {
    ask_with(sandbox, request, &[])
}

fn ask_with(sandbox: &Sandbox, request: &Request, fds: &[BorrowedFd<'_>]) -> (Event, Vec<OwnedFd>) {
    send(sandbox.control(), request, fds).unwrap();
    event(sandbox)
}

fn commit(sandbox: &Sandbox, created: Event, file: impl AsFd) -> Event {
    let Event::FileCreated { req, temp, dest } = created else { panic!("{created:?}") };
    ask_with(sandbox, &Request::CommitFile { req, temp, dest }, &[file.as_fd()]).0
}

/// Starts `bash -c command`, stderr on stdout.
pub(crate) fn start(
    host: &Host,
    sandbox: &Sandbox,
    id: u64,
    argv: &[&str],
    cwd: &str,
) -> (Event, PipeReader) {
    send_start(host, sandbox, spawn(id, argv, cwd), None)
}

/// The same in `/`, as another user.
fn start_as(host: &Host, sandbox: &Sandbox, account: &Account, argv: &[&str]) -> (Event, PipeReader) {
    let Account { uid, gid, groups, .. } = account.clone();
    send_start(host, sandbox, Spawn { uid, gid, groups, ..spawn(1, argv, "/") }, None)
}

pub(crate) fn spawn(id: u64, argv: &[&str], cwd: &str) -> Spawn {
    Spawn {
        id,
        argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        cwd: cwd.to_owned(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        pty: None,
        joins: false,
    }
}

/// `entrance` is that of the command's cgroup.
pub(crate) fn send_start(
    host: &Host,
    sandbox: &Sandbox,
    spawn: Spawn,
    entrance: Option<OwnedFd>,
) -> (Event, PipeReader) {
    let (output, theirs) = pipe().unwrap();
    let (uid, gid) = host.outside_ids(spawn.uid, spawn.gid);
    fchown(&theirs, Some(uid), Some(gid)).unwrap();
    let null = File::open("/dev/null").unwrap();
    let spawn = Request::Spawn(spawn);
    let stdio: [BorrowedFd<'_>; 3] = [null.as_fd(), theirs.as_fd(), theirs.as_fd()];
    let fds: Vec<_> = stdio.into_iter().chain(entrance.as_ref().map(AsFd::as_fd)).collect();
    send(sandbox.control(), &spawn, &fds).unwrap();
    (event(sandbox).0, output)
}

/// Runs a command to its end: exit code and output.
pub(crate) fn run(host: &Host, sandbox: &Sandbox, command: &str) -> (i32, String) {
    let (started, mut output) = start(host, sandbox, 1, &["/bin/bash", "-c", command], "/root");
    assert!(matches!(started, Event::Spawned { .. }), "{started:?}");
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    let Event::Exited { code, .. } = event(sandbox).0 else { panic!("no exit") };
    (code, text)
}

/// Waits until so many processes that sleep are left: a killed one still has to die.
pub(crate) fn until_left(host: &Host, sandbox: &Sandbox, counts: &[usize]) {
    while !counts.contains(&run(host, sandbox, "pgrep sleep").1.lines().count()) {}
}

pub(crate) fn a_command_runs_and_reports(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    assert_eq!(run(host, &sandbox, "echo $((6*7)); exit 3"), (3, "42\n".to_owned()));
    assert_eq!(run(host, &sandbox, "kill -9 $$"), (137, String::new()));
    assert_eq!(run(host, &sandbox, "id -u; hostname; echo ok > /dev/stdout"), (0, "0\nbox\nok\n".to_owned()));
    // Init's socket above all: whoever holds it can speak as init.
    assert_eq!(
        run(host, &sandbox, "ls /proc/self/fd | tr '\n' ' '").1,
        "0 1 2 3 ",
        "3 is the directory itself"
    );
    assert_eq!(run(host, &sandbox, "ls -l /proc/self/fd | grep -c socket").1, "0\n");
    sandbox.destroy().unwrap();
}

pub(crate) fn what_is_missing_is_named(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    for (argv, cwd, word) in
        [("/bin/none", "/", "/bin/none"), ("/bin/bash", "/none", "/none"), ("none", "/", "none")]
    {
        let (event, _) = start(host, &sandbox, 1, &[argv], cwd);
        let Event::SpawnFailed { failure, .. } = event else { panic!("{event:?}") };
        assert_eq!(failure.errno, libc::ENOENT);
        assert!(failure.step.contains(word), "{failure}");
    }
    assert_eq!(run(host, &sandbox, "none").0, 127);
}

pub(crate) fn the_tree_is_killed(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let command = "sleep 1000 & setsid sleep 1000 & (setsid bash -c 'sleep 1000; true' &) ; echo ready; wait";
    let (_, mut output) = start(host, &sandbox, 1, &["/bin/bash", "-c", command], "/");
    let mut ready = [0; 6];
    output.read_exact(&mut ready).unwrap();
    send(sandbox.control(), &Request::Kill { id: 1 }, &[]).unwrap();
    assert!(matches!(event(&sandbox).0, Event::Exited { code: 137, signal: Some(9), .. }));
    // What opened a session and lost its parent went to the main process, even without a cgroup.
    until_left(host, &sandbox, &[0]);
}

pub(crate) fn what_outlives_its_command_can_be_killed(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    assert_eq!(run(host, &sandbox, "sleep 1000 >/dev/null 2>&1 & true").0, 0);
    // It lives on.
    until_left(host, &sandbox, &[1]);
    let (started, _) =
        start(host, &sandbox, 2, &["/bin/bash", "-c", "sleep 2000 >/dev/null 2>&1 & true"], "/");
    assert!(matches!(started, Event::Spawned { .. }));
    assert!(matches!(event(&sandbox).0, Event::Exited { id: 2, .. }));
    send(sandbox.control(), &Request::Kill { id: 2 }, &[]).unwrap();
    // Only its own.
    until_left(host, &sandbox, &[1]);
}

pub(crate) fn init_can_not_be_held_up(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    // Stops every process again and again, the children of init that have not executed yet among them.
    let attack = "exec python3 -c '\nimport os, signal\nprint(1, flush=True)\nwhile 1:\n try: os.kill(-1, signal.SIGSTOP)\n except OSError: pass'";
    let (started, mut output) = start(host, &sandbox, 1, &["/bin/bash", "-c", attack], "/");
    assert!(matches!(started, Event::Spawned { .. }), "{started:?}");
    output.read_exact(&mut [0; 2]).unwrap();
    for id in 2..5 {
        let (answer, _) = start(host, &sandbox, id, &["/bin/true"], "/");
        assert!(matches!(answer, Event::Spawned { .. } | Event::SpawnFailed { .. } | Event::Exited { .. }));
    }
    send(sandbox.control(), &Request::Kill { id: 1 }, &[]).unwrap();
    while !matches!(event(&sandbox).0, Event::Exited { id: 1, code: 137, .. }) {}
}

pub(crate) fn limits_of_init_are_out_of_reach(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let attack =
        "python3 -c 'import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (4, 4))' 2>&1 | tail -1";
    assert!(run(host, &sandbox, attack).1.contains("PermissionError"));
    let inotify = "python3 -c '\nimport ctypes\nc = ctypes.CDLL(None)\nprint(sum(c.inotify_init() >= 0 for _ in range(200)))'";
    assert_eq!(run(host, &sandbox, inotify).1, "32\n", "the host's user has 128 for everything");
    let (own, of_init) = (run(host, &sandbox, "ulimit -Hn").1, descriptors_max());
    assert!(own.trim().parse::<u64>().unwrap() < of_init, "{own} of {of_init}");
}

fn descriptors_max() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn create_file(req: u64, path: &str) -> Request {
    Request::CreateFile { req, path: path.to_owned(), mode: None, owner: "root".to_owned() }
}

pub(crate) fn files_are_opened_inside(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let (created, mut fds) = ask(&sandbox, &create_file(1, "a/b/file"));
    assert!(
        matches!(&created, Event::FileCreated { dest, .. } if dest == "/home/user/a/b/file"),
        "{created:?}"
    );
    let mut file = File::from(fds.remove(0));
    file.write_all(b"content").unwrap();
    assert_eq!(run(host, &sandbox, "ls -A /home/user/a/b").1, "", "nothing that could be left behind");
    assert_eq!(commit(&sandbox, created, &file), Event::Done { req: 1 });
    drop(file);
    assert_eq!(
        run(host, &sandbox, "stat -c '%a %u' /home/user/a/b/file; cat /home/user/a/b/*").1,
        "644 0\ncontent"
    );

    if host.isolation().ids == sandwire_protocol::IdMapping::Range {
        let owner = "1000:100".to_owned();
        let path = "/var/owned/file".to_owned();
        let (created, fds) = ask(&sandbox, &Request::CreateFile { req: 7, path, mode: Some(0o4600), owner });
        assert_eq!(commit(&sandbox, created, &fds[0]), Event::Done { req: 7 });
        assert_eq!(
            run(host, &sandbox, "stat -c '%a %u:%g' /var /var/owned /var/owned/file").1,
            "755 0:0\n755 1000:100\n4600 1000:100\n"
        );
    }

    run(host, &sandbox, "chmod 750 /home/user/a/b/file; ln -s /home/user/a/b/file /root/link");
    let (created, fds) = ask(&sandbox, &create_file(3, "/root/link"));
    assert!(
        matches!(&created, Event::FileCreated { dest, .. } if dest == "/home/user/a/b/file"),
        "{created:?}: links are followed, not replaced"
    );
    assert_eq!(commit(&sandbox, created, &fds[0]), Event::Done { req: 3 });
    assert_eq!(run(host, &sandbox, "stat -c '%a %s' -L /root/link").1, "750 0\n");

    run(host, &sandbox, "ln -s ../home/user/new /root/dangling");
    let (created, _) = ask(&sandbox, &create_file(6, "/root/dangling"));
    assert!(
        matches!(&created, Event::FileCreated { dest, .. } if dest == "/root/../home/user/new"),
        "{created:?}: a link that leads nowhere yet is followed, not replaced"
    );

    let (opened, mut fds) = ask(&sandbox, &Request::OpenFile { req: 5, path: "/etc/hostname".to_owned() });
    assert!(matches!(opened, Event::FileOpened { .. }), "{opened:?}");
    let mut text = String::new();
    File::from(fds.remove(0)).read_to_string(&mut text).unwrap();
    assert_eq!(text, "sandbox\n");
}

pub(crate) fn links_lead_nowhere(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    run(
        host,
        &sandbox,
        "cd /home/user; mkfifo fifo; ln -s /etc/shadow shadow; ln -s /proc/1/root/etc/shadow root; \
         ln -s /proc/self/fd/3 socket; ln -s /proc/self/mem mem; ln -s ../../../../../../etc/shadow up; \
         ln -s loop loop; ln -s /dev/zero zero",
    );
    for name in ["fifo", "shadow", "root", "socket", "mem", "up", "loop", "zero", "", ".", "a\0b"] {
        let (answer, _) = ask(&sandbox, &Request::OpenFile { req: 1, path: name.to_owned() });
        // `mem` is a regular file of init itself: reading at its start gives an error, writing must be refused.
        if name != "mem" {
            assert!(matches!(answer, Event::Failed { .. }), "{name}: {answer:?}");
        }
    }
    for name in ["fifo", "socket", "mem", "zero", "loop", "/proc/self/mem", "/proc/new", "/sys/x/y"] {
        let (answer, _) = ask(&sandbox, &create_file(1, name));
        if let Event::FileCreated { dest, .. } = &answer {
            assert!(dest.starts_with("/sys/"), "{name}: {answer:?}");
        }
    }
}

pub(crate) fn users_are_found_by_name(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let find = |user: &str| ask(&sandbox, &Request::FindUser { req: 9, user: user.to_owned() }).0;
    run(host, &sandbox, "echo crew:x:500:user >> /etc/group; echo ada:x:777:8::/none: >> /etc/passwd");
    let Event::UserFound { account: user, .. } = find("user") else { panic!("no account") };
    assert_eq!((user.uid, user.gid, user.groups.as_slice()), (1000, 1000, &[500][..]));
    assert_eq!(user.home.as_deref(), Some("/home/user"));
    let Event::UserFound { account: ada, .. } = find("777:crew") else { panic!("no account") };
    assert_eq!((ada.uid, ada.gid, ada.name.as_deref(), ada.home), (777, 500, Some("ada"), None));
    let Event::Failed { failure, .. } = find("eve") else { panic!("an account") };
    assert!(failure.step.contains("eve"), "{failure}");
    if host.isolation().ids == IdMapping::Range {
        let (started, mut output) =
            start_as(host, &sandbox, &user, &["/bin/bash", "-c", "id -u; id -g; id -G"]);
        assert!(matches!(started, Event::Spawned { .. }), "{started:?}");
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(text, "1000\n1000\n1000 500\n");
        assert!(matches!(event(&sandbox).0, Event::Exited { .. }));
    }
    for hostile in
        ["mkfifo /etc/passwd", "ln -s /dev/zero /etc/passwd", "head -c 2000000 /dev/zero >/etc/passwd"]
    {
        // Not by bash, which reads the file itself as it starts.
        let command = format!("rm /etc/passwd; {hostile}");
        assert!(matches!(
            start(host, &sandbox, 1, &["/bin/sh", "-c", &command], "/").0,
            Event::Spawned { .. }
        ));
        assert!(matches!(event(&sandbox).0, Event::Exited { .. }));
        assert!(matches!(find("user"), Event::Failed { .. }), "{hostile}");
    }
}

pub(crate) fn layers_survive_and_do_not_mix(host: &Host, dir: &Path) {
    let (first, second) = (dir.join("layers1"), dir.join("layers2"));
    fs::create_dir(&first).unwrap();
    fs::create_dir(&second).unwrap();
    let keep = SandboxSpec { disposable: false, ..spec(&first, Limits::default()) };
    let sandbox = host.create(&keep).unwrap();
    assert_eq!(run(host, &sandbox, "echo kept > /var/lib/note; echo gone > /tmp/note").0, 0);
    let other = create(host, &second);
    assert_eq!(run(host, &other, "cat /var/lib/note 2>/dev/null").0, 1);
    sandbox.destroy().unwrap();
    let again = host.create(&keep).unwrap();
    assert_eq!(run(host, &again, "cat /var/lib/note; ls /tmp").1, "kept\n");
    if host.isolation().idmapped_base {
        assert_eq!(
            run(host, &again, "echo mine > /usr/bin/note && rm /usr/bin/env && cat /usr/bin/note").1,
            "mine\n"
        );
    }
    assert!(!Path::new("/usr/bin/note").exists() && Path::new("/usr/bin/env").exists());
}

pub(crate) fn limits_hold(host: &Host, dir: &Path) {
    let limits = Limits { memory_bytes: Some(64 << 20), pids: Some(20), cpu_millis: Some(500) };
    if !host.isolation().limits.complete() {
        let error = host.create(&spec(dir, limits)).unwrap_err();
        assert!(error.is_unsupported(), "{error}");
        println!("limits can't be kept here, and are refused: {error}");
        return;
    }
    let sandbox = host.create(&spec(dir, limits)).unwrap();
    // Memory files can't use up what processes need: init must outlive them.
    let (_, filled) =
        run(host, &sandbox, "for f in /tmp/x /dev/shm/x; do head -c 99999999 /dev/zero > $f; done 2>&1");
    assert_eq!(filled.matches("No space left").count(), 2, "{filled}");
    run(host, &sandbox, "rm /tmp/x /dev/shm/x");
    let (code, text) = run(host, &sandbox, "python3 -c 'x = bytearray(256 << 20)'; echo $?");
    assert_eq!((code, text.trim().ends_with("137")), (0, true), "{text}");
    let forks = "for i in $(seq 40); do sleep 100 & done 2>&1 | grep -c 'Resource temporarily unavailable'";
    assert_ne!(run(host, &sandbox, forks).1.trim(), "0");
}

pub(crate) fn nothing_is_left_behind(host: &Host, dir: &Path) {
    let before = footprint();
    for round in 0..20 {
        let own = dir.join(format!("round{round}"));
        fs::create_dir(&own).unwrap();
        let sandbox = create(host, &own);
        assert_eq!(run(host, &sandbox, "sleep 1000 >/dev/null 2>&1 & true").0, 0);
        sandbox.destroy().unwrap();
    }
    assert_eq!(footprint(), before);
}

/// What a sandbox could leave: mounts, descriptors and children of this process.
fn footprint() -> (usize, usize, BTreeSet<String>) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    (mounts, descriptors, children.split_whitespace().map(str::to_owned).collect())
}
