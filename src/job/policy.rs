//! What an operator lets jobs be: programs, places, variables and sizes.
//!
//! A pattern is a shell glob: `*` and `?` match within one part of a path, `**` across parts,
//! `[…]` and `{a,b}` as in a shell. A policy guards against mistakes and narrows what a principal can
//! start; once a program runs it does what its account may.

use std::{collections::BTreeMap, path::Path, time::Duration};

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use super::{Command, OutputLimitAction, OutputLimits, Spec, Violation};

/// What `shell` is run by.
const SHELL: &str = "/bin/sh";
/// The most bytes of a pattern, and the most patterns of one kind.
const PATTERN_BYTES_MAX: usize = 1024;
const PATTERNS_MAX: usize = 1000;
/// The most labels that any policy allows.
pub const LABELS_MAX: u32 = 32;
/// The label that links a job to the one whose spec it runs again.
pub const RERUN_LABEL: &str = "jobwarden/rerun-of";

/// Patterns of which one must match; none at all lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    texts: Vec<String>,
    set: GlobSet,
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for Patterns {}

/// One pattern that can be one.
#[derive(Clone, Debug)]
pub struct Pattern(Glob);

impl Pattern {
    /// The pattern of a text, or what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
            return Err(format!("must have 1 to {PATTERN_BYTES_MAX} bytes"));
        }
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        glob.map(Self).map_err(|error| format!("must be a pattern: {}", error.kind()))
    }
}

impl Patterns {
    /// All of these; at most `PATTERNS_MAX` count.
    pub fn new(patterns: Vec<Pattern>) -> Result<Self, String> {
        if patterns.len() > PATTERNS_MAX {
            return Err(format!("must be at most {PATTERNS_MAX} patterns"));
        }
        let mut set = GlobSetBuilder::new();
        let mut texts = Vec::new();
        for Pattern(glob) in patterns {
            texts.push(glob.glob().to_owned());
            set.add(glob);
        }
        let set = set.build().map_err(|error| format!("must be patterns: {error}"))?;
        Ok(Self { texts, set })
    }

    /// The texts of the patterns.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    fn is_any(&self) -> bool {
        self.texts.is_empty()
    }

    fn matches(&self, text: &str) -> bool {
        self.set.is_match(text)
    }

    fn allow(&self, text: &str) -> bool {
        self.is_any() || self.matches(text)
    }
}

/// What jobs may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Programs: patterns with a slash are for absolute paths, others for names in the PATH.
    pub executables: Patterns,
    /// Working directories.
    pub working_dirs: Patterns,
    /// Names of variables, secret ones too.
    pub env_keys: Patterns,
    /// The longest run time limit, and that of jobs without one.
    pub timeout_max: Option<Duration>,
    /// The most bytes of each stream that are kept.
    pub output_bytes_max: Option<u64>,
    /// The most labels.
    pub labels_max: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            executables: Patterns::default(),
            working_dirs: Patterns::default(),
            env_keys: Patterns::default(),
            timeout_max: None,
            output_bytes_max: None,
            labels_max: LABELS_MAX,
        }
    }
}

impl Policy {
    /// Everything of a spec that is not allowed, with the reason. Where the spec leaves something
    /// open that the policy bounds, the bound is put in.
    pub fn apply(&self, spec: &mut Spec, default_timeout: Option<Duration>) -> Vec<Violation> {
        let mut faults = Vec::new();
        self.check_program(spec, &mut faults);
        self.check_environment(spec, &mut faults);
        if let Some(dir) = &spec.working_dir
            && !(is_plain_path(dir) && self.working_dirs.allow(dir) || self.working_dirs.is_any())
        {
            faults.push(refused("spec.working_dir", "allowed_working_dirs"));
        }
        faults.extend(self.check_labels("spec.labels", &spec.labels));
        if let Some(most) = self.timeout_max {
            match spec.timeout {
                Some(timeout) => faults.extend(self.check_timeout("spec.timeout", timeout)),
                None if default_timeout.is_none_or(|default| default > most) => {
                    spec.timeout = Some(most);
                }
                None => {}
            }
            // They prolong the life of a job beyond its limit.
            for (field, span) in [
                ("spec.stop_grace_period", spec.stop_grace_period),
                ("spec.drain_timeout", spec.drain_timeout),
            ] {
                faults.extend(span.and_then(|span| self.check_timeout(field, span)));
            }
        }
        if let Some(most) = self.output_bytes_max {
            match &spec.output_limits {
                Some(limits) if limits.max_bytes_per_stream > most => {
                    let rule = format!("must be at most max_output_bytes = {most} of this server");
                    let field = "spec.output_limits.max_bytes_per_stream";
                    faults.push(Violation::new(field, rule));
                }
                Some(_) => {}
                None => {
                    let action = OutputLimitAction::Truncate;
                    spec.output_limits = Some(OutputLimits { max_bytes_per_stream: most, action });
                }
            }
        }
        faults
    }

    /// Lowers the bounds of a spec to those of today: it was accepted once, and whoever runs it again
    /// cannot change it.
    pub fn lower(&self, spec: &mut Spec) {
        let Spec { timeout, stop_grace_period, drain_timeout, .. } = spec;
        for span in [timeout, stop_grace_period, drain_timeout].into_iter().flatten() {
            *span = self.timeout_max.map_or(*span, |most| most.min(*span));
        }
        if let (Some(limits), Some(most)) = (&mut spec.output_limits, self.output_bytes_max) {
            limits.max_bytes_per_stream = most.min(limits.max_bytes_per_stream);
        }
    }

    /// What is wrong with a run time limit, if anything.
    pub fn check_timeout(&self, field: &str, timeout: Duration) -> Option<Violation> {
        let most = self.timeout_max.filter(|most| timeout > *most)?;
        let most = humantime::format_duration(most);
        let rule = format!("must be at most max_timeout = {most} of this server");
        Some(Violation::new(field, rule))
    }

    /// What is wrong with the number of labels, if anything. What the service added does not count.
    pub fn check_labels(
        &self,
        field: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<Violation> {
        let most = self.labels_max as usize;
        let count = labels.keys().filter(|key| *key != RERUN_LABEL).count();
        let rule = format!("has {count} labels; max_labels of this server is {most}");
        (count > most).then(|| Violation::new(field, rule))
    }

    fn check_program(&self, spec: &Spec, faults: &mut Vec<Violation>) {
        if self.executables.is_any() {
            return;
        }
        let (field, program) = match &spec.command {
            Command::Argv(argv) => ("spec.argv[0]", argv.first().map_or("", String::as_str)),
            Command::Shell(_) => ("spec.shell", SHELL),
        };
        let is_plain = !program.contains('/') || is_plain_path(program);
        if !self.executables.allow(program) || !is_plain {
            faults.push(refused(field, "allowed_executables"));
        }
    }

    fn check_environment(&self, spec: &Spec, faults: &mut Vec<Violation>) {
        // Interpreters and loaders start other programs if a variable says so, and nobody knows all of
        // those variables: a list of programs needs one of variables.
        let is_open = self.env_keys.is_any() && self.executables.is_any();
        let is_allowed = |key: &str| is_open || self.env_keys.matches(key);
        for (field, key) in keys(spec).filter(|(_, key)| !is_allowed(key)) {
            let rule = if self.env_keys.is_any() {
                "is not allowed where allowed_executables is set on this server without \
                 allowed_env_keys"
            } else {
                "matches no pattern of allowed_env_keys of this server"
            };
            faults.push(Violation::new(format!("{field}[{key:?}]"), rule));
        }
        let is_bounded = !self.env_keys.is_any() || !self.executables.is_any();
        if is_bounded && !spec.env_files.is_empty() {
            let rule = "are not allowed where allowed_env_keys or allowed_executables is set on \
                        this server: nobody knows yet what is in them";
            faults.push(Violation::new("spec.env_files", rule));
        }
    }
}

/// The names of all variables that a spec sets, with the field of each.
fn keys(spec: &Spec) -> impl Iterator<Item = (&'static str, &String)> {
    let plain = spec.env.keys().map(|key| ("spec.env", key));
    plain.chain(spec.secret_keys.iter().map(|key| ("spec.secret_env", key)))
}

fn refused(field: &str, setting: &str) -> Violation {
    Violation::new(field, format!("matches no pattern of {setting} of this server"))
}

/// Whether a path means what it says: absolute, and without parts that lead elsewhere.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "." | "..");
    Path::new(path).is_absolute() && path.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Draft, DraftLimits, EnvInheritance};

    fn patterns(texts: &[&str]) -> Patterns {
        Patterns::new(texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()).unwrap()
    }

    fn spec(change: impl FnOnce(&mut Draft)) -> Spec {
        let mut draft = Draft {
            argv: vec!["/usr/bin/make".to_owned()],
            env_inheritance: Some(EnvInheritance::Minimal),
            ..Draft::default()
        };
        change(&mut draft);
        draft.check(&DraftLimits { stdin_bytes_max: 0, can_keep_tail: true }).unwrap().0
    }

    fn fields(policy: &Policy, change: impl FnOnce(&mut Draft)) -> Vec<String> {
        let faults = policy.apply(&mut spec(change), None);
        faults.into_iter().map(|fault| fault.field).collect()
    }

    fn program(name: &str) -> impl FnOnce(&mut Draft) + use<'_> {
        move |draft| draft.argv = vec![name.to_owned()]
    }

    #[test]
    fn without_a_policy_everything_is_allowed_and_nothing_is_put_in() {
        let mut spec = spec(|draft| {
            draft.env.insert("LD_PRELOAD".to_owned(), "x".to_owned());
            draft.working_dir = "/a/../b".to_owned();
        });
        let before = spec.clone();
        assert_eq!(Policy::default().apply(&mut spec, None), []);
        assert_eq!(spec, before);
    }

    #[test]
    fn only_programs_that_a_pattern_matches_are_started() {
        let executables = patterns(&["/usr/bin/*", "git", "/opt/**/run"]);
        let policy = Policy { executables, ..Policy::default() };
        for right in ["/usr/bin/make", "git", "/opt/a/b/run"] {
            assert!(fields(&policy, program(right)).is_empty(), "{right}");
        }
        for wrong in [
            "make",
            "/bin/sh",
            "/usr/bin/x/y",
            "/usr/bin/../../tmp/x",
            "/opt/../tmp/run",
            "./git",
            "usr/bin/make",
            "/opt/./run",
        ] {
            assert_eq!(fields(&policy, program(wrong)), ["spec.argv[0]"], "{wrong}");
        }
        let shell = |draft: &mut Draft| {
            (draft.argv, draft.shell) = (Vec::new(), "true".to_owned());
        };
        assert_eq!(fields(&policy, shell), ["spec.shell"]);
        for key in ["PATH", "LD_PRELOAD", "BASH_ENV", "HARMLESS"] {
            let other = |draft: &mut Draft| {
                draft.argv = vec!["git".to_owned()];
                draft.env.insert(key.to_owned(), "/tmp".to_owned());
            };
            assert_eq!(fields(&policy, other), [format!("spec.env[{key:?}]")]);
        }
    }

    #[test]
    fn variables_and_directories_are_allowed_by_pattern_secret_ones_too() {
        let policy = Policy {
            env_keys: patterns(&["CI_*", "LANG"]),
            working_dirs: patterns(&["/srv/**"]),
            ..Policy::default()
        };
        let wrong = |draft: &mut Draft| {
            for key in ["CI_JOB", "LANG", "HOME"] {
                draft.env.insert(key.to_owned(), String::new());
            }
            draft.secret_env.insert("TOKEN".to_owned(), "t".to_owned());
            draft.env_files = vec!["/etc/x".to_owned()];
            draft.working_dir = "/srv/../etc".to_owned();
        };
        let expected = [
            "spec.env[\"HOME\"]",
            "spec.secret_env[\"TOKEN\"]",
            "spec.env_files",
            "spec.working_dir",
        ];
        assert_eq!(fields(&policy, wrong), expected);
        assert!(fields(&policy, |draft| draft.working_dir = "/srv/a/b".to_owned()).is_empty());
    }

    #[test]
    fn a_bound_is_put_in_where_the_spec_has_none_and_refuses_what_is_over_it() {
        let policy = Policy {
            timeout_max: Some(Duration::from_mins(1)),
            output_bytes_max: Some(100),
            labels_max: 1,
            ..Policy::default()
        };
        let mut open = spec(|_| {});
        assert_eq!(policy.apply(&mut open, None), []);
        assert_eq!(open.timeout, Some(Duration::from_mins(1)));
        assert_eq!(open.output_limits.map(|limits| limits.max_bytes_per_stream), Some(100));
        let mut open = spec(|_| {});
        policy.apply(&mut open, Some(Duration::from_secs(5)));
        assert_eq!(open.timeout, None, "the default of the server is less");

        let wrong = |draft: &mut Draft| {
            draft.labels = [("a", ""), ("b", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        };
        let mut spec = spec(wrong);
        spec.timeout = Some(Duration::from_secs(61));
        let limits = OutputLimits { max_bytes_per_stream: 101, action: OutputLimitAction::Fail };
        spec.output_limits = Some(limits);
        let faults = policy.apply(&mut spec, None);
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        let limit = "spec.output_limits.max_bytes_per_stream";
        assert_eq!(fields, ["spec.labels", "spec.timeout", limit]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for wrong in ["", "[", "{a", &"x".repeat(PATTERN_BYTES_MAX + 1)] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
