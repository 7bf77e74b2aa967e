//! What a state directory has that no sandbox needs. A server removes it at its start and as it goes; this is for a
//! directory that none uses.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use super::state_dir::{StateDir, entries};
use crate::store::{self, Store, StoreError, StoredPhase};

/// Prefix of the directories in which `doctor` tries things.
pub(crate) const DOCTOR_PREFIX: &str = "doctor-";

/// Something to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Garbage {
    /// What it was.
    pub(crate) what: &'static str,
    pub(crate) path: PathBuf,
}

/// All of it. Sandboxes that the database knows are never among it, nor are files that are not the server's.
///
/// # Errors
/// The database can't be read; then nobody knows what is garbage.
pub(crate) fn find(state: &StateDir) -> Result<Vec<Garbage>, StoreError> {
    let known = known(state.path())?;
    let is_known = |path: &Path| name(path).is_some_and(|name| known.contains(name));
    let is_probe = |path: &PathBuf| name(path).is_some_and(|name| name.starts_with(DOCTOR_PREFIX));
    let garbage = |what| move |path| Garbage { what, path };
    let mut found: Vec<_> = entries(&state.trash_dir()).into_iter().map(garbage("trash")).collect();
    let boxes = state.leftovers().into_iter().filter(|path| !is_known(path));
    found.extend(boxes.map(garbage("files of no sandbox")));
    let journals = entries(&state.journals()).into_iter().filter(|path| !is_known(path));
    found.extend(journals.map(garbage("journal of no sandbox")));
    let probes = entries(state.path()).into_iter().filter(is_probe);
    found.extend(probes.map(garbage("left by doctor")));
    Ok(found)
}

/// Removes what was found; what is large goes piece by piece, and what is left of it is trash.
///
/// # Errors
/// Something could not be removed.
pub(crate) fn remove(state: &StateDir, found: &[Garbage]) -> io::Result<()> {
    let trash = state.trash();
    let trashed = state.trash_dir();
    for Garbage { path, .. } in found.iter().filter(|garbage| !garbage.path.starts_with(&trashed)) {
        trash.take(path)?;
    }
    trash.empty()
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Ids of the sandboxes that are to stay.
fn known(dir: &Path) -> Result<HashSet<String>, StoreError> {
    // A directory with files of sandboxes and no database was refused before, unless an ephemeral server left it.
    if !dir.join(store::FILE).try_exists()? {
        return Ok(HashSet::new());
    }
    let rows = Store::open(Some(dir))?.write_blocking(store::load)?;
    let kept = rows.into_iter().filter(|row| row.phase != StoredPhase::Deleting);
    Ok(kept.map(|row| row.id.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::UNIX_EPOCH;
    use uuid::Uuid;

    fn row(phase: StoredPhase) -> store::Row {
        let id = Uuid::new_v4();
        let name = (phase != StoredPhase::Deleting).then(|| id.to_string());
        let (created_at, updated_at) = (UNIX_EPOCH, UNIX_EPOCH);
        store::Row {
            id,
            name,
            phase,
            failure: None,
            settings: "{}".into(),
            created_at,
            updated_at,
            stopped_at: None,
        }
    }

    #[test]
    fn sandboxes_stay_and_everything_else_goes() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let rows =
            [StoredPhase::Live, StoredPhase::Stopped, StoredPhase::Failed, StoredPhase::Deleting].map(row);
        let store = Store::open(Some(dir.path())).unwrap();
        for row in rows.clone() {
            store.write_blocking(move |tx| store::insert(tx, &row)).unwrap();
            fs::create_dir_all(state.boxes().join(rows[0].id.to_string())).unwrap();
        }
        drop(store);
        let ids: Vec<_> = rows.iter().map(|row| row.id.to_string()).chain(["stranger".to_owned()]).collect();
        for id in &ids {
            fs::create_dir_all(state.boxes().join(id).join("upper/deep")).unwrap();
            fs::create_dir_all(state.journals()).unwrap();
            fs::write(state.journals().join(id), "x").unwrap();
        }
        fs::create_dir_all(state.trash_dir().join("old/tree")).unwrap();
        fs::create_dir(dir.path().join("doctor-1")).unwrap();
        fs::write(dir.path().join("theirs"), "").unwrap();
        let found = find(&state).unwrap();
        let mut counts = std::collections::BTreeMap::new();
        found.iter().for_each(|garbage| *counts.entry(garbage.what).or_insert(0) += 1);
        let wanted =
            [("files of no sandbox", 2), ("journal of no sandbox", 2), ("left by doctor", 1), ("trash", 1)];
        assert_eq!(counts, wanted.into());
        remove(&state, &found).unwrap();
        assert_eq!(find(&state).unwrap(), []);
        for id in ids.iter().take(3) {
            assert!(state.boxes().join(id).join("upper/deep").exists() && state.journals().join(id).exists());
        }
        assert!(dir.path().join("theirs").exists());
    }

    #[test]
    fn without_a_readable_database_nothing_is_garbage() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        fs::create_dir_all(state.boxes().join("sandbox")).unwrap();
        fs::write(dir.path().join(store::FILE), "not a database, but as long as a header of one would be at the very least; so it is refused by what reads it").unwrap();
        assert!(find(&state).is_err());
    }
}
