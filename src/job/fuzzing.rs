//! Fuzz targets of ids and times, and how a target takes its input apart.

use memchr::memmem;

use super::{Command, Draft, DraftLimits, EnvInheritance, JobId, JobIdPrefix, Spec, Time};

/// Stands between the parts of an input that stands for more than one file.
pub(crate) const PART_MARK: &[u8] = b"\n====\n";

/// What a server allows whose drafts are fuzzed.
pub(crate) const LIMITS: DraftLimits =
    DraftLimits { stdin_bytes_max: 1024 * 1024, can_keep_tail: true };

/// The parts of an input; those that are missing are empty.
pub(crate) fn parts<const COUNT: usize>(data: &[u8]) -> [&[u8]; COUNT] {
    let mut parts = [&[][..]; COUNT];
    let mut rest = data;
    for (left, part) in (0..COUNT).rev().zip(&mut parts) {
        let mark = if left == 0 { None } else { memmem::find(rest, PART_MARK) };
        let end = mark.unwrap_or(rest.len());
        *part = &rest[..end];
        rest = rest.get(end + PART_MARK.len()..).unwrap_or_default();
    }
    parts
}

/// A number that depends on every byte of an input: where to damage it, for example.
pub(crate) fn number_of(data: &[u8]) -> usize {
    usize::try_from(crc32fast::hash(data)).unwrap_or_default()
}

/// A spec with these files of variables.
pub(crate) fn spec_with_files(env_files: Vec<String>) -> Spec {
    let draft = Draft {
        shell: "true".to_owned(),
        env_inheritance: Some(EnvInheritance::Minimal),
        env_files,
        ..Draft::default()
    };
    match draft.check(&LIMITS) {
        Ok((spec, _, _)) => spec,
        Err(violations) => panic!("{violations:?}"),
    }
}

/// What is taken for an id is its only text, stays in its folder and begins with its prefixes.
pub(crate) fn job_id(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<JobId>() {
        assert_eq!(id.to_string(), text);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let day = id.day();
        assert!(day.len() == 10 && day.bytes().all(|byte| b"0123456789-".contains(&byte)));
        assert!(JobId::first_of(id.time()) <= id || id.time() == Time::from_nanos(u64::MAX));
    }
    if let Ok(prefix) = text.parse::<JobIdPrefix>() {
        assert!(prefix.first <= prefix.last);
        assert!(prefix.first.to_string().starts_with(text));
        assert!(prefix.last.to_string().starts_with(text));
        assert_eq!(prefix.exact(), text.parse().ok());
    }
}

/// What is taken for a time survives its text, and sorts as its text does.
pub(crate) fn time(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(time) = text.parse::<Time>() else { return };
    let told = time.to_string();
    assert!(told.parse::<Time>().is_ok_and(|again| again == time), "{told}");
    assert_eq!(time.day(), &told[..10]);
    let next = time.after(std::time::Duration::from_nanos(1));
    assert!(next == time || next.to_string() > told);
}

/// A spec that was accepted is one that the rules accept: its command is one of two.
pub(crate) fn check_spec(spec: &Spec) {
    match &spec.command {
        Command::Argv(argv) => assert!(argv.first().is_some_and(|program| !program.is_empty())),
        Command::Shell(script) => assert!(!script.is_empty()),
    }
    assert!(spec.secret_keys.iter().all(|key| !spec.env.contains_key(key)));
    for pattern in &spec.output_matches {
        assert!(pattern.compile().is_ok());
    }
}
