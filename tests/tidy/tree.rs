//! The files of the project, and how faults in them are told.
//!
//! Knows nothing about what a file should look like.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A text file: its path from the top of the project, and what it holds.
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl SourceFile {
    /// Makes up a file, to check the checks.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Says what is wrong in which line of this file, counted from 1.
    pub(crate) fn fault(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// Fails the test with every fault, one a line.
pub(crate) fn report(faults: impl IntoIterator<Item = String>) {
    let faults: Vec<String> = faults.into_iter().collect();
    assert!(faults.is_empty(), "{} fault(s):\n{}", faults.len(), faults.join("\n"));
}

/// The Rust files at or below each of `starts` that exists, in a fixed order.
pub(crate) fn rust_files(starts: &[&str]) -> Vec<SourceFile> {
    starts.iter().flat_map(|start| files_with_extension(start, "rs")).collect()
}

/// The files at or below `start` whose name ends in `extension`, in a fixed order.
pub(crate) fn files_with_extension(start: &str, extension: &str) -> Vec<SourceFile> {
    let wanted = |name: &String| Path::new(name).extension().is_some_and(|end| end == extension);
    let names = names_below(start).into_iter().filter(wanted);
    names.map(|path| SourceFile { text: read(&path), path }).collect()
}

/// The paths of all files at or below `start`, from the top of the project, sorted.
pub(crate) fn names_below(start: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![PathBuf::from(start)];
    while let Some(path) = open.pop() {
        let full = top().join(&path);
        if full.is_dir() {
            let entries = fs::read_dir(&full)
                .unwrap_or_else(|error| panic!("cannot list {}: {error}", full.display()));
            open.extend(entries.flatten().map(|entry| path.join(entry.file_name())));
        } else if full.is_file() {
            names.push(path.to_string_lossy().into_owned());
        }
    }
    names.sort();
    names
}

/// What the file at `path` holds; a file that cannot be read as text fails the test.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(top().join(path))
        .unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
