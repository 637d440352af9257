//! `spec.json`: what was accepted, and what somebody may drop into the inbox.
//!
//! The `spec` member has the field names of the proto; durations are seconds with an `s`
//! (`"1.5s"`), enums have their proto names. A dropped folder may hold the whole record or the
//! spec alone, in `snake_case` or camelCase.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::job::{Accepted, Command, Draft, Durability, EnvInheritance, JobId, OutputMatch, Spec};

use super::{
    confinement_record::{self, ConfinementMembers},
    match_record::{MatchMembers, match_in, match_out},
    output_limits_record::OutputLimitsMembers,
    record::{RecordError, wrong},
    span_text::{bad_span, parse_span, seconds, span},
};

/// The version of the format of a job's folder.
pub(super) const FORMAT_VERSION: u32 = 1;
/// The same with rules of the host, which a program that does not know them must not run without.
const CONFINED_VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct SpecFile {
    version: u32,
    job_id: String,
    create_time: String,
    owner: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    digest: String,
    durability: String,
    working_dir: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confinement: Option<ConfinementMembers>,
    spec: SpecMembers,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SpecMembers {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    argv: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    shell: String,
    #[serde(alias = "workingDir", skip_serializing_if = "String::is_empty")]
    working_dir: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    #[serde(alias = "secretEnv", skip_serializing_if = "BTreeMap::is_empty")]
    secret_env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secret_keys: Vec<String>,
    #[serde(alias = "envInheritance", skip_serializing_if = "String::is_empty")]
    env_inheritance: String,
    #[serde(alias = "envFiles", skip_serializing_if = "Vec::is_empty")]
    env_files: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    stdin: String,
    #[serde(skip_serializing_if = "is_zero")]
    stdin_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(alias = "idleTimeout", skip_serializing_if = "Option::is_none")]
    idle_timeout: Option<String>,
    #[serde(alias = "queueTimeout", skip_serializing_if = "Option::is_none")]
    queue_timeout: Option<String>,
    #[serde(alias = "stopSignal", skip_serializing_if = "Option::is_none")]
    stop_signal: Option<i32>,
    #[serde(alias = "stopGracePeriod", skip_serializing_if = "Option::is_none")]
    stop_grace_period: Option<String>,
    #[serde(alias = "drainTimeout", skip_serializing_if = "Option::is_none")]
    drain_timeout: Option<String>,
    #[serde(alias = "mergeOutput", skip_serializing_if = "std::ops::Not::not")]
    merge_output: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(alias = "displayName", skip_serializing_if = "String::is_empty")]
    display_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    priority: i32,
    #[serde(alias = "ttlAfterEnd", skip_serializing_if = "Option::is_none")]
    ttl_after_end: Option<String>,
    #[serde(alias = "outputLimits", skip_serializing_if = "Option::is_none")]
    output_limits: Option<OutputLimitsMembers>,
    #[serde(skip_serializing)]
    limits: Option<Value>,
    #[serde(skip_serializing)]
    retry: Option<Value>,
    #[serde(alias = "outputMatches", skip_serializing_if = "Vec::is_empty")]
    output_matches: Vec<MatchMembers>,
}

fn is_zero<N: PartialEq + From<u8>>(number: &N) -> bool {
    *number == N::from(0)
}

/// The bytes of `spec.json`.
pub(super) fn encode(accepted: &Accepted) -> Vec<u8> {
    let mut bytes = text(accepted).into_bytes();
    bytes.push(b'\n');
    bytes
}

/// What `spec.json` says, as one JSON object.
pub(super) fn text(accepted: &Accepted) -> String {
    let Accepted {
        id,
        create_time,
        owner,
        request_id,
        digest,
        spec,
        working_dir,
        timeout,
        durability,
        confinement,
    } = accepted;
    let confinement = confinement_record::members(confinement);
    let file = SpecFile {
        version: if confinement.is_some() { CONFINED_VERSION } else { FORMAT_VERSION },
        job_id: id.to_string(),
        create_time: create_time.to_string(),
        owner: owner.clone(),
        request_id: request_id.clone(),
        digest: digest.clone(),
        durability: durability_name(*durability).to_owned(),
        working_dir: working_dir.clone(),
        timeout: timeout.map(seconds),
        confinement,
        spec: members(spec),
    };
    // Strings, numbers and maps with string keys always have a JSON form.
    serde_json::to_string(&file).unwrap_or_default()
}

/// One text for each spec: what is hashed to tell specs apart.
pub(super) fn canonical(spec: &Spec) -> Vec<u8> {
    serde_json::to_vec(&members(spec)).unwrap_or_default()
}

fn members(spec: &Spec) -> SpecMembers {
    let Spec {
        command,
        working_dir,
        env,
        secret_keys,
        env_inheritance,
        env_files,
        stdin_bytes,
        timeout,
        idle_timeout,
        queue_timeout,
        stop_signal,
        stop_grace_period,
        drain_timeout,
        merge_output,
        output_matches,
        output_limits,
        labels,
        display_name,
        priority,
        ttl_after_end,
    } = spec.clone();
    let (argv, shell) = match command {
        Command::Argv(argv) => (argv, String::new()),
        Command::Shell(shell) => (Vec::new(), shell),
    };
    SpecMembers {
        argv,
        shell,
        working_dir: working_dir.unwrap_or_default(),
        env,
        secret_env: BTreeMap::new(),
        secret_keys,
        env_inheritance: match env_inheritance {
            EnvInheritance::Minimal => String::new(),
            EnvInheritance::All => INHERIT_ALL.to_owned(),
        },
        env_files,
        stdin: String::new(),
        stdin_bytes,
        timeout: timeout.map(seconds),
        idle_timeout: idle_timeout.map(seconds),
        queue_timeout: queue_timeout.map(seconds),
        stop_signal,
        stop_grace_period: stop_grace_period.map(seconds),
        drain_timeout: drain_timeout.map(seconds),
        merge_output,
        labels,
        display_name,
        priority,
        ttl_after_end: ttl_after_end.map(seconds),
        output_limits: output_limits.map(OutputLimitsMembers::of),
        limits: None,
        retry: None,
        output_matches: output_matches.into_iter().map(match_out).collect(),
    }
}

/// What `spec.json` of an accepted job says.
pub(super) fn decode(bytes: &[u8]) -> Result<Accepted, RecordError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let json = |error: serde_json::Error| wrong("spec.json", error.to_string());
    let Version { version } = serde_json::from_slice(bytes).map_err(json)?;
    if ![FORMAT_VERSION, CONFINED_VERSION].contains(&version) {
        let why = format!("{version} is above {CONFINED_VERSION}, the last this program reads");
        return Err(wrong("version", why));
    }
    let file: SpecFile = serde_json::from_slice(bytes).map_err(json)?;
    let id: JobId = file.job_id.parse().map_err(|error| wrong("job_id", format!("{error}")))?;
    Ok(Accepted {
        id,
        create_time: file
            .create_time
            .parse()
            .map_err(|error| wrong("create_time", format!("{error}")))?,
        owner: file.owner,
        request_id: file.request_id,
        digest: file.digest,
        spec: spec(file.spec)?,
        working_dir: file.working_dir,
        timeout: span("timeout", file.timeout.as_deref())?,
        durability: durability(&file.durability)?,
        confinement: confinement_record::confinement(file.confinement)?,
    })
}

fn spec(members: SpecMembers) -> Result<Spec, RecordError> {
    let command = match (members.argv.is_empty(), members.shell.is_empty()) {
        (false, true) => Command::Argv(members.argv),
        (true, false) => Command::Shell(members.shell),
        (true, true) | (false, false) => return Err(wrong("argv", "is not the only command")),
    };
    // What a drop may hold, or what a later version accepts: a rule that would not be kept here.
    let others = [
        ("limits", members.limits.is_some()),
        ("retry", members.retry.is_some()),
        ("secret_env", !members.secret_env.is_empty()),
        ("stdin", !members.stdin.is_empty()),
    ];
    if let Some((name, _)) = others.into_iter().find(|(_, is_given)| *is_given) {
        return Err(wrong(name, "is not known in the record of an accepted job"));
    }
    Ok(Spec {
        command,
        working_dir: Some(members.working_dir).filter(|path| !path.is_empty()),
        env: members.env,
        secret_keys: members.secret_keys,
        env_inheritance: inheritance(&members.env_inheritance)
            .ok_or_else(|| wrong("env_inheritance", "is not known"))?,
        env_files: members.env_files,
        stdin_bytes: members.stdin_bytes,
        timeout: span("timeout", members.timeout.as_deref())?,
        idle_timeout: span("idle_timeout", members.idle_timeout.as_deref())?,
        queue_timeout: span("queue_timeout", members.queue_timeout.as_deref())?,
        stop_signal: members.stop_signal,
        stop_grace_period: span("stop_grace_period", members.stop_grace_period.as_deref())?,
        drain_timeout: span("drain_timeout", members.drain_timeout.as_deref())?,
        merge_output: members.merge_output,
        output_matches: patterns(members.output_matches)?,
        output_limits: members.output_limits.map(OutputLimitsMembers::accepted).transpose()?,
        labels: members.labels,
        display_name: members.display_name,
        priority: members.priority,
        ttl_after_end: span("ttl_after_end", members.ttl_after_end.as_deref())?,
    })
}

/// The draft that a dropped `spec.json` and the file `stdin` beside it describe.
pub(super) fn decode_dropped(bytes: &[u8], stdin: Option<Vec<u8>>) -> Result<Draft, RecordError> {
    let json = |error: serde_json::Error| wrong("spec.json", error.to_string());
    let value: Value = serde_json::from_slice(bytes).map_err(json)?;
    let members = match value {
        Value::Object(mut object) if object.get("spec").is_some_and(Value::is_object) => {
            object.remove("spec").unwrap_or_default()
        }
        other => other,
    };
    // Before the parser does, whose words would quote the value.
    for name in ["secret_env", "secretEnv"] {
        let is_text = |secrets: &Map<String, Value>| secrets.values().all(Value::is_string);
        if members.get(name).is_some_and(|given| !given.as_object().is_some_and(is_text)) {
            return Err(wrong(name, "is not an object of strings"));
        }
    }
    let members: SpecMembers = serde_json::from_value(members).map_err(json)?;
    let has_value = |key: &String| members.secret_env.contains_key(key);
    if let Some(key) = members.secret_keys.iter().find(|key| !has_value(key)) {
        let why = format!("names {key:?}, whose value is not here: give it in secret_env");
        return Err(wrong("secret_keys", why));
    }
    let stdin_bytes = members.stdin_bytes;
    let mut draft = draft(members)?;
    match stdin {
        Some(_) if !draft.stdin.is_empty() => {
            return Err(wrong("stdin", "is given twice: there is a file stdin as well"));
        }
        Some(stdin) => draft.stdin = stdin,
        None => {}
    }
    if stdin_bytes != 0 && stdin_bytes != draft.stdin.len() as u64 {
        let why = format!("says {stdin_bytes}, and {} are here: give stdin", draft.stdin.len());
        return Err(wrong("stdin_bytes", why));
    }
    Ok(draft)
}

fn draft(members: SpecMembers) -> Result<Draft, RecordError> {
    let given = [("limits", members.limits.is_some()), ("retry", members.retry.is_some())];
    let stdin = BASE64_STANDARD
        .decode(&members.stdin)
        .map_err(|error| wrong("stdin", format!("is not base64: {error}")))?;
    let timed = |name: &str, text: Option<String>| {
        text.map(|text| parse_span(&text).ok_or_else(|| bad_span(name))).transpose()
    };
    Ok(Draft {
        argv: members.argv,
        shell: members.shell,
        working_dir: members.working_dir,
        env: members.env,
        secret_env: members.secret_env,
        env_inheritance: inheritance(&members.env_inheritance),
        env_files: members.env_files,
        stdin,
        timeout: timed("timeout", members.timeout)?,
        idle_timeout: timed("idle_timeout", members.idle_timeout)?,
        queue_timeout: timed("queue_timeout", members.queue_timeout)?,
        stop_signal: members.stop_signal.unwrap_or(0),
        stop_grace_period: timed("stop_grace_period", members.stop_grace_period)?,
        drain_timeout: timed("drain_timeout", members.drain_timeout)?,
        merge_output: members.merge_output,
        output_matches: patterns(members.output_matches)?,
        output_limits: members.output_limits.map(OutputLimitsMembers::draft),
        labels: members.labels,
        display_name: members.display_name,
        priority: members.priority,
        ttl_after_end: timed("ttl_after_end", members.ttl_after_end)?,
        unsupported: given.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect(),
    })
}

fn patterns(members: Vec<MatchMembers>) -> Result<Vec<OutputMatch>, RecordError> {
    members.into_iter().map(match_in).collect()
}

const INHERIT_ALL: &str = "ENV_INHERITANCE_ALL";

fn inheritance(name: &str) -> Option<EnvInheritance> {
    match name {
        "" | "ENV_INHERITANCE_UNSPECIFIED" | "ENV_INHERITANCE_MINIMAL" => {
            Some(EnvInheritance::Minimal)
        }
        INHERIT_ALL => Some(EnvInheritance::All),
        _ => None,
    }
}

fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Power => "power",
        Durability::Process => "process",
    }
}

fn durability(name: &str) -> Result<Durability, RecordError> {
    match name {
        "power" => Ok(Durability::Power),
        "process" => Ok(Durability::Process),
        other => Err(wrong("durability", format!("{other:?} is not known"))),
    }
}

#[cfg(test)]
mod tests;
