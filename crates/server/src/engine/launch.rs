//! From a command as the client words it to the process that `init` is to start.
//!
//! Layers, later ones win: the defaults below, the sandbox's `run_config`, the sandbox's `env_vars`, then the command's
//! own (`env` and `cwd`, or `run_config`). `user` and `work_dir` replace, environments merge.
//! A command starts in `/home/user`, where relative paths of file calls and a relative `cwd` start too, so that what
//! was written as `a.py` runs as `a.py`. `HOME` is the home of the user's entry where that exists, else `/root` for root
//! and `/` for others, because no home is made for them. `TERM` is set for a command with a terminal.

use std::collections::BTreeMap;

use sandwire_isolate::wire::{Account, Spawn, WindowSize};
use sandwire_protocol::{CommandSpec, ErrorType, IdMapping, RunConfig};

use super::fault::Fault;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const ROOT_HOME: &str = "/root";
const WORK_DIR: &str = "/home/user";
/// What a terminal is until its user says otherwise.
const WINDOW: WindowSize = WindowSize { cols: 80, rows: 24 };
const TERMINAL: &str = "xterm-256color";
/// Ids that a range maps: 65535 is the kernel's "no id" of 16-bit calls.
const IDS_MAX: u32 = 65534;
/// Longest user, bytes: two names as long as `useradd` allows.
const USER_MAX: usize = 2 * 32 + 1;

type Environment = BTreeMap<String, String>;

/// What a sandbox says for all its commands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults<'a> {
    pub(super) run_config: &'a RunConfig,
    /// Above the environment of `run_config`.
    pub(super) env_vars: &'a Environment,
}

/// A command whose user may still have to be looked up.
#[derive(Debug)]
pub(super) struct Launch {
    number: u64,
    argv: Vec<String>,
    /// What the layers above the defaults say.
    env: Environment,
    cwd: String,
    /// `None` is root, whom nothing in the sandbox may make anybody else.
    user: Option<String>,
    pty: Option<WindowSize>,
}

/// Checks a command and puts its layers together.
pub(super) fn launch(
    spec: &CommandSpec,
    defaults: &Defaults<'_>,
    number: u64,
    ids: IdMapping,
) -> Result<Launch, Fault> {
    let own = spec.run_config.as_ref();
    if own.is_some() && (spec.env.is_some() || spec.cwd.is_some()) {
        return Err(Fault::invalid("run_config can't be combined with env or cwd"));
    }
    let user = own.and_then(|own| own.user.as_ref()).or(defaults.run_config.user.as_ref());
    let cwd = match (own.and_then(|own| own.work_dir.as_ref()), spec.cwd.as_deref()) {
        (None, Some(dir)) if dir.starts_with('/') => dir.to_owned(),
        (None, Some(dir)) if !dir.is_empty() => format!("{WORK_DIR}/{dir}"),
        (own, _) => work_dir(own.or(defaults.run_config.work_dir.as_ref()))?,
    };
    let shell = Some(spec.shell()).filter(|shell| !shell.is_empty());
    let shell = shell.ok_or_else(|| Fault::invalid("shell must not be empty"))?;
    for (what, text) in [("command", spec.command.as_str()), ("shell", shell), ("cwd", cwd.as_str())] {
        if text.contains('\0') {
            return Err(Fault::invalid(format!("{what} must not contain a NUL character")));
        }
    }
    Ok(Launch {
        number,
        argv: vec![shell.into(), "-c".into(), spec.command.clone()],
        env: environment([
            defaults.run_config.env_vars.as_ref(),
            Some(defaults.env_vars),
            own.and_then(|own| own.env_vars.as_ref()).or(spec.env.as_ref()),
        ])?,
        cwd,
        user: user.map(|user| parse_user(user, ids)).transpose()?.flatten(),
        pty: (spec.pty == Some(true)).then_some(WINDOW),
    })
}

fn work_dir(configured: Option<&String>) -> Result<String, Fault> {
    match configured {
        None => Ok(WORK_DIR.to_owned()),
        Some(dir) if dir.starts_with('/') => Ok(dir.clone()),
        Some(_) => Err(Fault::invalid("run_config.work_dir must be absolute")),
    }
}

/// Merges layers, the later over the earlier.
fn environment(layers: [Option<&Environment>; 3]) -> Result<Environment, Fault> {
    let mut merged = Environment::new();
    for (name, value) in layers.into_iter().flatten().flatten() {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Fault::invalid(format!("{name:?} can't be an environment variable with that value")));
        }
        merged.insert(name.clone(), value.clone());
    }
    Ok(merged)
}

/// Who is to be looked up; `None` for root.
fn parse_user(user: &str, ids: IdMapping) -> Result<Option<String>, Fault> {
    if matches!(user, "0" | "root" | "0:0" | "root:root" | "0:root" | "root:0") {
        return Ok(None);
    }
    if user.is_empty() || user.len() > USER_MAX || user.contains(['\0', '\n']) {
        let message =
            format!("run_config.user must have 1 to {USER_MAX} bytes and no line break: a name or a number");
        return Err(Fault::invalid(message));
    }
    if ids == IdMapping::Single {
        let message = "run_config.user: only root exists in sandboxes of this server, which has a single id";
        return Err(Fault::new(ErrorType::NotSupported, message));
    }
    Ok(Some(user.to_owned()))
}

/// Refuses an account with ids that no sandbox has.
pub(super) fn check_ids(account: &Account) -> Result<(), Fault> {
    let Account { uid, gid, groups, .. } = account;
    match [uid, gid].into_iter().chain(groups).find(|id| **id > IDS_MAX) {
        None => Ok(()),
        Some(id) => Err(Fault::invalid(format!("run_config.user: the id {id} is beyond {IDS_MAX}"))),
    }
}

impl Launch {
    /// Whom to look up first; nobody for root.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// What a failed start is explained with: shell and directory.
    pub(super) fn names(&self) -> (String, String) {
        (self.argv.first().cloned().unwrap_or_default(), self.cwd.clone())
    }

    /// The process, for who was looked up.
    ///
    /// `joins`: it gets a cgroup of its own.
    pub(super) fn spawn(self, account: Account, joins: bool) -> Spawn {
        let Self { number: id, argv, env: own, cwd, pty, .. } = self;
        let mut env = defaults(&account, pty.is_some());
        env.extend(own);
        let Account { uid, gid, groups, .. } = account;
        Spawn { id, argv, env: env.into_iter().collect(), cwd, uid, gid, groups, pty, joins }
    }
}

/// Root, as every sandbox has it.
pub(super) fn root() -> Account {
    Account { name: Some("root".to_owned()), home: Some(ROOT_HOME.to_owned()), ..Account::default() }
}

fn defaults(account: &Account, pty: bool) -> Environment {
    let home = match &account.home {
        Some(home) => home,
        None if account.uid == 0 => ROOT_HOME,
        None => "/",
    };
    let mut env: Vec<(&str, &str)> = vec![
        ("PATH", PATH),
        ("HOME", home),
        // Rather than LANG: with that, every shell opens two dozen files of other categories as it starts.
        ("LC_CTYPE", "C.UTF-8"),
        ("SHELL", "/bin/bash"),
    ];
    env.extend(pty.then_some(("TERM", TERMINAL)));
    env.extend(account.name.iter().flat_map(|name| [("USER", name.as_str()), ("LOGNAME", name)]));
    env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests;
