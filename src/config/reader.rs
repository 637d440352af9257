//! Looks for each setting in the flags, the environment and the file, in this order.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::{ConfigFile, Inputs, Mistake, Source};

/// How far a misspelt key may be from a known one to be taken for it.
const TYPO_DISTANCE_MAX: usize = 3;

/// Reads one setting after the other and remembers where each came from and what was wrong.
pub(super) struct Reader<'a> {
    inputs: &'a Inputs<'a>,
    table: Table,
    known: Vec<&'static str>,
    sources: BTreeMap<&'static str, Source>,
    mistakes: Vec<Mistake>,
}

/// One value as text, with where it came from.
pub(super) struct Given<'a> {
    /// The value.
    pub(super) text: &'a str,
    /// What a relative path in it starts from: nothing in a file, which has no current directory.
    pub(super) base: Option<&'a Path>,
}

impl<'a> Reader<'a> {
    /// Takes the file apart; a file that is not TOML is the first mistake.
    pub(super) fn new(inputs: &'a Inputs<'a>) -> Reader<'a> {
        let mut reader = Reader {
            inputs,
            table: Table::new(),
            known: Vec::new(),
            sources: BTreeMap::new(),
            mistakes: Vec::new(),
        };
        if let Some(ConfigFile { path, text }) = &inputs.file {
            match text.parse() {
                Ok(table) => reader.table = table,
                Err(error) => {
                    let source = Source::File { path: path.clone(), key: String::new() };
                    let remedy = format!("must be TOML: {}", error.to_string().trim_end());
                    reader.mistakes.push(Mistake { source, value: None, remedy });
                }
            }
        }
        reader
    }

    /// The setting `key`, or `default` if nobody gave one or what was given is wrong.
    pub(super) fn one<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl Fn(&Given<'_>) -> Result<T, String>,
    ) -> T {
        let mut values = self.many(key, parse);
        values.pop().unwrap_or(default)
    }

    /// Every value of the list `key`; empty if nobody gave one or what was given is wrong.
    pub(super) fn many<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Given<'_>) -> Result<T, String>,
    ) -> Vec<T> {
        self.known.push(key);
        let (source, texts) = match self.look_up(key) {
            Ok(found) => found,
            Err(mistake) => {
                self.mistakes.push(mistake);
                return Vec::new();
            }
        };
        let base = match &source {
            Source::Flag(_) | Source::Environment(_) => {
                Some(self.inputs.machine.current_dir.as_path())
            }
            Source::File { .. } | Source::Default => None,
        };
        let mut values = Vec::new();
        for text in &texts {
            match parse(&Given { text, base }) {
                Ok(value) => values.push(value),
                Err(remedy) => {
                    let value = Some(text.clone());
                    self.mistakes.push(Mistake { source: source.clone(), value, remedy });
                }
            }
        }
        self.sources.insert(key, source);
        values
    }

    /// Where the setting `key` came from.
    pub(super) fn source(&self, key: &'static str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }

    /// Notes something that is wrong with more than one value.
    pub(super) fn mistake(&mut self, key: &'static str, value: Option<String>, remedy: String) {
        let source = self.source(key);
        self.mistakes.push(Mistake { source, value, remedy });
    }

    /// Adds keys of the file that nobody asked for and gives back all that was found out.
    pub(super) fn finish(mut self) -> (BTreeMap<&'static str, Source>, Vec<Mistake>) {
        let path = self.inputs.file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
        for key in self.table.keys().filter(|key| !self.known.contains(&key.as_str())) {
            self.mistakes.push(unknown_key(&path, key, &self.known));
        }
        (self.sources, self.mistakes)
    }

    /// The texts of the highest source that has any, none of them for the default.
    fn look_up(&self, key: &'static str) -> Result<(Source, Vec<String>), Mistake> {
        let flags = self.inputs.flags.values(key);
        if !flags.is_empty() {
            return Ok((Source::Flag(format!("--{}", key.replace('_', "-"))), flags.to_vec()));
        }
        let variable = format!("JOBWARDEN_{}", key.to_ascii_uppercase());
        if let Some(value) = self.inputs.environment.get(&variable) {
            return Ok((Source::Environment(variable), texts_of_variable(key, value)));
        }
        let (Some(value), Some(file)) = (self.table.get(key), &self.inputs.file) else {
            return Ok((Source::Default, Vec::new()));
        };
        let source = Source::File { path: file.path.clone(), key: key.to_owned() };
        match texts_of_value(key, value) {
            Some(texts) => Ok((source, texts)),
            None => Err(Mistake {
                source,
                value: Some(value.to_string()),
                remedy: expected_form(key).to_owned(),
            }),
        }
    }
}

/// The settings that are lists.
const LISTS: &[&str] = &[
    "listen",
    "unix_users",
    "certificates",
    "rlimits",
    "allowed_executables",
    "allowed_working_dirs",
    "allowed_env_keys",
];

/// Those of them of which an empty list says what it seems to: that there is none. One of programs
/// would allow any.
const MAY_BE_EMPTY: &[&str] = &["unix_users", "certificates"];

fn texts_of_variable(key: &str, value: &str) -> Vec<String> {
    if LISTS.contains(&key) {
        return value.split(',').map(|part| part.trim().to_owned()).collect();
    }
    vec![value.to_owned()]
}

fn texts_of_value(key: &str, value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Array(values) if LISTS.contains(&key) => values
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .filter(|texts| MAY_BE_EMPTY.contains(&key) || !texts.is_empty()),
        Value::Boolean(flag) => Some(vec![flag.to_string()]),
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

fn expected_form(key: &str) -> &'static str {
    match key {
        "listen" => {
            "must be an address or a list of at least one, for example [\"127.0.0.1:7420\"]"
        }
        key if MAY_BE_EMPTY.contains(&key) => "must be a string or a list of strings",
        key if LISTS.contains(&key) => {
            "must be a string, a list of at least one, or \"none\", which sets no bound"
        }
        _ => "must be a string, a whole number, true or false",
    }
}

fn unknown_key(path: &Path, key: &str, known: &[&'static str]) -> Mistake {
    let nearest = known
        .iter()
        .map(|candidate| (distance(key, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= TYPO_DISTANCE_MAX);
    let remedy = match nearest {
        Some((_, candidate)) => format!("is not a setting; did you mean {candidate}?"),
        None => format!("is not a setting; known are {}", known.join(", ")),
    };
    let source = Source::File { path: PathBuf::from(path), key: key.to_owned() };
    Mistake { source, value: None, remedy }
}

/// How many letters must be put in, taken out or replaced to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at_from, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at_from + 1;
        for (at_to, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[at_to + 1];
            row[at_to + 1] = replaced.min(diagonal + 1).min(row[at_to] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_near_the_one_that_was_meant() {
        assert_eq!(distance("max_wait", "max_wait"), 0);
        assert_eq!(distance("max_runing_jobs", "max_running_jobs"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
