//! Roots that earlier versions wrote.

use std::{fs, path::Path};

use super::{Daemon, Setup};

/// A service on a copy of a root in tests/data.
pub(crate) async fn stored(version: &str) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(version), &root);
    Daemon::start_on(Setup::default(), root, folder).await
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}
