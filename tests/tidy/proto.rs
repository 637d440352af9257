//! Comments of proto files: every element has one before it that ends with a full stop.
//!
//! Expects the usual layout, at most one element a line; whether the file compiles, and all other
//! style, is for the compiler and the linter.

use crate::tree::SourceFile;

/// Statements that are no elements of the interface.
const PLAIN: &[&str] = &["syntax", "package", "import", "option", "reserved", "extensions"];

/// The elements of `file` without a comment, or with one that does not end a sentence.
pub(crate) fn faults(file: &SourceFile) -> Vec<String> {
    let mut faults = Vec::new();
    let mut comment = "";
    // Whether the line before left a statement open.
    let mut continues = false;
    for (number, line) in (1..).zip(file.text.lines()) {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("//") {
            comment = text;
            continue;
        }
        let code = line.split("//").next().unwrap_or(line).trim();
        if !continues && let Some(name) = element(code) {
            let what = match comment.trim_end() {
                "" => Some("has no comment before it"),
                text if !text.ends_with('.') => Some("has a comment that ends without a full stop"),
                _ => None,
            };
            faults.extend(what.map(|what| file.fault(number, format_args!("`{name}` {what}"))));
        }
        comment = "";
        continues = match code.chars().last() {
            None => continues,
            Some(last) => !matches!(last, ';' | '{' | '}'),
        };
    }
    faults
}

/// The name of the element that begins with `code`, if one does.
fn element(code: &str) -> Option<&str> {
    let (first, rest) = code.split_once([' ', '<']).unwrap_or((code, ""));
    if code.is_empty() || code.starts_with('}') || PLAIN.contains(&first) {
        return None;
    }
    let head = match first {
        "message" | "enum" | "service" | "oneof" | "rpc" => rest,
        // A field or a value: what stands before the number.
        _ => code.split('=').next().unwrap_or(code).trim_end().rsplit(' ').next()?,
    };
    head.split([' ', '(', '{', '=']).next()
}

#[test]
fn an_element_without_a_sentence_is_reported() {
    let text = "syntax = \"proto3\";
import \"a.proto\";
// Is a thing.
message Thing {
  // Holds pairs, many of them
  map<string, string> pairs = 1;
  repeated string names = 2; // Trailing.
  // Chooses.
  oneof choice {
    // Is one.
    google.protobuf.Duration one = 3
        [deprecated = true];

    int32 two = 4;
  }
}
// Serves.

service Things {
  // Gets.
  //
  // Errors: none.
  rpc Get(GetRequest) returns (GetResponse) {}
  rpc Put(PutRequest) returns (PutResponse);
}
enum Colour {
  COLOUR_UNSPECIFIED = 0;
}
";
    assert_eq!(
        faults(&SourceFile::new("a.proto", text)),
        [
            "a.proto:6: `pairs` has a comment that ends without a full stop",
            "a.proto:7: `names` has no comment before it",
            "a.proto:14: `two` has no comment before it",
            "a.proto:19: `Things` has no comment before it",
            "a.proto:24: `Put` has no comment before it",
            "a.proto:26: `Colour` has no comment before it",
            "a.proto:27: `COLOUR_UNSPECIFIED` has no comment before it",
        ]
    );
}
