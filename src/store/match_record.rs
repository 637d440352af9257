//! A pattern in `spec.json`: the members of the proto's `OutputMatch`.

use serde::{Deserialize, Serialize};

use crate::job::{MatchStream, OutputMatch};

use super::record::{RecordError, wrong};

/// One element of `output_matches`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MatchMembers {
    name: String,
    pattern: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    literal: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    stream: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    once: bool,
}

/// The element for a pattern.
pub(super) fn match_out(one: OutputMatch) -> MatchMembers {
    let OutputMatch { name, pattern, literal, stream, once } = one;
    MatchMembers { name, pattern, literal, stream: stream_name(stream).to_owned(), once }
}

/// The pattern of an element.
pub(super) fn match_in(members: MatchMembers) -> Result<OutputMatch, RecordError> {
    let MatchMembers { name, pattern, literal, stream, once } = members;
    let stream = match stream.as_str() {
        "LOG_STREAM_UNSPECIFIED" => MatchStream::Both,
        stream => [MatchStream::Both, MatchStream::Stdout, MatchStream::Stderr]
            .into_iter()
            .find(|known| stream_name(*known) == stream)
            .ok_or_else(|| wrong("output_matches", "has a stream that is not known"))?,
    };
    Ok(OutputMatch { name, pattern, literal, stream, once })
}

fn stream_name(stream: MatchStream) -> &'static str {
    match stream {
        MatchStream::Both => "",
        MatchStream::Stdout => "LOG_STREAM_STDOUT",
        MatchStream::Stderr => "LOG_STREAM_STDERR",
    }
}
