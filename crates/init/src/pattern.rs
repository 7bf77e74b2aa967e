//! Patterns of paths, matched name by name while a tree is walked, so that no directory is entered in vain.
//!
//! `*`, `?` and `[...]` match within a name, also a leading dot; `**` as a whole name matches any number of directories.
//! A pattern is a list of steps; what is matched so far is the set of steps that may come next, so that no pattern takes
//! longer than its length times the path's.

use glob::MatchOptions;

/// Longest pattern, bytes.
pub const PATTERN_MAX: usize = 4096;

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// A pattern of paths below a directory.
#[derive(Debug, Clone)]
pub struct Pattern {
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    /// `**`: any number of directories.
    Directories,
    Name(glob::Pattern),
}

/// What is matched of a path so far: positions of steps that may come next, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress(Vec<usize>);

impl Pattern {
    /// # Errors
    /// Says what is wrong with the pattern.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > PATTERN_MAX {
            return Err(format!("is longer than {PATTERN_MAX} bytes"));
        }
        let mut steps = text.split('/').map(Step::new).collect::<Result<Vec<_>, _>>()?;
        // At the end it matches what is below, not the directory itself.
        if let Some(Step::Directories) = steps.last() {
            steps.push(Step::Name(glob::Pattern::new("*").map_err(|error| error.to_string())?));
        }
        Ok(Self { steps })
    }

    /// The same, but one without a slash is for names at any depth.
    ///
    /// # Errors
    /// Says what is wrong with the pattern.
    pub fn of_names(text: &str) -> Result<Self, String> {
        let mut pattern = Self::new(text)?;
        if !text.contains('/') {
            pattern.steps.insert(0, Step::Directories);
        }
        Ok(pattern)
    }

    /// Before the first name.
    #[must_use]
    pub fn start(&self) -> Progress {
        let mut next = Vec::new();
        self.reach(0, &mut next);
        Progress(next)
    }

    /// After one name more.
    #[must_use]
    pub fn step(&self, so_far: &Progress, name: &str) -> Progress {
        let mut next = Vec::new();
        for &at in &so_far.0 {
            match self.steps.get(at) {
                Some(Step::Directories) => self.reach(at, &mut next),
                Some(Step::Name(pattern)) if pattern.matches_with(name, OPTIONS) => {
                    self.reach(at + 1, &mut next)
                }
                _ => {}
            }
        }
        Progress(next)
    }

    /// Adds a position, and those behind it that need no name. Positions arrive in ascending order.
    fn reach(&self, mut at: usize, next: &mut Vec<usize>) {
        loop {
            if next.last().is_none_or(|last| *last < at) {
                next.push(at);
            }
            if !matches!(self.steps.get(at), Some(Step::Directories)) {
                return;
            }
            at += 1;
        }
    }

    /// Whether the whole pattern is matched.
    #[must_use]
    pub fn is_matched(&self, so_far: &Progress) -> bool {
        so_far.0.last() == Some(&self.steps.len())
    }

    /// Whether a longer path may match.
    #[must_use]
    pub fn goes_on(&self, so_far: &Progress) -> bool {
        so_far.0.first().is_some_and(|first| *first < self.steps.len())
    }
}

impl Step {
    fn new(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("must be relative, without empty names".to_owned()),
            "." | ".." => Err(format!("must not contain {text:?} as a name")),
            "**" => Ok(Self::Directories),
            _ if text.contains('\0') => Err("must not contain a NUL character".to_owned()),
            _ => glob::Pattern::new(text).map(Self::Name).map_err(|error| format!("{text:?}: {}", error.msg)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walk(pattern: &Pattern, path: &str) -> (bool, bool) {
        let mut entered = true;
        let end = path.split('/').fold(pattern.start(), |so_far, name| {
            entered &= pattern.goes_on(&so_far);
            pattern.step(&so_far, name)
        });
        (pattern.is_matched(&end) && entered, pattern.goes_on(&end))
    }

    fn matches(pattern: &str, path: &str) -> bool {
        walk(&Pattern::new(pattern).unwrap(), path).0
    }

    #[test]
    fn names_and_directories() {
        for (pattern, yes, no) in [
            ("*", &["a", ".env", "ü"][..], &["a/b"][..]),
            ("*.py", &["x.py", ".py"], &["x.pyc", "a/x.py"]),
            ("**/*.py", &["x.py", "a/x.py", "a/b/c/x.py"], &["a/x.c"]),
            ("src/**", &["src/a", "src/a/b"], &["src", "srcs/a"]),
            ("**", &["a", "a/b"], &[]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b", "a/b/b"], &["b", "a/x", "a/b/x"]),
            ("**/a/**/b/**", &["a/b/c", "x/a/y/b/c", "a/a/b/b/c"], &["a/b", "b/a/c"]),
            ("?[a-c]", &["xa", "üb"], &["a", "xd", "xab"]),
            ("[!a]*", &["b", "bc"], &["a", "ab"]),
            ("[*]", &["*"], &["a"]),
        ] {
            yes.iter().for_each(|path| assert!(matches(pattern, path), "{pattern} {path}"));
            no.iter().for_each(|path| assert!(!matches(pattern, path), "{pattern} {path}"));
        }
    }

    #[test]
    fn no_directory_is_entered_in_vain() {
        let goes_on = |pattern: &str, path| walk(&Pattern::new(pattern).unwrap(), path).1;
        assert!(!goes_on("*", "a") && !goes_on("src/*.rs", "lib") && !goes_on("a/b", "a/c"));
        assert!(goes_on("src/*.rs", "src") && goes_on("**/x", "any/thing") && goes_on("**", "x"));
    }

    #[test]
    fn without_a_slash_names_are_meant() {
        let pattern = Pattern::of_names("*.py").unwrap();
        assert!(walk(&pattern, "a/b/x.py").0 && walk(&pattern, "x.py").0 && !walk(&pattern, "x.py/a").0);
        assert!(!walk(&Pattern::of_names("a/*.py").unwrap(), "b/a/x.py").0);
    }

    #[test]
    fn nonsense_is_refused() {
        for pattern in ["", "/a", "a/", "a//b", "../a", "a/./b", "[a", "a**", "a/**b", "x\0"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern:?}");
        }
        assert!(Pattern::new(&"x".repeat(PATTERN_MAX + 1)).is_err());
    }

    #[test]
    fn hard_patterns_are_no_work() {
        let pattern = Pattern::new(&format!("{}b", "**/a*/".repeat(600))).unwrap();
        let path = vec!["a".repeat(255); 100].join("/");
        assert!(!walk(&pattern, &path).0);
        let stars = Pattern::new(&format!("{}b", "*a".repeat(100))).unwrap();
        assert!(!walk(&stars, &"a".repeat(255)).0);
    }

    proptest! {
        #[test]
        fn a_path_matches_itself_and_all(path in "[a-z]{1,5}(/[a-z]{1,5}){0,5}", other in "[a-z]{1,9}") {
            let anywhere = format!("**/{}", path.rsplit('/').next().unwrap());
            prop_assert!(matches(&path, &path) && matches("**", &path) && matches(&anywhere, &path));
            let longer = format!("{path}/{other}");
            prop_assert!(!matches(&longer, &path));
        }

        #[test]
        fn anything_is_a_pattern_or_refused(pattern: String, path: String) {
            if let Ok(pattern) = Pattern::new(&pattern) {
                walk(&pattern, &path);
            }
        }
    }
}
