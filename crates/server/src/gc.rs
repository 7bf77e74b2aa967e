//! `sandwired gc`: removes what no sandbox needs from a state directory that no server uses. A running server does
//! that by itself.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cli::StartError;
use crate::config::Config;
use crate::engine::garbage::{self, Garbage};
use crate::engine::{StateDir, StateDirError};

/// Unit of `st_blocks`, bytes.
const BLOCK: u64 = 512;

/// Says what it finds, and removes it unless it is `dry`.
pub(crate) fn run(config: &Config, dry: bool) -> Result<(), StartError> {
    let path = config.state_dir.as_deref().ok_or_else(|| {
        StartError::client("there is no state directory", Some("give --state-dir or set SANDWIRED_STATE_DIR"))
    })?;
    if !StateDir::is_one(path) {
        let message = format!("{} is not a state directory: no sandwired has used it", path.display());
        return Err(StartError::client(message, None));
    }
    // Only with the rights that sandboxes were made with can their files be removed.
    sandwire_isolate::enter()?;
    let state = StateDir::open(path).map_err(refused)?;
    let found = garbage::find(&state).map_err(|error| StartError::client(error.to_string(), None))?;
    let _nobody_reads = report(&mut io::stdout().lock(), &found, dry);
    if dry {
        return Ok(());
    }
    sandwire_isolate::clean(state.path());
    garbage::remove(&state, &found).map_err(|error| {
        StartError::client(format!("not everything was removed: {error}"), Some("look for mounts below it"))
    })
}

fn refused(error: StateDirError) -> StartError {
    let remedy = match error {
        StateDirError::InUse(_) => {
            "a running server removes garbage by itself; to do it by hand, stop it first"
        }
        _ => "run it as the user that runs sandwired",
    };
    StartError::client(error.to_string(), Some(remedy))
}

fn report(out: &mut impl Write, found: &[Garbage], dry: bool) -> io::Result<()> {
    let mut all = 0u64;
    for Garbage { what, path } in found {
        let bytes = size(path);
        all = all.saturating_add(bytes);
        writeln!(out, "{:>12}  {what:21}  {}", kib(bytes), path.display())?;
    }
    let verb = if dry { "would be removed" } else { "are removed" };
    writeln!(out, "{:>12}  in {} entries {verb}", kib(all), found.len())?;
    out.flush()
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes / 1024)
}

/// What a tree takes on disk. What can't be looked at, as what is nested beyond the longest path, counts for nothing.
fn size(tree: &Path) -> u64 {
    let (mut bytes, mut waiting): (u64, Vec<PathBuf>) = (0, vec![tree.to_owned()]);
    while let Some(path) = waiting.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        bytes = bytes.saturating_add(metadata.blocks().saturating_mul(BLOCK));
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    bytes
}
