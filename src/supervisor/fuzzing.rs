//! Fuzz target of files of variables.

#![expect(clippy::expect_used, reason = "a target tells what is wrong by panicking")]

use crate::job::{Secrets, fuzzing::spec_with_files};

use super::environment::{Environment, environment};
use crate::store::fuzzing::accepted;

/// What a file gives can be handed to a program, and gives the same when it is written again.
pub(crate) fn env_file(data: &[u8]) {
    let Some(read) = read(data) else { return };
    for (name, value) in &read {
        assert!(!name.is_empty() && !name.contains(&b'=') && !name.contains(&0));
        assert!(!value.contains(&0) && !value.contains(&b'\n'));
    }
    let lines = read.iter().map(|(name, value)| [&name[..], b"=", value, b"\n"].concat());
    let written = lines.collect::<Vec<_>>().concat();
    // A carriage return at the end of a value would be taken for a part of the line break.
    if !read.values().any(|value| value.ends_with(b"\r")) {
        assert_eq!(self::read(&written), Some(read));
    }
}

fn read(bytes: &[u8]) -> Option<Environment> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("env");
    std::fs::write(&path, bytes).expect("a file of variables");
    let spec = spec_with_files(vec![path.to_string_lossy().into_owned()]);
    environment(&accepted(spec), 1, &Secrets::default()).ok()
}
