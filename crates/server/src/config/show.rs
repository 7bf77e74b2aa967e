//! The settings as text: what holds, a template of the file, and the table of the documentation, all made from the
//! declaration of [`Options`].

use clap::{Args, Command};
use toml::{Table, Value};

use super::{Options, Source};
use crate::cli::StartError;

/// One setting as it was declared.
struct Declared {
    name: String,
    help: String,
    variable: Option<String>,
    default: Option<Value>,
}

fn declared() -> Vec<Declared> {
    let command = Options::augment_args(Command::new(""));
    let defaults = Table::try_from(Options::defaults()).unwrap_or_default();
    let declared = command.get_arguments().map(|argument| {
        let name = argument.get_id().to_string();
        Declared {
            help: argument.get_help().map(ToString::to_string).unwrap_or_default(),
            variable: argument.get_env().map(|name| name.to_string_lossy().into_owned()),
            default: defaults.get(&name).cloned(),
            name,
        }
    });
    declared.collect()
}

/// The names that a file may have.
pub(super) fn names() -> Vec<String> {
    declared().into_iter().map(|setting| setting.name).collect()
}

/// Every setting with its default, commented out: a file to begin with.
pub(crate) fn template() -> String {
    let mut text =
        String::from("# Settings of sandwired. Those that are commented out have the value shown.\n");
    for Declared { name, help, variable, default } in declared() {
        let variable = variable.map(|name| format!(" ({name})")).unwrap_or_default();
        let value = default.map(|value| format!(" {value}")).unwrap_or_default();
        text.push_str(&format!("\n# {help}{variable}\n# {name} ={value}\n"));
    }
    text
}

/// What holds, in the form of the file. There are no secrets among the settings.
pub(crate) fn effective(source: &Source) -> Result<String, StartError> {
    source.config()?;
    let options = source.options()?;
    toml::to_string(&options).map_err(|error| StartError::client(error.to_string(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the table in the documentation: name, variable, default, meaning.
    fn rows() -> Vec<[String; 4]> {
        let row = |Declared { name, help, variable, default }: Declared| {
            let variable = variable.unwrap_or_else(|| "SANDWIRED_API_KEY".into());
            let default = default.map(|value| format!("`{}`", value.to_string().trim_matches('"')));
            [format!("`{name}`"), format!("`{variable}`"), default.unwrap_or_default(), help]
        };
        declared().into_iter().map(row).collect()
    }

    #[test]
    fn the_documentation_has_every_setting() {
        let manual = include_str!("../../../../docs/OPERATIONS.md");
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let lines = manual.lines().skip_while(|line| !line.starts_with("| Setting"));
        let table: Vec<_> = lines.skip(2).take_while(|line| line.starts_with('|')).map(cells).collect();
        let wanted: Vec<_> = rows().into_iter().map(Vec::from).collect();
        let printed: Vec<_> = wanted.iter().map(|row| format!("| {} |", row.join(" | "))).collect();
        assert_eq!(table, wanted, "the table must be\n{}", printed.join("\n"));
    }

    #[test]
    fn the_template_is_a_file_of_the_defaults() {
        let uncommented: String = template()
            .lines()
            .filter_map(|line| {
                line.strip_prefix("# ").filter(|line| line.contains(" = ") && !line.contains(": "))
            })
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(toml::from_str::<Options>(&uncommented).unwrap(), Options::defaults());
    }

    #[test]
    fn every_setting_has_its_names_and_an_explanation() {
        for Declared { name, help, variable, .. } in declared() {
            assert!(help.len() > 20, "{name}: {help}");
            if let Some(variable) = variable {
                assert_eq!(variable, format!("SANDWIRED_{}", name.to_uppercase()));
            }
        }
    }
}
