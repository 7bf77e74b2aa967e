//! Which layer wins, who is looked up, and what is refused.

use super::*;

fn none() -> (RunConfig, Environment) {
    (RunConfig::default(), Environment::new())
}

fn try_launch(spec: &CommandSpec, ids: IdMapping) -> Result<Launch, Fault> {
    let (run_config, env_vars) = none();
    launch(spec, &Defaults { run_config: &run_config, env_vars: &env_vars }, 7, ids)
}

fn root_spawn(spec: &CommandSpec) -> Spawn {
    try_launch(spec, IdMapping::Range).unwrap().spawn(root(), false)
}

fn user(user: &str) -> CommandSpec {
    let run_config = RunConfig { user: Some(user.into()), ..RunConfig::default() };
    CommandSpec { run_config: Some(run_config), ..CommandSpec::new("id") }
}

fn get<'a>(spawn: &'a Spawn, name: &str) -> Option<&'a str> {
    spawn.env.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

fn env<const N: usize>(pairs: [(&str, &str); N]) -> Environment {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[test]
fn defaults_are_roots() {
    let spawn = root_spawn(&CommandSpec::new("ls"));
    assert_eq!((spawn.id, spawn.uid, spawn.gid, spawn.cwd.as_str()), (7, 0, 0, "/home/user"));
    assert_eq!(spawn.argv, ["/bin/bash", "-c", "ls"]);
    assert_eq!((get(&spawn, "HOME"), get(&spawn, "USER")), (Some("/root"), Some("root")));
    assert_eq!((get(&spawn, "LC_CTYPE"), get(&spawn, "TERM"), spawn.pty), (Some("C.UTF-8"), None, None));
}

#[test]
fn a_terminal_has_a_size_and_a_type() {
    let terminal = CommandSpec { pty: Some(true), ..CommandSpec::new("ls") };
    let spawn = root_spawn(&terminal);
    assert_eq!(spawn.pty, Some(WindowSize { cols: 80, rows: 24 }));
    assert_eq!(get(&spawn, "TERM"), Some("xterm-256color"));
    let spawn = root_spawn(&CommandSpec { env: Some(env([("TERM", "dumb")])), ..terminal });
    assert_eq!(get(&spawn, "TERM"), Some("dumb"));
}

#[test]
fn layers_merge_and_the_later_wins() {
    let run_config = RunConfig {
        user: Some("ada".into()),
        work_dir: Some("/srv".into()),
        env_vars: Some(env([("A", "config"), ("B", "config"), ("C", "config"), ("PATH", "/x")])),
    };
    let env_vars = env([("B", "vars"), ("C", "vars")]);
    let defaults = Defaults { run_config: &run_config, env_vars: &env_vars };
    let launched = |spec: CommandSpec| launch(&spec, &defaults, 1, IdMapping::Range).unwrap();

    let plain = launched(CommandSpec { env: Some(env([("C", "own")])), ..CommandSpec::new("x") });
    assert_eq!(plain.user(), Some("ada"));
    let spawn = plain.spawn(root(), false);
    assert_eq!(["A", "B", "C", "PATH"].map(|n| get(&spawn, n).unwrap()), ["config", "vars", "own", "/x"]);
    assert_eq!(spawn.cwd, "/srv");

    let cwd = |cwd: &str| launched(CommandSpec { cwd: Some(cwd.into()), ..CommandSpec::new("x") }).cwd;
    assert_eq!([cwd("/tmp"), cwd("src"), cwd("")], ["/tmp", "/home/user/src", "/srv"]);

    let own = RunConfig { user: Some("0".into()), work_dir: Some("/opt".into()), env_vars: None };
    let replaced = launched(CommandSpec { run_config: Some(own), ..CommandSpec::new("x") });
    assert_eq!((replaced.user(), replaced.cwd.as_str()), (None, "/opt"));
    assert_eq!(get(&replaced.spawn(root(), false), "B"), Some("vars"));
}

#[test]
fn homes_and_names_come_from_the_account() {
    let spawn = |account: Account| try_launch(&user("ada"), IdMapping::Range).unwrap().spawn(account, false);
    let ada =
        Account { uid: 1000, gid: 100, groups: vec![5], name: Some("ada".into()), home: Some("/h".into()) };
    let found = spawn(ada.clone());
    assert_eq!((found.uid, found.gid, found.groups.as_slice()), (1000, 100, &[5][..]));
    assert_eq!(["HOME", "USER", "LOGNAME"].map(|name| get(&found, name).unwrap()), ["/h", "ada", "ada"]);
    let nameless = spawn(Account { name: None, home: None, ..ada });
    assert_eq!((get(&nameless, "HOME"), get(&nameless, "USER")), (Some("/"), None));
    assert_eq!(get(&spawn(Account::default()), "HOME"), Some("/root"));
}

#[test]
fn users_are_looked_up_unless_they_are_root() {
    let looked_up =
        |text: &str| try_launch(&user(text), IdMapping::Range).map(|launch| launch.user().map(str::to_owned));
    for root in ["0", "root", "0:0", "root:0"] {
        assert_eq!(looked_up(root), Ok(None));
    }
    for other in ["ada", "1000", "ada:staff", "1000:100", "0:5"] {
        assert_eq!(looked_up(other), Ok(Some(other.to_owned())));
    }
    for nonsense in ["", "a\nb", "a\0b", &"x".repeat(USER_MAX + 1)] {
        assert_eq!(looked_up(nonsense).unwrap_err().kind, ErrorType::InvalidRequest);
    }
    let single = |text: &str| try_launch(&user(text), IdMapping::Single).map(|_| ());
    assert_eq!(single("1").unwrap_err().kind, ErrorType::NotSupported);
    assert_eq!(single("0"), Ok(()));
}

#[test]
fn ids_that_no_sandbox_has_are_refused() {
    let account = |uid, groups| Account { uid, groups, ..Account::default() };
    assert_eq!(check_ids(&account(IDS_MAX, vec![1])), Ok(()));
    assert!(check_ids(&account(IDS_MAX + 1, vec![])).unwrap_err().message.contains("65535"));
    assert!(check_ids(&account(1, vec![70000])).is_err());
}

#[test]
fn nonsense_is_refused() {
    let refused = |spec: CommandSpec| try_launch(&spec, IdMapping::Range).unwrap_err().kind;
    let mixed = CommandSpec { cwd: Some("/".into()), ..user("0") };
    assert_eq!(refused(mixed), ErrorType::InvalidRequest);
    assert_eq!(refused(CommandSpec::new("a\0b")), ErrorType::InvalidRequest);
    let strange = CommandSpec { env: Some(env([("A=B", "")])), ..CommandSpec::new("x") };
    assert_eq!(refused(strange), ErrorType::InvalidRequest);
    let run_config = Some(RunConfig { work_dir: Some("a".into()), ..RunConfig::default() });
    assert_eq!(refused(CommandSpec { run_config, ..CommandSpec::new("x") }), ErrorType::InvalidRequest);
}
