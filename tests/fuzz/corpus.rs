//! The files of the fuzz crate that the driver reads: seeds, and the programs for cargo-fuzz.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The seeds of a target, in the order of their names.
pub(crate) fn inputs(target: &str) -> Vec<Vec<u8>> {
    let files = sorted(&top().join("corpus").join(target));
    files.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The names of the folders of seeds.
pub(crate) fn folders() -> Vec<String> {
    let folders = sorted(&top().join("corpus"));
    let names = folders.iter().filter_map(|path| path.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// The manifest of the fuzz crate.
pub(crate) fn manifest() -> String {
    fs::read_to_string(top().join("Cargo.toml")).unwrap()
}

/// The text of the program of a target.
pub(crate) fn program(target: &str) -> String {
    fs::read_to_string(top().join(format!("fuzz_targets/{target}.rs"))).unwrap_or_default()
}
