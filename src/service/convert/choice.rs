//! Enum fields of requests: zero means the default, an unknown number is refused.

use crate::{api, job::Violation};

/// An enum of the proto that a request may hold.
pub trait Choice: TryFrom<i32> + Copy + PartialEq {
    /// The value zero, which leaves the choice to the server.
    const UNSPECIFIED: Self;
    /// What zero means.
    const DEFAULT: Self;
}

/// The value that `number` stands for; never the unspecified one, if there is a default.
pub fn choice<E: Choice>(field: &str, number: i32) -> Result<E, Violation> {
    let value = E::try_from(number).map_err(|_| unknown(field, number))?;
    Ok(if value == E::UNSPECIFIED { E::DEFAULT } else { value })
}

/// The values that `numbers` stand for, each once. The unspecified one chooses nothing.
pub fn choices<E: Choice>(field: &str, numbers: &[i32]) -> Result<Vec<E>, Vec<Violation>> {
    let mut chosen = Vec::new();
    for (index, number) in numbers.iter().enumerate() {
        let Ok(value) = E::try_from(*number) else {
            return Err(vec![unknown(&format!("{field}[{index}]"), *number)]);
        };
        if value != E::UNSPECIFIED && !chosen.contains(&value) {
            chosen.push(value);
        }
    }
    Ok(chosen)
}

/// A number that this server does not know belongs to a later version of the proto.
fn unknown(field: &str, number: i32) -> Violation {
    let description = format!("its value {number} is not known to this server; choose another");
    Violation { description, ..Violation::unsupported(field) }
}

macro_rules! choices_with_defaults {
    ($($name:ident: $default:ident,)*) => {
        $(impl Choice for api::$name {
            const UNSPECIFIED: Self = Self::Unspecified;
            const DEFAULT: Self = Self::$default;
        })*
    };
}

// Where the default is `Unspecified`, zero means no choice and stays visible.
choices_with_defaults! {
    EnvInheritance: Minimal,
    EventType: Unspecified,
    JobState: Unspecified,
    KillScope: Tree,
    LogEncoding: Bytes,
    LogStream: Unspecified,
    OnExpired: Fail,
    OutputLimitAction: Truncate,
    WaitMode: All,
    WaitUntil: Terminal,
    WatchStart: Snapshot,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_chooses_the_default_and_other_numbers_themselves() {
        assert_eq!(choice("f", 0), Ok(api::KillScope::Tree));
        assert_eq!(choice("f", 2), Ok(api::KillScope::Leader));
        assert_eq!(choice("f", 0), Ok(api::WaitUntil::Terminal));
        assert_eq!(choice("f", 0), Ok(api::WaitMode::All));
        assert_eq!(choice("f", 0), Ok(api::WatchStart::Snapshot));
        assert_eq!(choice("f", 0), Ok(api::OnExpired::Fail));
        assert_eq!(choice("f", 0), Ok(api::LogEncoding::Bytes));
        assert_eq!(choice("f", 0), Ok(api::LogStream::Unspecified));
    }

    #[test]
    fn an_unknown_number_is_refused_as_unsupported() {
        for number in [-1, 3, i32::MAX] {
            let violation = choice::<api::KillScope>("scope", number).unwrap_err();
            assert_eq!(violation.field, "scope");
            assert!(violation.unsupported && violation.description.contains(&number.to_string()));
        }
        let violations = choices::<api::LogStream>("streams", &[1, 9]).unwrap_err();
        assert_eq!(violations[0].field, "streams[1]");
    }

    #[test]
    fn a_list_of_choices_holds_each_once_and_no_unspecified_one() {
        use api::LogStream::{Stderr, Stdout};
        assert_eq!(choices("streams", &[2, 0, 1, 2]), Ok(vec![Stderr, Stdout]));
        assert_eq!(choices::<api::LogStream>("streams", &[0]), Ok(vec![]));
    }
}
