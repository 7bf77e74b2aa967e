//! The API key. Never an option of the command line, which every user of the machine can read.

use std::path::Path;

use crate::ApiKey;
use crate::cli::StartError;

const VARIABLE: &str = "SANDWIRED_API_KEY";

/// The key, and whether it was made up.
pub(crate) struct KeyChoice {
    pub(crate) key: ApiKey,
    pub(crate) generated: bool,
}

/// From the file where that goes `first`, else the environment, else the file, else made up for an ephemeral server.
pub(super) fn choose(file: Option<&Path>, first: bool, ephemeral: bool) -> Result<KeyChoice, StartError> {
    let text = match (file, std::env::var(VARIABLE).ok()) {
        (Some(path), None) => read(path)?,
        (Some(path), Some(_)) if first => read(path)?,
        (_, Some(key)) => key,
        (None, None) if ephemeral => {
            return Ok(KeyChoice { key: ApiKey::random(), generated: true });
        }
        (None, None) => {
            let remedy = "give --api-key-file, set SANDWIRED_API_KEY, or use --ephemeral";
            return Err(StartError::client("there is no API key", Some(remedy)));
        }
    };
    let key = ApiKey::given(&text);
    let key =
        key.ok_or_else(|| StartError::client("the API key must be one word of printable ASCII", None))?;
    Ok(KeyChoice { key, generated: false })
}

fn read(path: &Path) -> Result<String, StartError> {
    std::fs::read_to_string(path).map_err(|error| {
        StartError::client(format!("the API key file {} can't be read: {error}", path.display()), None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_required_unless_ephemeral() {
        assert!(choose(None, false, false).is_err());
        let choice = choose(None, false, true).unwrap();
        assert!(choice.generated && choice.key.reveal().len() > 40);
    }

    #[test]
    fn the_key_file_is_read_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let choice = |first| choose(Some(&path), first, true);
        assert!(choice(true).err().unwrap().message.contains("can't be read"));
        std::fs::write(&path, "secret\n").unwrap();
        let chosen = choice(false).unwrap();
        assert_eq!((chosen.key.reveal(), chosen.generated), ("secret", false));
        std::fs::write(&path, " \n").unwrap();
        assert!(choice(true).is_err());
    }
}
