//! How much of a job's output is kept, and what happens beyond it.
//!
//! Nothing here counts bytes: the supervisor does, while it captures.

use super::Violation;

/// What happens to output beyond the limit. The job is never kept waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputLimitAction {
    /// The rest is dropped and counted.
    #[default]
    Truncate,
    /// The head and the newest bytes are kept; what lies between is dropped and counted.
    KeepTail,
    /// The rest is dropped and counted, and the job is stopped.
    Fail,
}

/// The limit of each stream by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    /// The most bytes that are kept of one stream, more than zero.
    pub max_bytes_per_stream: u64,
    /// What happens beyond them.
    pub action: OutputLimitAction,
}

/// Limits as somebody wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimitsDraft {
    /// The most bytes of one stream.
    pub max_bytes_per_stream: i64,
    /// The action; `None` for one that is not supported.
    pub action: Option<OutputLimitAction>,
}

impl OutputLimitsDraft {
    /// The limits, or every fault of them below `field`.
    pub fn check(self, field: &str) -> Result<OutputLimits, Vec<Violation>> {
        let mut faults = Vec::new();
        let most = u64::try_from(self.max_bytes_per_stream).ok().filter(|most| *most > 0);
        if most.is_none() {
            let rule = "must be the most bytes that are kept of one stream, more than zero";
            faults.push(Violation::new(format!("{field}.max_bytes_per_stream"), rule));
        }
        if self.action.is_none() {
            faults.push(Violation::unsupported(format!("{field}.action")));
        }
        match (most, self.action) {
            (Some(max_bytes_per_stream), Some(action)) => {
                Ok(OutputLimits { max_bytes_per_stream, action })
            }
            (None, _) | (_, None) => Err(faults),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_more_than_zero_and_its_action_is_known() {
        let draft =
            |max_bytes_per_stream, action| OutputLimitsDraft { max_bytes_per_stream, action };
        let action = OutputLimitAction::Fail;
        let limits = OutputLimits { max_bytes_per_stream: 1, action };
        assert_eq!(draft(1, Some(action)).check("f"), Ok(limits));
        for most in [0, -1, i64::MIN] {
            let faults = draft(most, None).check("f").unwrap_err();
            let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
            assert_eq!(fields, ["f.max_bytes_per_stream", "f.action"]);
            assert_eq!([false, true], [0, 1].map(|place: usize| faults[place].unsupported));
        }
    }
}
