//! Checks what a machine can check of the project's rules: layers, file shape, unsafe code, proto
//! comments, documented dependencies and stored formats.
//!
//! Each rule has a test that holds the tree to it and a test that it can fail at all. Function
//! length and lints are not here: clippy checks them.

#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/proto.rs"]
mod proto;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/tokens.rs"]
mod tokens;
#[path = "tidy/tree.rs"]
mod tree;

use layers::Layer;

/// Which module may use which: lowest first, and only what stands above its own line here.
///
/// `lib` only declares modules. `api` is generated from the proto files.
const LAYERS: &[Layer] = &[
    ("sys", &[]),
    ("api", &[]),
    ("job", &[]),
    ("terminal", &[]),
    ("store", &["job", "sys"]),
    ("access", &["terminal", "job", "sys"]),
    ("launch_message", &["job"]),
    // The supervisor's side.
    ("supervisor", &["store", "job", "sys"]),
    ("launcher", &["supervisor", "launch_message", "store", "job", "sys"]),
    // The service's side: it meets the other in the task directory and in `launch_message` alone.
    ("catalog", &["store", "job", "sys"]),
    ("launch", &["launch_message", "store", "job", "sys"]),
    ("queue", &["launch", "catalog", "store", "job", "sys"]),
    ("watcher", &["queue", "launch", "catalog", "store", "job", "sys"]),
    ("recover", &["watcher", "queue", "launch", "catalog", "store", "job", "sys"]),
    ("operations", &["access", "watcher", "queue", "launch", "catalog", "store", "job", "sys"]),
    ("service", &["operations", "access", "catalog", "store", "job", "sys", "api"]),
    ("client", &["api"]),
    ("config", &["access", "job"]),
    (
        "server",
        &[
            "config",
            "terminal",
            "service",
            "operations",
            "recover",
            "watcher",
            "queue",
            "launch",
            "catalog",
            "launch_message",
            "access",
            "store",
            "job",
            "sys",
            "api",
        ],
    ),
    // Tests alone: the parts that decide about jobs, against a model of them.
    (
        "model",
        &[
            "server",
            "operations",
            "recover",
            "watcher",
            "queue",
            "launch",
            "catalog",
            "launch_message",
            "access",
            "store",
            "job",
            "sys",
        ],
    ),
    ("cli", &["server", "config", "terminal", "client", "access", "job", "api"]),
    // The table of fuzz targets, which each module has beside its parsers.
    (
        "fuzzing",
        &[
            "server",
            "config",
            "service",
            "access",
            "supervisor",
            "launch_message",
            "store",
            "job",
            "sys",
        ],
    ),
    // Tells the sides apart before anything is set up; runs `supervise` on a given folder.
    ("main", &["cli", "launcher", "supervisor", "store"]),
];

/// Modules that also run in a supervisor, which must stay small and without a runtime.
const WITHOUT_RUNTIME: &[&str] =
    &["sys", "job", "launch_message", "store", "supervisor", "launcher"];

/// Crates that bring the runtime or the wire.
const RUNTIME_CRATES: &[&str] = &["tokio", "tonic", "prost", "hyper", "tower"];

/// Names that only `sys` may say.
const SYSTEM_NAMES: &[&str] = &["nix", "libc", "unsafe"];

#[test]
fn a_module_uses_only_modules_below_it() {
    tree::report(tree::rust_files(&["src"]).iter().flat_map(|file| layers::faults(file, LAYERS)));
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    tree::report(layers::table_faults(LAYERS));
    tree::report(layers::circle(&tree::rust_files(&["src"])));
}

#[test]
fn only_sys_makes_system_calls_and_holds_unsafe_code() {
    let files = tree::rust_files(&["src"]);
    let outside = files.iter().filter(|file| layers::top_module(&file.path) != "sys");
    tree::report(outside.flat_map(|file| shape::names(file, SYSTEM_NAMES, "belongs in src/sys")));
}

#[test]
fn what_a_supervisor_runs_names_no_runtime() {
    let files = tree::rust_files(&["src"]);
    let small =
        files.iter().filter(|file| WITHOUT_RUNTIME.contains(&layers::top_module(&file.path)));
    let why = "has no place in what a supervisor runs";
    tree::report(small.flat_map(|file| shape::names(file, RUNTIME_CRATES, why)));
}

#[test]
fn every_rust_file_is_short_and_says_what_it_is_for() {
    let files = tree::rust_files(&["src", "tests", "benches", "examples", "build.rs"]);
    tree::report(files.iter().flat_map(shape::file_faults));
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    let files = tree::rust_files(&["src", "tests", "benches", "examples", "build.rs"]);
    tree::report(files.iter().flat_map(shape::unfinished));
}

#[test]
fn every_proto_element_has_a_comment_of_whole_sentences() {
    let files = tree::files_with_extension("proto", "proto");
    assert!(!files.is_empty(), "no proto files below proto/");
    tree::report(files.iter().flat_map(proto::faults));
}

#[test]
fn every_dependency_is_explained() {
    tree::report(docs::dependency_faults(
        &tree::read("Cargo.toml"),
        &tree::read("docs/DEPENDENCIES.md"),
    ));
}

#[test]
fn every_stored_file_is_documented() {
    let mut fixtures = tree::names_below("tests/data/v1");
    // Their names are hashes; the folder is what is described.
    fixtures.retain(|path| !path.contains("/requests/"));
    assert!(!fixtures.is_empty(), "no fixtures of the first storage format in tests/data/v1");
    tree::report(docs::storage_faults(&fixtures, &tree::read("docs/STORAGE.md")));
}
