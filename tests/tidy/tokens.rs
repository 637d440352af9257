//! Cuts Rust text into names and signs, without comments and literals.
//!
//! Not a parser: enough to find the paths and macros that a file names, and the line of each.

/// A name, a number, `::` or one other sign.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// The tokens of `text`, in order. Text that does not compile gives some tokens, never a panic.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut scanner = Scanner { chars: text.chars().collect(), at: 0, line: 1 };
    let mut found = Vec::new();
    while let Some(token) = scanner.next_token() {
        found.push(token);
    }
    found
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Scanner {
    fn next_token(&mut self) -> Option<Token> {
        loop {
            let line = self.line;
            let first = self.peek(0)?;
            match (first, self.peek(1)) {
                ('/', Some('/')) => self.skip_while(|next| next != '\n'),
                ('/', Some('*')) => self.skip_block_comment(),
                ('"', _) => self.skip_string(),
                ('\'', _) => self.skip_quote(),
                (':', Some(':')) => {
                    self.step(2);
                    return Some(Token { text: "::".to_owned(), line });
                }
                _ if is_in_name(first) => {
                    if let Some(text) = self.name_or_literal() {
                        return Some(Token { text, line });
                    }
                }
                _ => {
                    self.step(1);
                    if !first.is_whitespace() {
                        return Some(Token { text: first.to_string(), line });
                    }
                }
            }
        }
    }

    /// Takes a name; one that turns out to be the prefix of a literal (`b"…"`, `r#"…"#`, `b'…'`)
    /// is skipped with its literal.
    fn name_or_literal(&mut self) -> Option<String> {
        let from = self.at;
        self.skip_while(is_in_name);
        let name: String = self.chars[from..self.at].iter().collect();
        let hashes = self.chars[self.at..].iter().take_while(|next| **next == '#').count();
        let opens = self.peek(hashes) == Some('"');
        match name.as_str() {
            "r" | "br" | "cr" if opens => {
                self.skip_raw_string(hashes);
                None
            }
            "b" | "c" if hashes == 0 && opens => {
                self.skip_string();
                None
            }
            "b" if self.peek(0) == Some('\'') => {
                self.skip_quote();
                None
            }
            // A raw name such as `r#type`.
            "r" if hashes == 1 => {
                self.step(1);
                None
            }
            _ => Some(name),
        }
    }

    fn skip_string(&mut self) {
        self.step(1);
        while let Some(next) = self.peek(0) {
            self.step(if next == '\\' { 2 } else { 1 });
            if next == '"' {
                return;
            }
        }
    }

    fn skip_raw_string(&mut self, hashes: usize) {
        self.step(hashes + 1);
        while let Some(next) = self.peek(0) {
            self.step(1);
            if next == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                self.step(hashes);
                return;
            }
        }
    }

    /// Skips a character literal, or the sign alone where it begins a lifetime.
    fn skip_quote(&mut self) {
        self.step(1);
        if self.peek(0) == Some('\\') {
            self.step(2);
            self.skip_while(|next| next != '\'' && next != '\n');
            self.step(1);
        } else if self.peek(1) == Some('\'') {
            self.step(2);
        }
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.peek(0).is_some() {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.step(2);
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.step(2);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.step(1),
            }
        }
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek(0).is_some_and(&wanted) {
            self.step(1);
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn step(&mut self, count: usize) {
        for _ in 0..count {
            if self.peek(0) == Some('\n') {
                self.line += 1;
            }
            self.at += 1;
        }
    }
}

fn is_in_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[test]
fn comments_and_literals_are_no_names() {
    let text = r##"
// nix
/* libc /* tokio */ unsafe */ let a = "tonic \" todo!"; let b = r#"dbg!" x"#; let c = b"nix";
let d = '"'; let e: &'static str = "libc"; let f = '\''; let g = b'\\'; call(r#type);
"##;
    let names: Vec<String> = tokens(text).into_iter().map(|token| token.text).collect();
    let names: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| name.len() > 1 && *name != "let").collect();
    assert_eq!(names, ["static", "str", "call", "type"]);
}

#[test]
fn a_token_knows_its_line() {
    let last = tokens("a\n/* \n */ \"\n\"\n b").pop();
    assert_eq!(last, Some(Token { text: "b".to_owned(), line: 5 }));
}
