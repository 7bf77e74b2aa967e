//! The configuration file. A name that is not known is refused, with the one that was probably meant.

use std::path::Path;

use super::{Options, show};
use crate::cli::StartError;

/// Below this similarity a name was not meant: the value that the command line's parser uses as well.
const SIMILAR: f64 = 0.7;

pub(super) fn read(path: &Path) -> Result<Options, StartError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        StartError::client(format!("the configuration file {shown} can't be read: {error}"), None)
    })?;
    let refused = |reason: String, remedy: Option<&str>| {
        StartError::client(format!("the configuration file {shown}: {}", reason.trim_end()), remedy)
    };
    let wrong = |error: toml::de::Error| refused(described(&text, &error), None);
    let table: toml::Table = toml::from_str(&text).map_err(wrong)?;
    if let Some(unknown) = table.keys().find(|key| !show::names().contains(key)) {
        let remedy = match nearest(unknown) {
            Some(known) => format!("did you mean `{known}`?"),
            None => "`sandwired config --default` prints all settings".to_owned(),
        };
        return Err(refused(format!("there is no setting `{unknown}`"), Some(&remedy)));
    }
    // From the text again, as only that knows where a value of the wrong type stands.
    toml::from_str(&text).map_err(wrong)
}

/// What is wrong and where, without the line itself: it may be a key that was pasted into the wrong file.
fn described(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let Some(before) = before else { return error.message().to_owned() };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: {}", error.message())
}

fn nearest(unknown: &str) -> Option<String> {
    let wanted = unknown.to_lowercase().replace('-', "_");
    let scored = show::names().into_iter().map(|name| (strsim::jaro(&wanted, &name), name));
    let best = scored.filter(|(score, _)| *score > SIMILAR).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> StartError {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sandwired.toml");
        std::fs::write(&path, text).unwrap();
        read(&path).unwrap_err()
    }

    #[test]
    fn the_nearest_known_name_is_told() {
        for (written, meant) in [
            ("idle_ttl", "idle_ttl_seconds"),
            ("public-url", "public_url"),
            ("Listen", "listen"),
            ("sandbox_max", "sandboxes_max"),
        ] {
            let error = refusal(&format!("{written} = 1"));
            assert!(error.message.contains(&format!("`{written}`")), "{}", error.message);
            assert_eq!(error.remedy, Some(format!("did you mean `{meant}`?")));
        }
        assert!(refusal("xyzzy = 1").remedy.unwrap().contains("--default"));
    }

    #[test]
    fn the_place_of_what_is_wrong_is_told_and_not_the_line() {
        assert!(refusal("\nsandboxes_max = \"many\"").message.contains("line 2, column 17: "));
        assert!(refusal("listen = \"here\"").message.contains("line 1, column 10: "));
        assert!(refusal("listen =").message.contains("line 1, column "));
        for pasted in ["s3cret", "listen = s3cret", "# one\n s3cret s3cret", "api_key = \"s3cret"] {
            let error = refusal(pasted);
            assert!(
                !error.message.contains("s3cret") && error.message.contains("line "),
                "{}",
                error.message
            );
        }
        assert!(read(Path::new("/nonexistent")).unwrap_err().message.contains("/nonexistent"));
    }
}
