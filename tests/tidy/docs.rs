//! Documents that must keep up with the tree: docs/DEPENDENCIES.md and docs/STORAGE.md.

use std::collections::BTreeSet;

/// Ends the part of docs/DEPENDENCIES.md that lists what is used.
const LEFT_OUT: &str = "## Left out";

/// Dependencies of `manifest` without a line in `document`, and lines without a dependency.
///
/// A line of `document` about a dependency begins with "- `name`".
pub(crate) fn dependency_faults(manifest: &str, document: &str) -> Vec<String> {
    let used = dependencies(manifest);
    let lines = (1..).zip(document.lines()).take_while(|(_, line)| !line.starts_with(LEFT_OUT));
    let explained: Vec<(usize, &str)> = lines
        .filter_map(|(number, line)| Some((number, line.strip_prefix("- `")?.split('`').next()?)))
        .collect();
    let missing = used.iter().filter(|(_, name)| !explained.iter().any(|(_, told)| told == name));
    let stale = explained.iter().filter(|(_, told)| !used.iter().any(|(_, name)| name == told));
    missing
        .map(|(number, name)| {
            format!("Cargo.toml:{number}: `{name}` has no line in docs/DEPENDENCIES.md")
        })
        .chain(stale.map(|(number, told)| {
            format!("docs/DEPENDENCIES.md:{number}: `{told}` is not in Cargo.toml")
        }))
        .collect()
}

/// Files among `fixtures` (paths below tests/data/v1) whose kind `document` does not name.
pub(crate) fn storage_faults(fixtures: &[String], document: &str) -> Vec<String> {
    let is_named = |path: &&String| !document.contains(&documented_name(path));
    let unnamed = fixtures.iter().filter(is_named);
    unnamed
        .map(|path| format!("{path}: docs/STORAGE.md does not say `{}`", documented_name(path)))
        .collect()
}

/// Each dependency of any kind, with its line.
fn dependencies(manifest: &str) -> BTreeSet<(usize, &str)> {
    let mut found = BTreeSet::new();
    let mut is_list = false;
    // Brackets still open from lines before: their content names features, not dependencies.
    let mut open = 0_usize;
    for (number, line) in (1..).zip(manifest.lines()) {
        let line = line.split('#').next().unwrap_or(line).trim();
        if open == 0 && line.starts_with('[') {
            is_list = line.trim_end_matches(']').ends_with("dependencies");
            continue;
        }
        if open == 0
            && is_list
            && let Some((name, _)) = line.split_once('=')
        {
            found.insert((number, name.trim().trim_end_matches(".workspace")));
        }
        open += line.matches(['[', '{']).count();
        open = open.saturating_sub(line.matches([']', '}']).count());
    }
    found
}

/// How a document names a stored file: by its own name, or by its folder and `<id>` where its name
/// is the id of a job.
fn documented_name(path: &str) -> String {
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or(path);
    let is_id = name.len() == 26 && name.chars().all(|letter| letter.is_ascii_alphanumeric());
    if is_id { format!("{}/<id>", parts.next().unwrap_or("")) } else { name.to_owned() }
}

#[test]
fn a_dependency_without_a_line_and_a_line_without_one_are_reported() {
    let manifest = "[package]
name = \"x\"
[dependencies]
one = \"1\"
two = { version = \"2\", features = [
    \"a = b\",
] }
# three = \"3\"
[dev-dependencies]
four = \"4\"
[profile.release]
lto = true
";
    let document = "# D\n- `one`: reads.\n- `five`: gone.\n## Left out\n- `six`: heavy.\n";
    assert_eq!(
        dependency_faults(manifest, document),
        [
            "Cargo.toml:5: `two` has no line in docs/DEPENDENCIES.md",
            "Cargo.toml:10: `four` has no line in docs/DEPENDENCIES.md",
            "docs/DEPENDENCIES.md:3: `five` is not in Cargo.toml",
        ]
    );
}

#[test]
fn a_stored_file_that_no_document_names_is_reported() {
    let fixtures = [
        "tests/data/v1/jobs/2026-01-01/00000000000000000000000000/spec.json".to_owned(),
        "tests/data/v1/active/00000000000000000000000000".to_owned(),
        "tests/data/v1/VERSION".to_owned(),
    ];
    let document = "`spec.json` is whole or absent. `active/<id>` is a cache.";
    assert_eq!(
        storage_faults(&fixtures, document),
        ["tests/data/v1/VERSION: docs/STORAGE.md does not say `VERSION`"]
    );
}
