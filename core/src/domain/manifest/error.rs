use std::fmt;

use crate::error::{Error, Kind};

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1; none where it is about the file as a whole.
    pub line: Option<usize>,
    /// The key with its tables, `resources.memory`; list entries count from 0, `ports[1].port`. None for mistakes of
    /// syntax.
    pub key: Option<String>,
    /// What is wrong and what would be right. Reads on from the key where there is one.
    pub sentence: String,
}

impl Problem {
    pub(super) fn of_file(sentence: String) -> Self {
        Self { line: None, key: None, sentence }
    }

    pub(super) fn at_line(line: usize, sentence: String) -> Self {
        Self { line: Some(line), key: None, sentence }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("flare.toml")?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        f.write_str(": ")?;
        if let Some(key) = &self.key {
            write!(f, "`{key}` ")?;
        }
        f.write_str(&self.sentence)
    }
}

/// Everything that is wrong with a manifest; at least one problem. Displayed as one line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    problems: Vec<Problem>,
}

impl ManifestError {
    /// How many problems are reported at most.
    pub const MOST: usize = 20;

    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.line);
        problems.truncate(Self::MOST);
        Self { problems }
    }

    pub(super) fn one(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }

    /// The problems in the order of their lines.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestError {}

impl From<ManifestError> for Error {
    fn from(error: ManifestError) -> Self {
        let mut refusal = Self::new(
            Kind::Invalid,
            "manifest_invalid",
            error.to_string(),
            "Correct flare.toml and upload the folder again.",
        );
        refusal.field = Some("flare.toml");
        refusal
    }
}
