//! A pattern to look for in the output of a job, and its compiled form.
//!
//! Classes and boundaries (`\w`, `\d`, `\b`, `(?i)`) are of ASCII: output is bytes, and the tables
//! of Unicode would be mapped into each supervisor. Nothing here searches output.

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::{ParserBuilder, hir::Look};

/// The most memory of a compiled pattern, and of the states kept while it searches.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// A pattern, as in the proto.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputMatch {
    /// Names it in its matches.
    pub name: String,
    /// A regular expression, or text.
    pub pattern: String,
    /// Whether it is text.
    pub literal: bool,
    /// Where to look.
    pub stream: MatchStream,
    /// Whether only the first match counts.
    pub once: bool,
}

/// Which output a pattern is looked for in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatchStream {
    /// Both streams.
    #[default]
    Both,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A pattern that can be searched for.
#[derive(Clone, Debug)]
pub struct CompiledPattern {
    /// The expression; `^` and `$` match at line breaks.
    pub regex: Regex,
    /// Whether each match in a single line is a match in any block of whole lines too, so that a
    /// block without one need not be taken apart.
    pub is_block_searchable: bool,
}

/// Why a pattern cannot be used. The text goes on from the name of its field.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// It is no regular expression.
    #[error("is no regular expression: {why}, at byte {place}")]
    Syntax {
        /// What is wrong.
        why: String,
        /// Where.
        place: usize,
    },
    /// It would take too much memory.
    #[error(
        "takes more than {COMPILED_BYTES_MAX} bytes when compiled; make its repetitions smaller"
    )]
    TooBig,
}

impl OutputMatch {
    /// The pattern in the form that searches.
    pub fn compile(&self) -> Result<CompiledPattern, PatternError> {
        let pattern =
            if self.literal { regex::escape(&self.pattern) } else { self.pattern.clone() };
        let parsed = ParserBuilder::new()
            .multi_line(true)
            .unicode(false)
            .utf8(false)
            .build()
            .parse(&pattern);
        let looks = parsed.map_err(|error| syntax_error(&error))?.properties().look_set();
        let regex = RegexBuilder::new(&pattern)
            .multi_line(true)
            .unicode(false)
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|_| PatternError::TooBig)?;
        // These see the edge of what is searched, or a carriage return before it, and not the
        // edge of a line.
        let is_edge = |look| looks.contains(look);
        let edges = [Look::Start, Look::End, Look::StartCRLF, Look::EndCRLF];
        Ok(CompiledPattern { regex, is_block_searchable: !edges.into_iter().any(is_edge) })
    }
}

fn syntax_error(error: &regex_syntax::Error) -> PatternError {
    // The full text would quote the pattern.
    let (why, place) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span().start.offset),
        regex_syntax::Error::Translate(error) => {
            (error.kind().to_string(), error.span().start.offset)
        }
        // The enum may grow; what it says then is all there is.
        error => (error.to_string(), 0),
    };
    PatternError::Syntax { why, place }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(pattern: &str) -> Result<CompiledPattern, PatternError> {
        OutputMatch { pattern: pattern.to_owned(), ..OutputMatch::default() }.compile()
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_where_and_not_the_pattern() {
        let told = compile("secret(").unwrap_err().to_string();
        assert_eq!(told, "is no regular expression: unclosed group, at byte 6");
        for pattern in ["(?:a{1000}){1000}", r"\p{Greek}", "a**{", "[é]", "(?=a)"] {
            let told = compile(pattern).unwrap_err().to_string();
            assert!(!told.contains(pattern), "{told}");
        }
        assert!(matches!(compile("(?:[a-z]{500}){500}"), Err(PatternError::TooBig)));
    }

    #[test]
    fn only_patterns_that_see_no_edge_but_a_lines_are_searched_for_in_blocks() {
        for pattern in ["^a$", r"\ba\B", "(?i)error", "a|b"] {
            assert!(compile(pattern).unwrap().is_block_searchable, "{pattern}");
        }
        for pattern in [r"\Aa", r"a\z", "(?-m)^a", "(?-m:a$)", "(?R)^a", "(?R:a$)"] {
            assert!(!compile(pattern).unwrap().is_block_searchable, "{pattern}");
        }
    }
}
