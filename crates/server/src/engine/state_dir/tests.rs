//! Who gets a directory, and what of it is left behind.

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

fn us() -> u32 {
    geteuid().as_raw()
}

#[test]
fn a_second_server_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = StateDir::open(dir.path()).unwrap();
    assert!(matches!(StateDir::open(dir.path()), Err(StateDirError::InUse(_))));
    drop(first);
    assert!(StateDir::open(dir.path()).is_ok());
}

#[test]
fn everything_is_private_and_a_temporary_one_goes() {
    let temp = tempfile::tempdir().unwrap();
    let state = StateDir::temporary_in(temp.path(), us()).unwrap();
    let path = state.path().to_owned();
    for dir in [path.parent().unwrap().to_owned(), path.clone(), path.join(BOXES), path.join(TRASH)] {
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
    let other = StateDir::temporary_in(temp.path(), us()).unwrap();
    state.close().unwrap();
    assert!(!path.exists() && other.path().exists());
    drop(other);
    assert_eq!(entries(temp.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn leftovers_are_found_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    fs::create_dir_all(state.boxes().join("box/upper/a")).unwrap();
    fs::create_dir_all(dir.path().join("trash/old")).unwrap();
    for tree in state.leftovers() {
        state.trash().discard(&tree).await;
    }
    assert_eq!(entries(&state.boxes()), Vec::<PathBuf>::new());
    assert_eq!(entries(&dir.path().join(TRASH)), Vec::<PathBuf>::new());
}

#[test]
fn what_is_kept_is_not_taken_for_what_may_go() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("kept");
    drop(StateDir::open(&kept).unwrap());
    fs::create_dir_all(kept.join("boxes/id")).unwrap();
    // Without its database nobody knows whose files these are.
    assert!(matches!(StateDir::open(&kept), Err(StateDirError::NoDatabase(_))));
    assert!(matches!(StateDir::ephemeral(&kept), Err(StateDirError::NoDatabase(_))));
    fs::write(kept.join(crate::store::FILE), "").unwrap();
    assert!(matches!(StateDir::ephemeral(&kept), Err(StateDirError::Kept(_))));
    assert!(StateDir::open(&kept).is_ok() && kept.join("boxes/id").exists());

    let killed = dir.path().join("killed");
    std::mem::forget(StateDir::ephemeral(&killed).unwrap());
    assert!(matches!(StateDir::open(&killed), Err(StateDirError::InUse(_))));
    let moved = dir.path().join("moved");
    fs::create_dir_all(moved.join("boxes/id")).unwrap();
    fs::write(moved.join(EPHEMERAL), "").unwrap();
    let next = StateDir::open(&moved).unwrap();
    assert_eq!(next.leftovers().len(), 1, "of an ephemeral server that was killed");
    next.keep().unwrap();
    assert!(!moved.join(EPHEMERAL).exists());
}

#[test]
fn an_ephemeral_server_takes_away_what_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    for (path, made) in [(dir.path().to_owned(), false), (dir.path().join("new"), true)] {
        let state = StateDir::ephemeral(&path).unwrap();
        fs::create_dir_all(path.join("base/lower/usr")).unwrap();
        fs::create_dir_all(path.join("boxes/id/upper")).unwrap();
        state.close().unwrap();
        assert_eq!(path.exists(), !made);
        assert_eq!(entries(&path), Vec::<PathBuf>::new());
    }
    fs::write(dir.path().join("theirs"), "").unwrap();
    drop(StateDir::ephemeral(dir.path()).unwrap());
    assert_eq!(entries(dir.path()), [dir.path().join("theirs")]);
}

#[test]
fn what_a_killed_server_left_is_found_by_the_next() {
    let temp = tempfile::tempdir().unwrap();
    let living = StateDir::temporary_in(temp.path(), us()).unwrap();
    let dead = living.path().parent().unwrap().join("dead");
    fs::create_dir_all(dead.join("boxes/id")).unwrap();
    let next = StateDir::temporary_in(temp.path(), us()).unwrap();
    let abandoned = next.abandoned();
    assert_eq!(abandoned.iter().map(|dir| &dir.path).collect::<Vec<_>>(), [&dead]);
    assert!(living.abandoned().is_empty(), "one cleans it up");
}

#[test]
fn a_parent_that_others_may_have_made_is_not_used() {
    for mode in [None, Some(0o755)] {
        let temp = tempfile::tempdir().unwrap();
        let parent = temp.path().join(format!("sandwired-{}", us()));
        match mode {
            None => symlink(tempfile::tempdir().unwrap().path(), &parent).unwrap(),
            Some(mode) => {
                fs::create_dir(&parent).unwrap();
                fs::set_permissions(&parent, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        let state = StateDir::temporary_in(temp.path(), us()).unwrap();
        assert_eq!(state.path().parent(), Some(temp.path()));
        assert!(state.abandoned().is_empty());
    }
}
