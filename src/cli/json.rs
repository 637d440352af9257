//! Messages as JSON in the mapping of the proto language, one object a line.

use std::sync::OnceLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};

use crate::{api, terminal};

use super::failure::Failure;

/// `message`, which is a `jobwarden.v1.<name>`, as one line of JSON without a line break
/// or any other character that a terminal would obey.
pub(super) fn line(name: &str, message: &impl Message) -> Result<String, Failure> {
    let descriptor = pool()?
        .get_message_by_name(&format!("jobwarden.v1.{name}"))
        .ok_or_else(|| Failure::internal(format!("there is no message {name}")))?;
    let shown = |error: &dyn std::fmt::Display| {
        Failure::internal(format!("cannot show a {name} as JSON: {error}"))
    };
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| shown(&error))?;
    let line = serde_json::to_string(&dynamic).map_err(|error| shown(&error))?;
    Ok(terminal::escaped_json(&line))
}

fn pool() -> Result<&'static DescriptorPool, Failure> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(api::FILE_DESCRIPTOR_SET).ok())
        .as_ref()
        .ok_or_else(|| Failure::internal("the descriptors of this program are broken"))
}

#[cfg(test)]
mod tests {
    use crate::api::{ExitStatus, Job, JobSpec, JobState, exit_status::Outcome};

    use super::*;

    #[test]
    fn a_job_takes_the_form_of_the_proto_mapping() {
        let job = Job {
            job_id: "01".to_owned(),
            spec: Some(JobSpec {
                argv: vec!["a\nb".to_owned()],
                timeout: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
                ..Default::default()
            }),
            state: JobState::Succeeded.into(),
            revision: 7,
            create_time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            exit_status: Some(ExitStatus {
                outcome: Some(Outcome::ExitCode(0)),
                ..Default::default()
            }),
            ..Default::default()
        };
        let line = line("Job", &job).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(value["jobId"], "01");
        assert_eq!(value["state"], "JOB_STATE_SUCCEEDED");
        assert_eq!(value["revision"], "7");
        assert_eq!(value["spec"]["timeout"], "1.500s");
        assert_eq!(value["createTime"], "1970-01-01T00:00:00Z");
        assert_eq!(value["exitStatus"]["exitCode"], 0);
    }

    #[test]
    fn every_message_that_is_printed_has_a_descriptor() {
        for name in ["Job", "WatchEventsResponse", "TailLogResponse", "GetServerInfoResponse"] {
            assert!(line(name, &Job::default()).is_ok(), "{name}");
        }
    }
}
