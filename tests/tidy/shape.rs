//! The shape of a file and the names that it must not say.

use crate::{tokens::tokens, tree::SourceFile};

/// A file of this many lines is too long to be read as one.
const LINES_TOO_MANY: usize = 400;

/// Macros that stand for something still to be done.
const UNDONE: &[&str] = &["todo", "unimplemented", "dbg"];

/// A file that is too long, or that does not begin by saying what it is for.
pub(crate) fn file_faults(file: &SourceFile) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = file.text.lines().count();
    if lines >= LINES_TOO_MANY {
        faults.push(
            file.fault(lines, format_args!("{lines} lines; under {LINES_TOO_MANY} is the rule")),
        );
    }
    if !file.text.lines().next().is_some_and(|line| line.starts_with("//! ")) {
        faults.push(file.fault(1, "the first line is not `//! ` and what the file is for"));
    }
    faults
}

/// Every place in `file` that says one of `names`, or a crate whose name begins with one and `_`.
pub(crate) fn names(file: &SourceFile, names: &[&str], why: &str) -> Vec<String> {
    let is_named = |text: &str| {
        names.iter().any(|name| match text.strip_prefix(name) {
            Some(rest) => rest.is_empty() || (rest.starts_with('_') && *name != "unsafe"),
            None => false,
        })
    };
    let found = tokens(&file.text).into_iter().filter(|token| is_named(&token.text));
    found.map(|token| file.fault(token.line, format_args!("`{}` {why}", token.text))).collect()
}

/// Every macro for work still to be done, and every test that is switched off.
pub(crate) fn unfinished(file: &SourceFile) -> Vec<String> {
    let tokens = tokens(&file.text);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut faults = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let name = token.text.as_str();
        if UNDONE.contains(&name) && text(at + 1) == "!" {
            faults.push(file.fault(token.line, format_args!("`{name}!` is left")));
        }
        if name == "#" && text(at + 1) == "[" && text(at + 2) == "ignore" {
            faults.push(file.fault(token.line, "a test is switched off by `#[ignore]`"));
        }
    }
    faults
}

#[test]
fn a_long_file_and_one_without_a_header_are_reported() {
    let long = format!("//! Long.\n{}", "\n".repeat(LINES_TOO_MANY - 1));
    assert_eq!(
        file_faults(&SourceFile::new("a.rs", &long)),
        ["a.rs:400: 400 lines; under 400 is the rule"]
    );
    assert_eq!(file_faults(&SourceFile::new("a.rs", "use std::fs;\n")).len(), 1);
    assert_eq!(file_faults(&SourceFile::new("a.rs", "//! Fine.\n")), [""; 0]);
}

#[test]
fn a_forbidden_name_is_reported_and_its_likeness_is_not() {
    let text = "use nix::fcntl;\n\n#![deny(unsafe_code)] // unsafe\nuse tokio_stream::wrappers;\n";
    let file = SourceFile::new("a.rs", text);
    assert_eq!(names(&file, &["nix", "libc", "unsafe"], "is out"), ["a.rs:1: `nix` is out"]);
    assert_eq!(names(&file, &["tokio"], "is out"), ["a.rs:4: `tokio_stream` is out"]);
    assert_eq!(names(&SourceFile::new("a.rs", "unsafe { f() }"), &["unsafe"], "is out").len(), 1);
}

#[test]
fn unfinished_work_is_reported() {
    let text =
        "fn f() { todo!() }\n#[ignore = \"slow\"]\nlet todo = 1; // dbg!\nlet s = \"dbg!()\";";
    let file = SourceFile::new("a.rs", text);
    assert_eq!(
        unfinished(&file),
        ["a.rs:1: `todo!` is left", "a.rs:2: a test is switched off by `#[ignore]`"]
    );
}
