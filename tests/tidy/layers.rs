//! Which module of the crate uses which, and whether it may.
//!
//! Reads paths that begin with `crate`, `super` or, in `main.rs`, the name of the library. A path
//! made by a macro is not seen.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    tokens::{Token, tokens},
    tree::SourceFile,
};

/// A module and the modules that it may use.
pub(crate) type Layer = (&'static str, &'static [&'static str]);

/// The uses in `file` that `layers` does not allow.
pub(crate) fn faults(file: &SourceFile, layers: &[Layer]) -> Vec<String> {
    let user = top_module(&file.path);
    if user == "lib" {
        return Vec::new();
    }
    let Some((_, allowed)) = layers.iter().find(|(module, _)| *module == user) else {
        return vec![file.fault(1, format_args!("module `{user}` is not in the table of layers"))];
    };
    let forbidden = uses(file).into_iter().filter(|(used, _)| !allowed.contains(&used.as_str()));
    forbidden
        .map(|(used, line)| file.fault(line, format_args!("`{user}` may not use `{used}`")))
        .collect()
}

/// What is wrong with the table itself: a line that allows what stands below it or nowhere.
pub(crate) fn table_faults(layers: &[Layer]) -> Vec<String> {
    let mut above = BTreeSet::new();
    let mut faults = Vec::new();
    for (module, allowed) in layers {
        let unknown = allowed.iter().filter(|used| !above.contains(*used));
        faults.extend(unknown.map(|used| {
            format!("the table of layers lets `{module}` use `{used}`, which is not above it")
        }));
        above.insert(*module);
    }
    faults
}

/// A circle of modules that use each other, if there is one.
pub(crate) fn circle(files: &[SourceFile]) -> Option<String> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let used = uses(file).into_iter().map(|(used, _)| used);
        graph.entry(top_module(&file.path).to_owned()).or_default().extend(used);
    }
    // What uses nothing that is left is in no circle; whatever then remains is, or leads to one.
    while let Some(done) = graph
        .iter()
        .find(|(_, used)| !used.iter().any(|module| graph.contains_key(module)))
        .map(|(module, _)| module.clone())
    {
        graph.remove(&done);
    }
    let mut module = graph.keys().next()?;
    let mut path: Vec<&str> = Vec::new();
    while !path.contains(&module.as_str()) {
        path.push(module);
        module = graph[module].iter().find(|used| graph.contains_key(*used))?;
    }
    path.push(module);
    Some(format!("modules use each other in a circle: {}", path.join(" → ")))
}

/// The top module that a file of `src` belongs to: `store` for `src/store/layout.rs`.
pub(crate) fn top_module(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let first = inside.split('/').next().unwrap_or(inside);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The other top modules that `file` names, each with the line.
fn uses(file: &SourceFile) -> BTreeSet<(String, usize)> {
    let tokens = tokens(&file.text);
    let own = module_path(&file.path);
    let mut reader = Reader { tokens: &tokens, library: own == ["main"], found: BTreeSet::new() };
    // Modules written inside the file, each with the depth of braces at which it ends.
    let mut inline: Vec<(String, usize)> = Vec::new();
    let mut depth = 0_usize;
    for at in 0..tokens.len() {
        match tokens[at].text.as_str() {
            "{" => {
                if at >= 2 && tokens[at - 2].text == "mod" {
                    inline.push((tokens[at - 1].text.clone(), depth));
                }
                depth += 1;
            }
            "}" => {
                depth = depth.saturating_sub(1);
                inline.pop_if(|(_, end)| *end == depth);
            }
            _ if reader.begins_path(at) => {
                let here = own.iter().chain(inline.iter().map(|(name, _)| name));
                reader.follow(at, &here.cloned().collect::<Vec<_>>());
            }
            _ => {}
        }
    }
    reader.found.retain(|(used, _)| used != top_module(&file.path));
    reader.found
}

/// The place of a file's module in the crate: `[store, layout]` for `src/store/layout.rs`.
fn module_path(path: &str) -> Vec<String> {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let inside = inside.strip_suffix(".rs").unwrap_or(inside);
    let parts = inside.split('/').filter(|part| !matches!(*part, "mod" | "lib"));
    parts.map(str::to_owned).collect()
}

struct Reader<'a> {
    tokens: &'a [Token],
    /// Whether the library is another crate here, named `jobwarden`.
    library: bool,
    found: BTreeSet<(String, usize)>,
}

impl Reader<'_> {
    fn begins_path(&self, at: usize) -> bool {
        let continues = at > 0 && self.text(at - 1) == "::";
        let root = match self.text(at) {
            "crate" | "super" => true,
            "jobwarden" => self.library,
            _ => false,
        };
        root && !continues && self.text(at + 1) == "::"
    }

    /// Follows the path or group of paths at `at`, which continues `before`; returns where it ends.
    fn follow(&mut self, mut at: usize, before: &[String]) -> usize {
        let line = self.tokens.get(at).map_or(0, |token| token.line);
        let mut path = before.to_vec();
        loop {
            match self.text(at) {
                "crate" | "jobwarden" if path == before => path.clear(),
                "super" => drop(path.pop()),
                "self" | "*" => {}
                "{" => return self.follow_group(at + 1, &path),
                name => path.push(name.to_owned()),
            }
            if self.text(at + 1) != "::" || matches!(self.text(at + 2), "" | "<") {
                break;
            }
            at += 2;
        }
        if let Some(top) = path.first() {
            self.found.insert((top.clone(), line));
        }
        at + 1
    }

    fn follow_group(&mut self, mut at: usize, before: &[String]) -> usize {
        while !matches!(self.text(at), "}" | "") {
            at = match self.text(at) {
                "," => at + 1,
                "as" => at + 2,
                _ => self.follow(at, before),
            };
        }
        at + 1
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }
}

#[test]
fn a_use_outside_the_table_is_reported_with_its_line() {
    let layers: &[Layer] = &[("job", &[]), ("store", &["job"]), ("service", &["store"])];
    let text = "//! x\nuse crate::{\n    job::Job,\n    service::{self, Shape as S},\n};\n";
    let found = faults(&SourceFile::new("src/store/mod.rs", text), layers);
    assert_eq!(found, ["src/store/mod.rs:4: `store` may not use `service`"]);
    let found = faults(&SourceFile::new("src/helper.rs", "//! x\n"), layers);
    assert_eq!(found, ["src/helper.rs:1: module `helper` is not in the table of layers"]);
}

#[test]
fn paths_are_found_in_every_form() {
    let used = |path: &str, text: &str| -> Vec<String> {
        uses(&SourceFile::new(path, text)).into_iter().map(|(used, _)| used).collect()
    };
    assert_eq!(used("src/store/log.rs", "use super::super::sys;"), ["sys"]);
    assert_eq!(used("src/store/log.rs", "use super::layout;"), [""; 0]);
    assert_eq!(used("src/store/mod.rs", "use super::{job, sys::fs};"), ["job", "sys"]);
    assert_eq!(
        used("src/store/mod.rs", "mod tests { use super::*; use super::super::job; }"),
        ["job"]
    );
    assert_eq!(
        used("src/cli.rs", "fn f(a: Vec<crate::job::Id>) { crate::sys::now() }"),
        ["job", "sys"]
    );
    assert_eq!(used("src/cli.rs", "pub(crate) fn f() {} // crate::job\n"), [""; 0]);
    assert_eq!(used("src/cli.rs", "pub(in crate::store) fn f() {}"), ["store"]);
    assert_eq!(used("src/main.rs", "fn main() { jobwarden::cli::run() }"), ["cli"]);
    assert_eq!(
        used("src/a/b.rs", "use crate::{c::{D, E}, f::*, g}; let h = crate::i::<J>;"),
        ["c", "f", "g", "i"]
    );
}

#[test]
fn a_circle_is_reported() {
    let file = |path, text| SourceFile::new(path, text);
    let files = [
        file("src/a.rs", "use crate::b;"),
        file("src/b.rs", "use crate::{c, d};"),
        file("src/c.rs", "use crate::a;"),
        file("src/d.rs", ""),
    ];
    let expected = "modules use each other in a circle: a → b → c → a";
    assert_eq!(circle(&files).as_deref(), Some(expected));
    assert_eq!(circle(&files[1..2]), None);
    assert_eq!(table_faults(&[("a", &["b"]), ("b", &[])]).len(), 1);
}
