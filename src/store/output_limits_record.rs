//! The member `output_limits` of a spec on disk, with the names of the proto.
//!
//! An accepted job is read strictly: limits that this program does not know are an error.

use serde::{Deserialize, Serialize};

use crate::job::{OutputLimitAction, OutputLimits, OutputLimitsDraft};

use super::record::{RecordError, wrong};

const TRUNCATE: &str = "OUTPUT_LIMIT_ACTION_TRUNCATE";
const KEEP_TAIL: &str = "OUTPUT_LIMIT_ACTION_KEEP_TAIL";
const FAIL: &str = "OUTPUT_LIMIT_ACTION_FAIL";

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct OutputLimitsMembers {
    #[serde(alias = "maxBytesPerStream")]
    max_bytes_per_stream: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    action: String,
}

impl OutputLimitsMembers {
    pub(super) fn of(limits: OutputLimits) -> Self {
        let OutputLimits { max_bytes_per_stream, action } = limits;
        let action = match action {
            OutputLimitAction::Truncate => String::new(),
            OutputLimitAction::KeepTail => KEEP_TAIL.to_owned(),
            OutputLimitAction::Fail => FAIL.to_owned(),
        };
        let max_bytes_per_stream = i64::try_from(max_bytes_per_stream).unwrap_or(i64::MAX);
        Self { max_bytes_per_stream, action }
    }

    pub(super) fn draft(self) -> OutputLimitsDraft {
        let Self { max_bytes_per_stream, action } = self;
        let action = match action.as_str() {
            "" | "OUTPUT_LIMIT_ACTION_UNSPECIFIED" | TRUNCATE => Some(OutputLimitAction::Truncate),
            KEEP_TAIL => Some(OutputLimitAction::KeepTail),
            FAIL => Some(OutputLimitAction::Fail),
            _ => None,
        };
        OutputLimitsDraft { max_bytes_per_stream, action }
    }

    pub(super) fn accepted(self) -> Result<OutputLimits, RecordError> {
        let checked = self.draft().check("output_limits");
        checked.map_err(|_| wrong("output_limits", "is not known to this program"))
    }
}
