//! From a command as the client words it to the process that `init` is to start.
//!
//! Layers of the environment, later ones win: the defaults below, then the command's own (`env` or
//! `run_config.env_vars`). A command starts in `/home/user`, where relative paths of file calls and a relative `cwd`
//! start too, so that what was written as `a.py` runs as `a.py`. `HOME` is `/root` for root and `/` for any other
//! user, because no home is made for it. `TERM` is set for a command with a terminal.

use std::collections::BTreeMap;

use sandwire_isolate::wire::{Spawn, WindowSize};
use sandwire_protocol::{CommandSpec, ErrorType, IdMapping};

use super::fault::Fault;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const ROOT_HOME: &str = "/root";
const WORK_DIR: &str = "/home/user";
/// What a terminal is until its user says otherwise.
const WINDOW: WindowSize = WindowSize { cols: 80, rows: 24 };
const TERMINAL: &str = "xterm-256color";
/// Ids that a range maps: 65535 is the kernel's "no id" of 16-bit calls.
const IDS_MAX: u32 = 65534;

/// The process for `spec`.
pub(super) fn launch(spec: &CommandSpec, id: u64, ids: IdMapping) -> Result<Spawn, Fault> {
    let run = spec.run_config.as_ref();
    if run.is_some() && (spec.env.is_some() || spec.cwd.is_some()) {
        return Err(Fault::invalid("run_config can't be combined with env or cwd"));
    }
    let pty = (spec.pty == Some(true)).then_some(WINDOW);
    let (uid, gid) =
        run.and_then(|run| run.user.as_deref()).map_or(Ok((0, 0)), |user| parse_user(user, ids))?;
    let env =
        environment(uid, pty.is_some(), run.and_then(|run| run.env_vars.as_ref()).or(spec.env.as_ref()))?;
    let cwd = match (run.and_then(|run| run.work_dir.as_deref()), spec.cwd.as_deref()) {
        (Some(dir), _) if dir.starts_with('/') => dir.to_owned(),
        (Some(_), _) => return Err(Fault::invalid("run_config.work_dir must be absolute")),
        (None, Some("")) | (None, None) => WORK_DIR.to_owned(),
        (None, Some(dir)) if dir.starts_with('/') => dir.to_owned(),
        (None, Some(dir)) => format!("{WORK_DIR}/{dir}"),
    };
    let shell = Some(spec.shell()).filter(|shell| !shell.is_empty());
    let shell = shell.ok_or_else(|| Fault::invalid("shell must not be empty"))?;
    for (what, text) in [("command", spec.command.as_str()), ("shell", shell), ("cwd", cwd.as_str())] {
        if text.contains('\0') {
            return Err(Fault::invalid(format!("{what} must not contain a NUL character")));
        }
    }
    Ok(Spawn { id, argv: vec![shell.into(), "-c".into(), spec.command.clone()], env, cwd, uid, gid, pty })
}

fn home(uid: u32) -> &'static str {
    if uid == 0 { ROOT_HOME } else { "/" }
}

fn environment(
    uid: u32,
    pty: bool,
    own: Option<&BTreeMap<String, String>>,
) -> Result<Vec<(String, String)>, Fault> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    set("PATH", PATH);
    set("HOME", home(uid));
    // Rather than LANG: with that, every shell opens two dozen files of other categories as it starts.
    set("LC_CTYPE", "C.UTF-8");
    set("SHELL", "/bin/bash");
    if pty {
        set("TERM", TERMINAL);
    }
    if uid == 0 {
        set("USER", "root");
        set("LOGNAME", "root");
    }
    for (name, value) in own.into_iter().flatten() {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Fault::invalid(format!("{name:?} can't be an environment variable with that value")));
        }
        env.insert(name.clone(), value.clone());
    }
    Ok(env.into_iter().collect())
}

/// `uid`, `uid:gid`, or root by name. As container runtimes do, the group of a bare uid is 0.
fn parse_user(user: &str, ids: IdMapping) -> Result<(u32, u32), Fault> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
    let parsed = (parse_id(uid, user)?, parse_id(gid, user)?);
    if ids == IdMapping::Single && parsed != (0, 0) {
        let message = "run_config.user: only root exists in sandboxes of this server, which has a single id";
        return Err(Fault::new(ErrorType::NotSupported, message));
    }
    Ok(parsed)
}

fn parse_id(id: &str, user: &str) -> Result<u32, Fault> {
    if id == "root" {
        return Ok(0);
    }
    let numeric = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    if !numeric {
        let message =
            format!("run_config.user: names such as {user:?} are not looked up yet; use uid or uid:gid");
        return Err(Fault::new(ErrorType::NotSupported, message));
    }
    let id = id.parse().ok().filter(|id| *id <= IDS_MAX);
    id.ok_or_else(|| Fault::invalid(format!("run_config.user: {user:?} is beyond {IDS_MAX}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandwire_protocol::RunConfig;

    fn user(user: &str) -> CommandSpec {
        let run_config = RunConfig { user: Some(user.into()), ..RunConfig::default() };
        CommandSpec { run_config: Some(run_config), ..CommandSpec::new("id") }
    }

    fn get<'a>(spawn: &'a Spawn, name: &str) -> Option<&'a str> {
        spawn.env.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn defaults_are_roots() {
        let spawn = launch(&CommandSpec::new("ls"), 7, IdMapping::Range).unwrap();
        assert_eq!((spawn.id, spawn.uid, spawn.gid, spawn.cwd.as_str()), (7, 0, 0, "/home/user"));
        assert_eq!(spawn.argv, ["/bin/bash", "-c", "ls"]);
        assert_eq!((get(&spawn, "HOME"), get(&spawn, "LC_CTYPE")), (Some("/root"), Some("C.UTF-8")));
        assert_eq!((get(&spawn, "TERM"), spawn.pty), (None, None));
    }

    #[test]
    fn a_terminal_has_a_size_and_a_type() {
        let terminal = CommandSpec { pty: Some(true), ..CommandSpec::new("ls") };
        let spawn = launch(&terminal, 1, IdMapping::Range).unwrap();
        assert_eq!(spawn.pty, Some(WindowSize { cols: 80, rows: 24 }));
        assert_eq!(get(&spawn, "TERM"), Some("xterm-256color"));
        let env = Some(BTreeMap::from([("TERM".to_owned(), "dumb".to_owned())]));
        let spawn = launch(&CommandSpec { env, ..terminal }, 1, IdMapping::Range).unwrap();
        assert_eq!(get(&spawn, "TERM"), Some("dumb"));
    }

    #[test]
    fn the_commands_own_environment_wins() {
        let env = BTreeMap::from([("PATH".to_owned(), "/x".to_owned()), ("A".to_owned(), "1".to_owned())]);
        let spec = CommandSpec { env: Some(env), cwd: Some("src".into()), ..CommandSpec::new("ls") };
        let spawn = launch(&spec, 1, IdMapping::Range).unwrap();
        assert_eq!((get(&spawn, "PATH"), get(&spawn, "A")), (Some("/x"), Some("1")));
        assert_eq!(spawn.cwd, "/home/user/src");
    }

    #[test]
    fn users_are_numbers() {
        let ids = |text: &str| launch(&user(text), 1, IdMapping::Range).map(|spawn| (spawn.uid, spawn.gid));
        assert_eq!(ids("1000"), Ok((1000, 0)));
        assert_eq!(ids("1000:100"), Ok((1000, 100)));
        assert_eq!(ids("root"), Ok((0, 0)));
        assert_eq!(ids("alice").unwrap_err().kind, ErrorType::NotSupported);
        assert_eq!(ids("65535").unwrap_err().kind, ErrorType::InvalidRequest);
        assert_eq!(ids("99999999999").unwrap_err().kind, ErrorType::InvalidRequest);
        assert_eq!(ids("+1").unwrap_err().kind, ErrorType::NotSupported);
        assert!(launch(&user("1"), 1, IdMapping::Single).is_err());
        assert!(launch(&user("0"), 1, IdMapping::Single).is_ok());
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |spec: CommandSpec| launch(&spec, 1, IdMapping::Range).unwrap_err().kind;
        let mixed = CommandSpec { cwd: Some("/".into()), ..user("0") };
        assert_eq!(refused(mixed), ErrorType::InvalidRequest);
        assert_eq!(refused(CommandSpec::new("a\0b")), ErrorType::InvalidRequest);
        let env = Some(BTreeMap::from([("A=B".to_owned(), String::new())]));
        assert_eq!(refused(CommandSpec { env, ..CommandSpec::new("x") }), ErrorType::InvalidRequest);
        let run_config = Some(RunConfig { work_dir: Some("a".into()), ..RunConfig::default() });
        assert_eq!(refused(CommandSpec { run_config, ..CommandSpec::new("x") }), ErrorType::InvalidRequest);
    }
}
