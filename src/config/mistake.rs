//! Where a setting came from, and what is wrong with it.

use std::{error::Error, fmt, path::PathBuf};

/// Where the value of a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The flag with this name, with its hyphens.
    Flag(String),
    /// The environment variable with this name.
    Environment(String),
    /// This key of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The key; empty for the file as a whole.
        key: String,
    },
    /// Nobody gave one.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(name) | Source::Environment(name) => formatter.write_str(name),
            Source::File { path, key } if key.is_empty() => write!(formatter, "{}", path.display()),
            Source::File { path, key } => write!(formatter, "{}:{key}", path.display()),
            Source::Default => formatter.write_str("default"),
        }
    }
}

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands.
    pub source: Source,
    /// The value that was given, if there is one to show.
    pub value: Option<String>,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.source)?;
        if let Some(value) = &self.value {
            // `Debug` escapes control characters, which a terminal must not get from a file.
            write!(formatter, " = {value:?}")?;
        }
        write!(formatter, ": {}", self.remedy)
    }
}

/// Everything that is wrong with the settings, at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// In the order of the settings.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => write!(formatter, "a setting is wrong")?,
            count => write!(formatter, "{count} settings are wrong")?,
        }
        for mistake in &self.mistakes {
            write!(formatter, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl Error for ConfigErrors {}
