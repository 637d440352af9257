//! Text from elsewhere, made safe for a terminal.
//!
//! A job's name, its arguments and a caller's reason may hold anything. Written as they stand they
//! could clear the screen, forge lines or read backwards. It does nothing for the output of jobs,
//! which is passed on as it is.

/// `text` with every character spelt out that a terminal would obey rather than show.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_obeyed(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// `line`, one line of JSON, with the same meaning and only characters that are shown.
///
/// JSON itself asks for the first 32 to be spelt out and lets the others pass.
pub fn escaped_json(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    for character in line.chars() {
        if is_obeyed(character) {
            // They stand in strings only, and none of them takes more than four digits.
            shown.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Whether a terminal does something else with the character than to show it where it stands.
fn is_obeyed(character: char) -> bool {
    character.is_control() || is_direction_mark(character)
}

/// Characters that make text read in another order than it is stored.
fn is_direction_mark(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(escaped("a\u{1b}[31mb\r\n\t"), "a\\u{1b}[31mb\\r\\n\\t");
        assert_eq!(escaped("\u{9b}1m\u{7f}\u{202e}"), "\\u{9b}1m\\u{7f}\\u{202e}");
        assert_eq!(escaped("grüße ✓"), "grüße ✓");
    }

    #[test]
    fn no_character_that_steers_is_left_and_json_means_the_same() {
        let all: String = ('\0'..=char::MAX).collect();
        let steers = |character: char| {
            let number = u32::from(character);
            number < 0x20
                || (0x7f..=0x9f).contains(&number)
                || (0x202a..=0x202e).contains(&number)
                || (0x2066..=0x2069).contains(&number)
        };
        assert!(!escaped(&all).chars().any(steers));
        let json = escaped_json(&serde_json::to_string(&all).unwrap());
        assert!(!json.chars().any(steers));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), all);
    }
}
