//! Places that killed servers left, in a hierarchy of ordinary directories.

use super::*;

/// Larger than any process number of the kernel.
const DEAD: u32 = i32::MAX as u32;

#[test]
fn places_are_named_after_their_servers() {
    let server = |name| server_of(name).map(|pid| pid.as_raw_nonzero().get());
    assert_eq!(server("sandwire-12-18b2f"), Some(12));
    assert_eq!(server("sandwire-12-18b2f-server"), Some(12));
    for other in [
        "sandwire-12",
        "sandwire-12-",
        "sandwire-0-1f",
        "sandwire--1-1f",
        "sandwire-x-1f",
        "sandwire-12-xyz",
        "a-12-1f",
    ] {
        assert_eq!(server(other), None, "{other}");
    }
}

/// A fake can't be removed as a cgroup is, with its files; so what is asked for is the judgement.
#[test]
fn only_what_nobody_is_in_is_deserted() {
    let root = tempfile::tempdir().unwrap();
    let sandbox = root.path().join("sandbox");
    let command = sandbox.join("c0");
    fs::create_dir_all(&command).unwrap();
    for dir in [root.path(), &sandbox, &command] {
        assert!(!is_deserted(root.path()), "what can't be read is not known to be empty");
        fs::write(dir.join("cgroup.procs"), "").unwrap();
    }
    assert!(is_deserted(root.path()));
    fs::write(command.join("cgroup.procs"), "7\n").unwrap();
    assert!(!is_deserted(root.path()));
}

#[test]
fn places_of_dead_servers_are_removed_and_others_are_not() {
    let root = tempfile::tempdir().unwrap();
    let place = |server: u32, time: &str| {
        let dir = root.path().join(format!("{PREFIX}{server}-{time}"));
        fs::create_dir(&dir).unwrap();
        fs::create_dir(dir.join("sandbox")).unwrap();
        dir
    };
    let own = place(std::process::id(), "2");
    let (living, stranger) = (place(std::process::id(), "1"), root.path().join("stranger-1-1"));
    let (left, leaf, unknown) = (place(DEAD, "1"), place(DEAD, "1-server"), place(DEAD, "3"));
    fs::create_dir(&stranger).unwrap();
    remove_abandoned(&own, |dir| *dir != *unknown);
    assert_eq!(
        [&own, &living, &stranger, &unknown, &left, &leaf].map(|dir| dir.exists()),
        [true, true, true, true, false, false]
    );
}
