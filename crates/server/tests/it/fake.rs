//! A backend without isolation, and a server over it.
//!
//! A thread plays `init` at the other end of a real SEQPACKET socket, so that everything above it is the real thing.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use sandwire_isolate::socket::{recv, send};
use sandwire_isolate::wire::{self, Event, Failure};
use sandwire_isolate::{Limits, SandboxSpec};
use sandwire_protocol::{CgroupVersion, IdMapping, Isolation, Mode, ResourceLimits};
use sandwire_server::engine::{Backend, Cell, CreateFailed, Engine, StateDir};
use sandwire_server::{ApiKey, App, Policy, Services, app};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

#[path = "fake_worker.rs"]
pub(crate) mod worker;

pub(crate) const KEY: &str = "secret";
/// What every command is said to have used.
const USED: wire::Used = wire::Used { cpu_micros: 5999, peak_bytes: 4096 };
/// A sandbox of this name can't be made.
pub(crate) const BROKEN: &str = "broken";

/// A file of this name is a pipe that nobody reads or writes.
pub(crate) const PIPE: &str = "/pipe";

/// A file of this name, and what comes of a command on a terminal that contains this, has a descriptor that finds no
/// room in the server.
pub(crate) const CUT: &str = "/cut";
/// A port whose connection has none either.
pub(crate) const CUT_PORT: u16 = 9;

/// The start of a command that contains this is never answered.
pub(crate) const SILENT: &str = "SILENT";
/// The start of a command on a terminal that contains this is answered with something else than its master.
pub(crate) const LIAR: &str = "LIAR";
/// A command that contains this never ends.
pub(crate) const UNDYING: &str = "UNDYING";

struct FakeBackend {
    isolation: Isolation,
    inits: Inits,
}

/// All that play `init`, to end what tests leave running.
type Inits = Arc<Mutex<Vec<Arc<Init>>>>;

impl Backend for FakeBackend {
    fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    fn create(&self, spec: &SandboxSpec) -> Result<Box<dyn Cell>, CreateFailed> {
        if spec.hostname == BROKEN {
            return Err(CreateFailed { message: "no such luck".into(), unsupported: false });
        }
        let root = spec.dir.join("root");
        fs::create_dir_all(&root).unwrap();
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::io::ioctl_fionbio(&ours, true).unwrap();
        let init = Arc::new(Init { socket: theirs, root, groups: Mutex::default() });
        self.inits.lock().unwrap().push(Arc::clone(&init));
        let playing = Arc::clone(&init);
        std::thread::spawn(move || playing.play());
        Ok(Box::new(FakeCell { control: ours, init }))
    }

    fn limit(&self, _id: &str, _limits: &Limits) -> Result<(), String> {
        Ok(())
    }

    fn outside_ids(&self, _uid: u32, _gid: u32) -> (u32, u32) {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }
}

struct FakeCell {
    control: OwnedFd,
    init: Arc<Init>,
}

impl Cell for FakeCell {
    fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    fn groups(&self) -> Option<Arc<sandwire_isolate::CommandGroups>> {
        None
    }

    fn destroy(self: Box<Self>) -> Result<(), String> {
        self.init.kill_all();
        Ok(())
    }
}

struct Init {
    socket: OwnedFd,
    root: PathBuf,
    groups: Mutex<HashMap<u64, Pid>>,
}

impl Init {
    fn play(self: Arc<Self>) {
        while let Ok(Some((request, fds))) = recv(self.socket.as_fd()) {
            match request {
                wire::Request::Spawn(spawn) => self.spawn(spawn, fds),
                wire::Request::FindUser { req, user } => {
                    let failure = Failure {
                        step: format!("no user {user:?} here"),
                        errno: rustix::io::Errno::NOENT.raw_os_error(),
                    };
                    self.say(&Event::Failed { req, failure }, &[]);
                }
                wire::Request::Kill { id } => {
                    if let Some(group) = self.groups.lock().unwrap().get(&id) {
                        let _gone = kill_process_group(*group, Signal::KILL);
                    }
                }
                wire::Request::Signal { id, number } => {
                    let signal = Signal::from_named_raw(number).unwrap();
                    if let Some(group) = self.groups.lock().unwrap().get(&id) {
                        let _gone = kill_process_group(*group, signal);
                    }
                }
                wire::Request::OpenFile { req, path } => self.answer(req, self.open(req, &path)),
                wire::Request::CreateFile { req, path, .. } => self.answer(req, self.create(req, &path)),
                wire::Request::CommitFile { req, temp, dest } => {
                    self.answer(req, fs::rename(temp, dest).map(|()| (Event::Done { req }, None)));
                }
                wire::Request::DiscardFile { req, temp } => {
                    self.answer(req, fs::remove_file(temp).map(|()| (Event::Done { req }, None)));
                }
                wire::Request::Connect { req, port: CUT_PORT, .. } => {
                    self.say(&Event::Connecting { req }, &[])
                }
                wire::Request::Connect { req, loopback, port } => {
                    let host = if loopback == wire::Loopback::V4 { "127.0.0.1" } else { "::1" };
                    match std::net::TcpStream::connect((host, port)) {
                        Ok(stream) => self.say(&Event::Connecting { req }, &[stream.as_fd()]),
                        Err(error) => {
                            self.say(&Event::Failed { req, failure: failure("connect", &error) }, &[])
                        }
                    }
                }
                wire::Request::Work { req, job, .. } => {
                    std::thread::spawn(move || worker::work(job, fds));
                    self.say(&Event::Done { req }, &[]);
                }
                wire::Request::Setup(_) => unreachable!("the fake is born ready"),
            }
        }
    }

    fn spawn(self: &Arc<Self>, spawn: wire::Spawn, fds: Vec<OwnedFd>) {
        if spawn.argv.iter().any(|argument| argument.contains("DIE")) {
            // What the death of the real one looks like from outside.
            rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both).unwrap();
            return self.kill_all();
        }
        if spawn.argv.iter().any(|argument| argument.contains(SILENT)) {
            return;
        }
        if spawn.argv.iter().any(|argument| argument.contains(UNDYING)) {
            return self.say(&Event::Spawned { id: spawn.id, pid: 1 }, &[]);
        }
        let (terminal, fds) = match spawn.pty {
            Some(size) => {
                let (master, slave) = open_terminal(size);
                let fds = std::array::from_fn::<_, 3, _>(|_| slave.try_clone().unwrap()).into();
                (Some((master, slave)), fds)
            }
            None => (None, fds),
        };
        let mut command = command(&spawn, terminal.is_some());
        let mut fds = fds.into_iter().map(Stdio::from);
        command.stdin(fds.next().unwrap()).stdout(fds.next().unwrap()).stderr(fds.next().unwrap());
        let id = spawn.id;
        let mut child = match command.current_dir(&self.root).spawn() {
            Ok(child) => child,
            Err(error) => {
                let failure = failure(&spawn.argv[0], &error);
                return self.say(&Event::SpawnFailed { id, failure, begun: false }, &[]);
            }
        };
        drop(command);
        let pid = i32::try_from(child.id()).unwrap();
        self.groups.lock().unwrap().insert(id, Pid::from_raw(pid).unwrap());
        let lie = File::open("/proc/self/exe").unwrap().into();
        let lies = spawn.argv.iter().any(|argument| argument.contains(LIAR));
        let (master, slave) = terminal.unzip();
        let master = master.map(|master| if lies { lie } else { master });
        let cut = spawn.argv.iter().any(|argument| argument.contains(CUT));
        let fds: Vec<_> = master.iter().filter(|_| !cut).map(AsFd::as_fd).collect();
        self.say(&Event::Spawned { id, pid }, &fds);
        let init = Arc::clone(self);
        std::thread::spawn(move || {
            let status = child.wait().unwrap();
            drop(slave);
            let signal = status.signal();
            let code = status.code().unwrap_or_else(|| 128 + signal.unwrap_or_default());
            init.say(&Event::Exited { id, code, signal, used: USED }, &[]);
        });
    }

    fn open(&self, req: u64, path: &str) -> std::io::Result<(Event, Option<File>)> {
        // What one that was taken over might do.
        let file = match path {
            CUT => return Ok((Event::FileOpened { req }, None)),
            PIPE => File::from(OwnedFd::from(std::io::pipe()?.0)),
            path => File::open(self.inside(path))?,
        };
        Ok((Event::FileOpened { req }, Some(file)))
    }

    fn create(&self, req: u64, path: &str) -> std::io::Result<(Event, Option<File>)> {
        let dest = self.inside(path);
        fs::create_dir_all(dest.parent().unwrap())?;
        let temp = dest.with_extension("temporary");
        let file = match path {
            PIPE => File::from(OwnedFd::from(std::io::pipe()?.1)),
            _ => File::create(&temp)?,
        };
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let file = Some(file).filter(|_| path != CUT);
        Ok((Event::FileCreated { req, temp: text(temp), dest: text(dest) }, file))
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn answer(&self, req: u64, result: std::io::Result<(Event, Option<File>)>) {
        match result {
            Ok((event, Some(file))) => self.say(&event, &[file.as_fd()]),
            Ok((event, None)) => self.say(&event, &[]),
            Err(error) => self.say(&Event::Failed { req, failure: failure("file", &error) }, &[]),
        }
    }

    fn say(&self, event: &Event, fds: &[BorrowedFd<'_>]) {
        let _server_gone = send(self.socket.as_fd(), event, fds);
    }

    fn kill_all(&self) {
        for group in self.groups.lock().unwrap().values() {
            let _gone = kill_process_group(*group, Signal::KILL);
        }
    }
}

/// The process of a command, the leader of a group; with a terminal also of a session.
fn command(spawn: &wire::Spawn, terminal: bool) -> Command {
    let mut command = if terminal { Command::new("setsid") } else { Command::new(&spawn.argv[0]) };
    if terminal {
        command.arg("--ctty").args(&spawn.argv);
    } else {
        command.args(&spawn.argv[1..]).process_group(0);
    }
    command.env_clear().envs(spawn.env.iter().cloned());
    command
}

fn open_terminal(size: wire::WindowSize) -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&slave, size).unwrap();
    (master, slave)
}

fn failure(step: &str, error: &std::io::Error) -> Failure {
    Failure { step: step.to_owned(), errno: error.raw_os_error().unwrap_or_default() }
}

/// A server over the fake backend.
pub(crate) struct Server {
    pub(crate) app: Arc<App>,
    /// Holds the lock.
    state: StateDir,
    dir: TempDir,
    isolation: Isolation,
    _ends: Ends,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.lock().unwrap().iter().for_each(|init| init.kill_all());
    }
}

/// Ends what tests leave running.
struct Ends(Inits);

/// A server whose machine keeps all limits, or none.
pub(crate) fn server_with(limits: bool) -> Server {
    let isolation = Isolation {
        mode: Mode::Rootless,
        namespaces: Vec::new(),
        ids: IdMapping::Range,
        idmapped_base: false,
        seccomp: false,
        no_new_privs: false,
        cgroup: CgroupVersion::None,
        limits: ResourceLimits { memory: limits, pids: limits, cpu: limits },
        warnings: vec!["this is a fake".into()],
    };
    let dir = TempDir::new().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    serve(dir, state, isolation)
}

fn serve(dir: TempDir, state: StateDir, isolation: Isolation) -> Server {
    let (inits, restart) = (Inits::default(), isolation.clone());
    let engine = Engine::start(
        Arc::new(FakeBackend { isolation, inits: Arc::clone(&inits) }),
        &state,
        Policy::default(),
    );
    let services = Services::open(&state).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 4711));
    let app = App::new(engine.unwrap(), ApiKey::given(KEY).unwrap(), services, address);
    Server { app, state, dir, isolation: restart, _ends: Ends(inits) }
}

pub(crate) fn server() -> Server {
    server_with(true)
}

impl Server {
    /// Ends the server in peace and starts another one over what it kept.
    pub(crate) async fn restart(self) -> Self {
        let Self { app, state, dir, isolation, _ends } = self;
        app.engine.shutdown().await;
        drop(app);
        drop(state);
        // What another test has just forked holds the lock too, until it is its program.
        let mut again = None;
        until(async || {
            again = StateDir::open(dir.path()).ok();
            again.is_some()
        })
        .await;
        serve(dir, again.unwrap(), isolation)
    }

    pub(crate) fn state_dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) async fn raw(&self, request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, Vec<u8>) {
        let response = app(Arc::clone(&self.app)).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (parts.status, parts.headers, body.to_vec())
    }

    /// A request with the key; the answer's JSON, or null.
    pub(crate) async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("x-api-key", KEY);
        let (status, _, body) = self.raw(request.body(body.into()).unwrap()).await;
        (status.as_u16(), serde_json::from_slice(&body).unwrap_or_default())
    }

    /// A ready sandbox; its path on the data plane.
    pub(crate) async fn sandbox(&self) -> String {
        let (status, sandbox) = self.call("POST", "/v2/sandboxes/boxes", r#"{"wait_for_ready":true}"#).await;
        assert_eq!(status, 201, "{sandbox}");
        format!("/sandboxes/{}", sandbox["id"].as_str().unwrap())
    }

    /// Listens on a port, for what needs real sockets.
    pub(crate) async fn listen(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, app(Arc::clone(&self.app))).into_future());
        address
    }
}

/// Polls until it holds; the test's own deadline is the runner's.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    while !holds().await {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
