//! What the command line of a bench asks for.

use std::path::PathBuf;

/// The parsed command line.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) is_quick: bool,
    pub(crate) folder: PathBuf,
    names: Vec<String>,
}

impl Options {
    /// Takes `[--quick] [--rounds N] [--dir DIR] [NAME…]`.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let mut options = Self { rounds: 3, is_quick: false, folder, names: Vec::new() };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // Given by cargo itself.
                "--bench" => {}
                "--quick" => options.is_quick = true,
                "--rounds" => {
                    let rounds = arguments.next().and_then(|number| number.parse().ok());
                    options.rounds = rounds.unwrap_or(options.rounds).clamp(1, 20);
                }
                "--dir" => {
                    options.folder = arguments.next().map_or(options.folder, PathBuf::from);
                }
                name => options.names.push(name.to_owned()),
            }
        }
        options
    }

    /// Whether a part is to be measured: it was named, or none was.
    pub(crate) fn is_wanted(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }
}
