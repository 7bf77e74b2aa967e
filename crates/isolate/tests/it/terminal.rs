//! Pseudo-terminals and signals: that they work, and whom they do not reach.

use std::fs::File;
use std::io::{self, Read, Write};

use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{Winsize, tcsetwinsize};
use sandwire_isolate::socket::send;
use sandwire_isolate::wire::{Event, Request, Spawn, WindowSize};
use sandwire_isolate::{Host, Sandbox};
use sandwire_protocol::IdMapping;

use crate::inside::{ask, create, event, run, start, until_left};

const BASH: &[&str] = &["/bin/bash", "--norc", "--noediting", "-i"];

/// The server's end of a command on a terminal.
struct Terminal {
    master: File,
    /// What was read and not looked at yet.
    seen: String,
}

impl Terminal {
    /// Starts a command as a user and a group of the same number.
    fn start(sandbox: &Sandbox, id: u64, user: u32, argv: &[&str]) -> Result<Self, Event> {
        let size = WindowSize { cols: 80, rows: 24 };
        let env = [("PATH", "/usr/bin:/bin"), ("TERM", "dumb"), ("PS1", "> "), ("LC_ALL", "C.UTF-8")];
        let spawn = Request::Spawn(Spawn {
            id,
            argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            cwd: "/".to_owned(),
            uid: user,
            gid: user,
            groups: Vec::new(),
            pty: Some(size),
            joins: false,
        });
        match ask(sandbox, &spawn) {
            (Event::Spawned { .. }, mut fds) => {
                assert_eq!(fds.len(), 1, "the master and nothing else");
                Ok(Self { master: fds.remove(0).into(), seen: String::new() })
            }
            (event, _) => Err(event),
        }
    }

    fn bash(sandbox: &Sandbox, id: u64, command: &str) -> Self {
        Self::start(sandbox, id, 0, &["/bin/bash", "-c", command]).unwrap()
    }

    fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Reads on until `word` and gives all up to and with it.
    fn until(&mut self, word: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(word) {
                let rest = self.seen.split_off(at + word.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            assert!(self.read(), "{word:?} did not come, but {:?}", self.seen);
        }
    }

    /// Reads to the end.
    fn rest(&mut self) -> String {
        while self.read() {}
        std::mem::take(&mut self.seen)
    }

    /// Reads something; `false` at the end.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            poll(&mut [PollFd::new(&self.master, PollFlags::IN)], None).unwrap();
            match self.master.read(&mut buffer) {
                Ok(size) => {
                    self.seen.push_str(std::str::from_utf8(&buffer[..size]).unwrap());
                    return size > 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EIO));
                    return false;
                }
            }
        }
    }

    fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.master, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
        fds[0].revents().contains(PollFlags::HUP)
    }
}

fn exit(sandbox: &Sandbox, id: u64) -> (i32, Option<i32>) {
    match event(sandbox).0 {
        Event::Exited { id: ended, code, signal, .. } if ended == id => (code, signal),
        other => panic!("{other:?}"),
    }
}

fn signal(sandbox: &Sandbox, id: u64, number: i32) {
    send(sandbox.control(), &Request::Signal { id, number }, &[]).unwrap();
}

pub(crate) fn a_terminal_is_one(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let mut terminal = Terminal::bash(
        &sandbox,
        1,
        "tty; stty size; [ -t 0 -a -t 1 -a -t 2 ]; echo $? > /dev/tty; stty -a | grep -o '[-]*iutf8'; \
         ls /proc/self/fd | tr '\\n' ' '; ps -o pid=,sid=,tpgid= $$ | tr -s ' '; echo err >&2; exit 3",
    );
    let text = terminal.rest();
    let lines: Vec<&str> = text.lines().collect();
    // 3 is the directory itself.
    assert_eq!(lines[..4], ["/dev/pts/0", "24 80", "0", "iutf8"], "{text}");
    let (fds, ids) = lines[4].rsplit_once("3 ").unwrap();
    assert_eq!((fds, lines[5]), ("0 1 2 ", "err"), "{text}");
    let ids: Vec<&str> = ids.split_whitespace().collect();
    assert_eq!((ids[0], ids[0]), (ids[1], ids[2]), "it leads its session, in the foreground: {text}");
    assert_eq!(exit(&sandbox, 1), (3, None));
}

pub(crate) fn programs_talk_to_their_terminal(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let mut python = Terminal::start(&sandbox, 1, 0, &["python3", "-qi"]).unwrap();
    python.until(">>> ");
    python.type_in("6 * 7\n");
    python.until("\r\n42\r\n>>> ");
    python.type_in("\x04");
    python.rest();
    assert_eq!(exit(&sandbox, 1), (0, None));

    let mut bash = Terminal::start(&sandbox, 2, 0, BASH).unwrap();
    assert!(!bash.until("> ").contains("no job control"));
    bash.type_in("sed -u s/^/got:/\none\n");
    bash.until("got:one\r\n");
    bash.type_in("\x1a");
    bash.until("Stopped");
    bash.type_in("jobs; fg\ntwo\n");
    bash.until("Stopped");
    bash.until("got:two\r\n");
    bash.type_in("\x03");
    bash.until("> ");
    bash.type_in("echo $?; exit 5\n");
    bash.until("\r\n130\r\n");
    bash.rest();
    assert_eq!(exit(&sandbox, 2), (5, None));
}

pub(crate) fn a_window_changes_its_size(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let command = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done";
    let mut terminal = Terminal::bash(&sandbox, 1, command);
    terminal.until("ready\r\n");
    let size = Winsize { ws_col: 132, ws_row: 43, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal.master, size).unwrap();
    assert_eq!(terminal.rest(), "43 132\r\n");
    assert_eq!(exit(&sandbox, 1), (0, None));
}

pub(crate) fn a_terminal_lasts_as_long_as_its_command(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let mut terminal = Terminal::bash(
        &sandbox,
        1,
        "exec <&- >&- 2>&-; : > /tmp/closed; until [ -e /tmp/go ]; do sleep 0.01; done; echo back > /dev/tty",
    );
    let wait = |id| {
        let argv = ["/bin/bash", "-c", "until [ -e /tmp/closed ]; do sleep 0.01; done"];
        assert!(matches!(start(host, &sandbox, id, &argv, "/").0, Event::Spawned { .. }));
        assert_eq!(exit(&sandbox, id), (0, None));
    };
    wait(2);
    assert!(!terminal.is_hung_up(), "it may open it again");
    let (_, _) = start(host, &sandbox, 3, &["/bin/bash", "-c", ": > /tmp/go"], "/");
    assert_eq!(terminal.rest(), "back\r\n");
    let (first, second) = (event(&sandbox).0, event(&sandbox).0);
    assert!([&first, &second].into_iter().any(|event| matches!(event, Event::Exited { id: 1, code: 0, .. })));

    // Whoever closes the master hangs up.
    let terminal = Terminal::bash(&sandbox, 4, "trap 'exit 7' HUP; echo; while :; do sleep 0.01; done");
    poll(&mut [PollFd::new(&terminal.master, PollFlags::IN)], None).unwrap();
    drop(terminal);
    assert_eq!(exit(&sandbox, 4), (7, None));
}

pub(crate) fn a_terminal_is_its_users(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let users: &[u32] = if host.isolation().ids == IdMapping::Range { &[0, 1000] } else { &[0] };
    for (id, user) in (1..).zip(users) {
        let report = "stat -c '%a %u %g' $(tty); echo ready > $(tty); read line";
        let mut terminal = Terminal::start(&sandbox, id, *user, &["/bin/bash", "-c", report]).unwrap();
        assert_eq!(terminal.until("ready\r\n"), format!("600 {user} {user}\r\nready\r\n"));
        for stranger in users.iter().chain(users.last().filter(|user| **user > 0).map(|_| &1001)) {
            let attack = "echo injected > /dev/pts/0 && echo written";
            let argv = ["/bin/bash", "-c", attack];
            let text = Terminal::start(&sandbox, 100, *stranger, &argv).unwrap().rest();
            let word = if [0, *user].contains(stranger) { "written" } else { "Permission denied" };
            assert!(text.contains(word), "{stranger} to {user}: {text}");
            exit(&sandbox, 100);
        }
        terminal.type_in("\n");
        terminal.rest();
        exit(&sandbox, id);
    }
}

/// Ways from a terminal to anything but itself.
pub(crate) fn a_terminal_leads_nowhere(host: &Host, dir: &Path) {
    let (one, two) = (dir.join("terminals1"), dir.join("terminals2"));
    std::fs::create_dir(&one).unwrap();
    std::fs::create_dir(&two).unwrap();
    let (sandbox, other) = (create(host, &one), create(host, &two));
    let attack = "python3 -c '\nimport ctypes, errno, fcntl, os, struct\nlibc = ctypes.CDLL(None, use_errno=True)\n\
        def attempt(name, call):\n try: result = call()\n except OSError as e: result = errno.errorcode[e.errno]\n print(name, result)\n\
        attempt(\"type\", lambda: fcntl.ioctl(0, 0x5412, b\"x\"))\n\
        attempt(\"discipline\", lambda: fcntl.ioctl(0, 0x5423, struct.pack(\"i\", 13)))\n\
        attempt(\"console\", lambda: fcntl.ioctl(0, 0x541D))\n\
        attempt(\"steal\", lambda: fcntl.ioctl(os.open(\"/dev/pts/0\", os.O_RDWR | os.O_NOCTTY), 0x540E, 1))\n\
        attempt(\"master\", lambda: fcntl.ioctl(0, 0x80045430, bytes(4)))\n\
        attempt(\"init\", lambda: [os.open(\"/proc/1/fd/\" + fd, os.O_RDWR) for fd in os.listdir(\"/proc/1/fd\")])\n\
        init = os.pidfd_open(1)\n\
        for fd in range(4, 16):\n if libc.syscall(438, init, fd, 0) >= 0 or ctypes.get_errno() != errno.EPERM: print(\"took\", fd)\n'; read line";
    let mut victim = Terminal::bash(&sandbox, 1, "echo ready; read line; echo $line");
    victim.until("ready\r\n");
    let mut attacker = Terminal::bash(&sandbox, 2, attack);
    assert_eq!(
        attacker.until("init EACCES\r\n"),
        "type EPERM\r\ndiscipline EPERM\r\nconsole EPERM\r\nsteal EPERM\r\nmaster ENOTTY\r\ninit EACCES\r\n"
    );
    attacker.type_in("\n");
    assert_eq!(attacker.rest().trim(), "", "no descriptor of init");
    exit(&sandbox, 2);
    assert_eq!(run(host, &other, "ls /dev/pts").1, "ptmx\n", "another sandbox has other terminals");
    victim.type_in("intact\n");
    victim.until("intact\r\nintact\r\n");
    assert_eq!(exit(&sandbox, 1), (0, None));
}

pub(crate) fn terminals_are_bounded_and_returned(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let hoard = "python3 -c '\nimport os\nn = 0\ntry:\n while 1: os.openpty(); n += 1\nexcept OSError as e: print(n, e.strerror)\ninput()'";
    let mut hoarder = Terminal::bash(&sandbox, 1, hoard);
    assert_eq!(hoarder.until("\r\n"), "127 No space left on device\r\n");
    let failed = Terminal::start(&sandbox, 2, 0, &["/bin/true"]).err().unwrap();
    let Event::SpawnFailed { id: 2, failure, begun: false } = failed else { panic!("{failed:?}") };
    assert_eq!((failure.step.as_str(), failure.errno), ("open a pseudo-terminal", libc::ENOSPC));
    hoarder.type_in("\n");
    hoarder.rest();
    assert_eq!(exit(&sandbox, 1), (0, None));
    drop(hoarder);
    let failed = Terminal::start(&sandbox, 3, 0, &["/bin/none"]).err().unwrap();
    assert!(matches!(failed, Event::SpawnFailed { id: 3, .. }), "{failed:?}");
    assert_eq!(run(host, &sandbox, "ls /dev/pts").1, "ptmx\n", "init keeps no end of any");
}

pub(crate) fn a_kill_takes_the_jobs_of_a_terminal(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let mut bash = Terminal::start(&sandbox, 1, 0, BASH).unwrap();
    bash.until("> ");
    bash.type_in("sleep 1001 & sleep 1002 & (sleep 1003; sleep 1004) & echo rea''dy; sleep 1005\n");
    bash.until("ready\r\n");
    send(sandbox.control(), &Request::Kill { id: 1 }, &[]).unwrap();
    assert_eq!(exit(&sandbox, 1), (137, Some(libc::SIGKILL)));
    bash.rest();
    until_left(host, &sandbox, &[0]);
}

pub(crate) fn signals_reach_the_group(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let both = "sleep 1001 & echo r; exec sleep 1002";
    let (_, mut output) = start(host, &sandbox, 1, &["/bin/bash", "-c", both], "/");
    output.read_exact(&mut [0; 2]).unwrap();
    signal(&sandbox, 1, libc::SIGTERM);
    assert_eq!(output.read(&mut [0]).unwrap(), 0, "nobody has it open any more");
    assert_eq!(exit(&sandbox, 1), (143, Some(libc::SIGTERM)));

    for (id, number) in (2..).zip([libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGKILL]) {
        let (_, _output) = start(host, &sandbox, id, &["/bin/sleep", "1000"], "/");
        signal(&sandbox, id, number);
        assert_eq!(exit(&sandbox, id), (128 + number, Some(number)));
        let mut terminal = Terminal::start(&sandbox, id + 10, 0, &["/bin/sleep", "1000"]).unwrap();
        signal(&sandbox, id + 10, number);
        terminal.rest();
        assert_eq!(exit(&sandbox, id + 10), (128 + number, Some(number)));
    }

    let (_, _output) = start(host, &sandbox, 30, &["/bin/sleep", "1000"], "/");
    signal(&sandbox, 30, libc::SIGSTOP);
    signal(&sandbox, 30, libc::SIGTERM);
    signal(&sandbox, 30, libc::SIGCONT);
    assert_eq!(exit(&sandbox, 30), (143, Some(libc::SIGTERM)));
}

pub(crate) fn signals_reach_nobody_else(host: &Host, dir: &Path) {
    let sandbox = create(host, dir);
    let (_, _bystander) = start(host, &sandbox, 1, &["/bin/sleep", "1001"], "/");
    // No id, no command, no signal, and what is over.
    for (id, number) in [(0, libc::SIGTERM), (99, libc::SIGTERM), (1, 0), (1, -9), (1, 1000), (1, i32::MIN)] {
        signal(&sandbox, id, number);
    }
    let left = "sleep 1002 & until [ \"$(cat /proc/$!/comm)\" = sleep ]; do :; done; exit 0";
    let (_, output) = start(host, &sandbox, 2, &["/bin/bash", "-c", left], "/");
    assert_eq!(exit(&sandbox, 2), (0, None));
    signal(&sandbox, 2, libc::SIGTERM);
    signal(&sandbox, 2, libc::SIGKILL);
    let argv = ["/bin/bash", "-c", "pgrep -fa '^[^ ]*sleep 100' | cut -d' ' -f3 | tr '\\n' ' '"];
    let (_, mut seen) = start(host, &sandbox, 3, &argv, "/");
    let mut text = String::new();
    seen.read_to_string(&mut text).unwrap();
    assert_eq!(text, "1001 1002 ", "a group without its main process is nobody's");
    assert_eq!(exit(&sandbox, 3), (0, None));
    drop(output);
    send(sandbox.control(), &Request::Kill { id: 1 }, &[]).unwrap();
    assert_eq!(exit(&sandbox, 1), (137, Some(libc::SIGKILL)));
}
