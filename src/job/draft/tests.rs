//! Tests of `Draft::check`: a table of faults, and drafts of every kind at random.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{faults::VIOLATIONS_MAX, rules::*, *};
use crate::job::OutputLimitAction;

const LIMITS: DraftLimits = DraftLimits { stdin_bytes_max: 1024, can_keep_tail: true };

fn draft() -> Draft {
    Draft {
        argv: vec!["true".to_owned()],
        env_inheritance: Some(EnvInheritance::Minimal),
        ..Draft::default()
    }
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn numbered(count: usize) -> BTreeMap<String, String> {
    (0..count).map(|number| (format!("k{number}"), String::new())).collect()
}

fn fields(draft: Draft) -> Vec<String> {
    let violations = draft.check(&LIMITS).map(|_| ()).unwrap_err();
    violations.into_iter().map(|violation| violation.field).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "the fields of a draft are options")]
fn span(seconds: i64, nanos: i32) -> Option<Span> {
    Some(Span { seconds, nanos })
}

/// Drafts with one fault each, and the field that must be named.
fn faulty_commands() -> Vec<(Draft, &'static str)> {
    let argv = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    let long_dir = format!("/{}", "d".repeat(PATH_BYTES_MAX));
    vec![
        (Draft { argv: argv(&[]), ..draft() }, "spec.argv"),
        (Draft { shell: "true".to_owned(), ..draft() }, "spec.shell"),
        (Draft { argv: argv(&[""]), ..draft() }, "spec.argv[0]"),
        (Draft { argv: argv(&["", "a"]), ..draft() }, "spec.argv[0]"),
        (Draft { argv: argv(&["a", "b", "", "c\0"]), ..draft() }, "spec.argv[3]"),
        (Draft { argv: argv(&["a", &long]), ..draft() }, "spec.argv[1]"),
        (Draft { argv: vec!["a".to_owned(); ARGV_LEN_MAX + 1], ..draft() }, "spec.argv"),
        (Draft { argv: argv(&[]), shell: long.clone(), ..draft() }, "spec.shell"),
        (Draft { argv: argv(&[]), shell: "a\0b".to_owned(), ..draft() }, "spec.shell"),
        (Draft { working_dir: "relative".to_owned(), ..draft() }, "spec.working_dir"),
        (Draft { working_dir: "/a\0".to_owned(), ..draft() }, "spec.working_dir"),
        (Draft { working_dir: long_dir.clone(), ..draft() }, "spec.working_dir"),
        (Draft { env_files: argv(&["/a", ""]), ..draft() }, "spec.env_files[1]"),
        (Draft { env_files: argv(&["a"]), ..draft() }, "spec.env_files[0]"),
        (Draft { env_files: argv(&["/a\0"]), ..draft() }, "spec.env_files[0]"),
        (Draft { env_files: argv(&[&long_dir]), ..draft() }, "spec.env_files[0]"),
        (Draft { env_files: vec!["/a".to_owned(); 17], ..draft() }, "spec.env_files"),
        (Draft { argv: vec!["x".repeat(100_000); 11], ..draft() }, "spec"),
    ]
}

fn faulty_maps() -> Vec<(Draft, &'static str)> {
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    let long_value = "x".repeat(LABEL_VALUE_BYTES_MAX + 1);
    let both = Draft { env: map([("A", "")]), secret_env: map([("A", "")]), ..draft() };
    let mut table = vec![
        (both, r#"spec.secret_env["A"]"#),
        (Draft { env: numbered(VARIABLES_LEN_MAX + 1), ..draft() }, "spec.env"),
        (Draft { secret_env: numbered(VARIABLES_LEN_MAX + 1), ..draft() }, "spec.secret_env"),
        (Draft { env: map([("A", "\0")]), ..draft() }, r#"spec.env["A"]"#),
        (Draft { env: map([("A", &long)]), ..draft() }, r#"spec.env["A"]"#),
        (Draft { secret_env: map([("A", "\0")]), ..draft() }, r#"spec.secret_env["A"]"#),
        (Draft { labels: numbered(LABELS_LEN_MAX + 1), ..draft() }, "spec.labels"),
        (Draft { labels: map([("a", &long_value)]), ..draft() }, r#"spec.labels["a"]"#),
        (Draft { labels: map([("a", "\0")]), ..draft() }, r#"spec.labels["a"]"#),
        (Draft { labels: map([("A", "")]), ..draft() }, r#"spec.labels["A"]"#),
        (Draft { labels: map([("", "")]), ..draft() }, r#"spec.labels[""]"#),
        (Draft { labels: map([("1a", "")]), ..draft() }, r#"spec.labels["1a"]"#),
        (Draft { labels: map([("a b", "")]), ..draft() }, r#"spec.labels["a b"]"#),
    ];
    for (key, field) in [
        ("", r#"spec.env[""]"#),
        ("1A", r#"spec.env["1A"]"#),
        ("A=B", r#"spec.env["A=B"]"#),
        ("A\0\n\"", r#"spec.env["A\0\n\""]"#),
        ("É", r#"spec.env["É"]"#),
        ("JOBWARDEN_JOB_ID", r#"spec.env["JOBWARDEN_JOB_ID"]"#),
    ] {
        table.push((Draft { env: map([(key, "")]), ..draft() }, field));
    }
    table
}

fn faulty_rest() -> Vec<(Draft, &'static str)> {
    let mut table = vec![
        (Draft { stdin: vec![0; 1025], ..draft() }, "spec.stdin"),
        (Draft { env_inheritance: None, ..draft() }, "spec.env_inheritance"),
        (Draft { display_name: "n".repeat(201), ..draft() }, "spec.display_name"),
        (Draft { display_name: "a\0".to_owned(), ..draft() }, "spec.display_name"),
        (Draft { display_name: "a\u{1b}[2J".to_owned(), ..draft() }, "spec.display_name"),
        (Draft { display_name: "a\u{85}".to_owned(), ..draft() }, "spec.display_name"),
        (Draft { unsupported: vec!["retry"], ..draft() }, "spec.retry"),
    ];
    for stop_signal in [-1, 32, 33, 65, i32::MIN, i32::MAX] {
        table.push((Draft { stop_signal, ..draft() }, "spec.stop_signal"));
    }
    for bad in [span(-1, 0), span(0, -1), span(1, -1), span(0, 1_000_000_000), span(i64::MAX, 0)] {
        table.push((Draft { timeout: bad, ..draft() }, "spec.timeout"));
        table.push((Draft { idle_timeout: bad, ..draft() }, "spec.idle_timeout"));
        table.push((Draft { queue_timeout: bad, ..draft() }, "spec.queue_timeout"));
        table.push((Draft { stop_grace_period: bad, ..draft() }, "spec.stop_grace_period"));
        table.push((Draft { drain_timeout: bad, ..draft() }, "spec.drain_timeout"));
        table.push((Draft { ttl_after_end: bad, ..draft() }, "spec.ttl_after_end"));
    }
    table.push((Draft { timeout: span(0, 0), ..draft() }, "spec.timeout"));
    table.push((Draft { idle_timeout: span(0, 0), ..draft() }, "spec.idle_timeout"));
    table.push((Draft { queue_timeout: span(0, 0), ..draft() }, "spec.queue_timeout"));
    table
}

#[test]
fn every_fault_is_told_with_its_field_and_nothing_else_is() {
    for (draft, field) in [faulty_commands(), faulty_maps(), faulty_rest()].concat() {
        assert_eq!(fields(draft), [field]);
    }
}

#[test]
fn what_lies_on_a_bound_is_accepted() {
    let limit = "x".repeat(TEXT_BYTES_MAX);
    let key = format!("a{}", "./_-9z".repeat(20))[..LABEL_KEY_BYTES_MAX].to_owned();
    let label = "v".repeat(LABEL_VALUE_BYTES_MAX);
    let on_bounds = [
        Draft { argv: vec!["a".to_owned(), limit.clone(), String::new()], ..draft() },
        Draft { argv: vec!["a".to_owned(); ARGV_LEN_MAX], ..draft() },
        Draft { argv: Vec::new(), shell: limit.clone(), ..draft() },
        Draft { working_dir: format!("/{}", "d".repeat(PATH_BYTES_MAX - 1)), ..draft() },
        Draft { env: map([("_", &limit), ("a9_", "JOBWARDEN_"), ("JOBWARDEN", "")]), ..draft() },
        Draft { env: numbered(VARIABLES_LEN_MAX), ..draft() },
        Draft { env_files: vec!["/a".to_owned(); ENV_FILES_LEN_MAX], ..draft() },
        Draft { stdin: vec![0; 1024], ..draft() },
        Draft { labels: map([(&key, &label)]), ..draft() },
        Draft { labels: numbered(LABELS_LEN_MAX), ..draft() },
        Draft { display_name: "é".repeat(100), ..draft() },
        Draft { stop_signal: 64, priority: i32::MIN, timeout: span(0, 1), ..draft() },
        Draft { stop_grace_period: span(0, 0), drain_timeout: span(0, 0), ..draft() },
        Draft { ttl_after_end: span(10 * 365 * 86_400, 0), ..draft() },
        Draft { argv: vec!["x".repeat(TEXT_BYTES_MAX); 8], ..draft() },
    ];
    for (number, draft) in on_bounds.into_iter().enumerate() {
        assert!(draft.check(&LIMITS).is_ok(), "{number}");
    }
}

#[test]
fn a_spec_holds_the_names_of_secrets_and_not_their_values() {
    let draft = Draft { secret_env: map([("B", "hush"), ("A", "hush")]), ..draft() };
    assert!(!format!("{draft:?}").contains("hush"));
    let (spec, secrets, _) = draft.check(&LIMITS).unwrap();
    assert_eq!(spec.secret_keys, ["A", "B"]);
    assert!(!format!("{spec:?}{secrets:?}").contains("hush"));
    assert_eq!(secrets.0["A"], "hush");
}

#[test]
fn no_violation_repeats_a_value() {
    let secret_env = map([("A B", "hush"), ("C", "hush\0hush")]);
    let violations = Draft { secret_env, ..draft() }.check(&LIMITS).unwrap_err();
    assert_eq!(violations.len(), 2);
    assert!(!format!("{violations:?}").contains("hush"));
}

#[test]
fn a_long_key_is_cut_in_the_path_of_its_field() {
    let found = fields(Draft { env: map([(&"é".repeat(5000), "")]), ..draft() });
    assert_eq!(found, [format!("spec.env[\"{}…\"]", "é".repeat(64))]);
}

#[test]
fn all_faults_are_told_at_once_up_to_the_bound() {
    let spec = Draft { argv: Vec::new(), stop_signal: 99, timeout: span(0, 0), ..draft() };
    assert_eq!(fields(spec), ["spec.argv", "spec.stop_signal", "spec.timeout"]);
    let spec = Draft { argv: vec!["\0".to_owned(); 4000], ..draft() };
    assert_eq!(fields(spec).len(), VIOLATIONS_MAX);
}

#[test]
fn only_what_is_unsupported_is_marked_so() {
    let draft = Draft { unsupported: vec!["retry"], stop_signal: 99, ..draft() };
    let violations = draft.check(&LIMITS).unwrap_err();
    let marks: Vec<bool> = violations.iter().map(|violation| violation.unsupported).collect();
    assert_eq!(marks, [true, false]);
}

#[test]
fn request_ids_are_short_and_printable() {
    for good in ["a", "!~", &"x".repeat(128)] {
        assert_eq!(check_request_id("request_id", good), None);
    }
    for bad in ["", "a b", "a\n", "é", "\u{7f}", &"x".repeat(129)] {
        assert_eq!(check_request_id("request_id", bad).unwrap().field, "request_id");
    }
}

fn texts() -> impl Strategy<Value = String> {
    let known = ["", "A", "a", "/", "/tmp", "JOBWARDEN_X", "a/b", "\0", "A=B", "é", "a\nb"];
    prop_oneof![
        8 => select(known.to_vec()).prop_map(str::to_owned),
        4 => any::<String>(),
        1 => (0..300_000_usize).prop_map(|len| "x".repeat(len)),
    ]
}

fn maps() -> impl Strategy<Value = BTreeMap<String, String>> {
    vec((texts(), texts()), 0..4).prop_map(|pairs| pairs.into_iter().collect())
}

fn spans() -> impl Strategy<Value = Option<Span>> {
    let seconds = prop_oneof![any::<i64>(), -2..5_i64, Just(SPAN_MAX.as_secs().cast_signed())];
    let nanos = prop_oneof![3 => Just(0), 1 => any::<i32>()];
    proptest::option::of((seconds, nanos).prop_map(|(seconds, nanos)| Span { seconds, nanos }))
}

fn patterns() -> impl Strategy<Value = OutputMatch> {
    let pair = (texts(), prop_oneof![texts(), "[a-z()*]{1,9}"]);
    pair.prop_map(|(name, pattern)| OutputMatch { name, pattern, ..OutputMatch::default() })
}

fn limits() -> impl Strategy<Value = Option<OutputLimitsDraft>> {
    let actions = select(vec![None, Some(OutputLimitAction::Truncate)]);
    let limits = (any::<i64>(), actions).prop_map(|(max_bytes_per_stream, action)| {
        OutputLimitsDraft { max_bytes_per_stream, action }
    });
    proptest::option::of(limits)
}

prop_compose! {
    fn drafts()(
        (argv, shell, working_dir) in (vec(texts(), 0..4), texts(), texts()),
        (env, secret_env, labels) in (maps(), maps(), maps()),
        env_inheritance in select(vec![None, Some(EnvInheritance::All)]),
        env_files in vec(texts(), 0..3),
        stdin in vec(any::<u8>(), 0..1100),
        (timeout, idle_timeout, queue_timeout) in (spans(), spans(), spans()),
        (stop_grace_period, drain_timeout, ttl_after_end) in (spans(), spans(), spans()),
        (stop_signal, priority) in (-3..70, any::<i32>()),
        (merge_output, output_matches) in (any::<bool>(), vec(patterns(), 0..3)),
        output_limits in limits(),
        display_name in texts(),
        unsupported in vec(Just("retry"), 0..2),
    ) -> Draft {
        Draft {
            argv, shell, working_dir, env, secret_env, env_inheritance, env_files, stdin, timeout,
            idle_timeout, queue_timeout, stop_signal, stop_grace_period, drain_timeout,
            merge_output, output_matches, output_limits, labels, display_name, priority,
            ttl_after_end, unsupported,
        }
    }
}

fn hold_the_bounds(spec: &Spec, secrets: &Secrets, stdin: &[u8]) {
    let is_text = |text: &String| text.len() <= TEXT_BYTES_MAX && !text.contains('\0');
    match &spec.command {
        Command::Argv(argv) => {
            assert!(!argv[0].is_empty() && argv.len() <= ARGV_LEN_MAX);
            assert!(argv.iter().all(is_text));
        }
        Command::Shell(shell) => assert!(!shell.is_empty() && is_text(shell)),
    }
    for path in spec.working_dir.iter().chain(&spec.env_files) {
        assert!(path.starts_with('/') && path.len() <= PATH_BYTES_MAX && is_text(path));
    }
    for (key, value) in spec.env.iter().chain(&secrets.0) {
        assert!(is_variable_name(key) && !key.starts_with(OWN_PREFIX) && is_text(value));
    }
    for (key, value) in &spec.labels {
        assert!(is_label_key(key) && value.len() <= LABEL_VALUE_BYTES_MAX && is_text(value));
    }
    assert!(spec.secret_keys.iter().eq(secrets.0.keys()));
    assert!(spec.secret_keys.iter().all(|key| !spec.env.contains_key(key)));
    assert!(spec.stop_signal.is_none_or(|signal| (1..=64).contains(&signal)));
    assert!(spec.stop_signal.is_none_or(|signal| signal != 32 && signal != 33));
    for positive in [spec.timeout, spec.idle_timeout, spec.queue_timeout].into_iter().flatten() {
        assert!(positive > Duration::ZERO && positive <= SPAN_MAX);
    }
    let spans = [spec.stop_grace_period, spec.drain_timeout, spec.ttl_after_end];
    assert!(spans.into_iter().flatten().all(|span| span <= SPAN_MAX));
    assert!(spec.display_name.len() <= DISPLAY_NAME_BYTES_MAX);
    assert!(!spec.display_name.chars().any(char::is_control));
    assert!(spec.stdin_bytes == stdin.len() as u64 && spec.stdin_bytes <= LIMITS.stdin_bytes_max);
}

/// Makes most drafts acceptable, so that the bounds of accepted specs are really looked at.
fn mended(mut draft: Draft) -> Draft {
    draft.unsupported.clear();
    draft.env_inheritance = Some(EnvInheritance::All);
    if draft.argv.is_empty() == draft.shell.is_empty() {
        draft.argv = vec!["true".to_owned()];
        draft.shell.clear();
    }
    for violation in draft.clone().check(&LIMITS).err().into_iter().flatten() {
        match violation.field.split(['[', '.']).nth(1).unwrap_or_default() {
            "argv" => draft.argv = vec!["true".to_owned()],
            "shell" => "true".clone_into(&mut draft.shell),
            "working_dir" => draft.working_dir.clear(),
            "env" => draft.env.clear(),
            "secret_env" => draft.secret_env.clear(),
            "env_files" => draft.env_files.clear(),
            "stdin" => draft.stdin.clear(),
            "timeout" => draft.timeout = None,
            "idle_timeout" => draft.idle_timeout = None,
            "queue_timeout" => draft.queue_timeout = None,
            "stop_signal" => draft.stop_signal = 0,
            "stop_grace_period" => draft.stop_grace_period = None,
            "drain_timeout" => draft.drain_timeout = None,
            "labels" => draft.labels.clear(),
            "display_name" => draft.display_name.clear(),
            "ttl_after_end" => draft.ttl_after_end = None,
            _ => {}
        }
    }
    draft
}

proptest! {
    #[test]
    fn no_draft_makes_the_check_panic_or_speak_without_end(draft in drafts()) {
        if let Err(violations) = draft.check(&LIMITS) {
            prop_assert!(!violations.is_empty() && violations.len() <= VIOLATIONS_MAX);
            prop_assert!(violations.iter().all(|violation| violation.field.len() < 1000));
        }
    }

    #[test]
    fn every_accepted_spec_holds_the_bounds(draft in drafts()) {
        for draft in [draft.clone(), mended(draft)] {
            if let Ok((spec, secrets, stdin)) = draft.check(&LIMITS) {
                hold_the_bounds(&spec, &secrets, &stdin);
            }
        }
    }
}
