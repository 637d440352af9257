//! What the settings promise: which source wins, and that no mistake hides another.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{
    ClientAuth, ConfigErrors, ConfigFile, Durability, Effective, Inputs, ListenAddress,
    MachineFacts, ServeFlags, Source,
};

fn machine() -> MachineFacts {
    MachineFacts {
        memory_bytes: Some(8 << 30),
        open_files_max: Some(524_288),
        home: Some(PathBuf::from("/home/ada")),
        accounts: BTreeMap::from([("ada".to_owned(), 1000)]),
        current_dir: PathBuf::from("/work"),
    }
}

fn resolve(
    flags: &ServeFlags,
    variables: &[(&str, &str)],
    file: Option<&str>,
) -> Result<Effective, ConfigErrors> {
    let environment: BTreeMap<_, _> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let file =
        file.map(|text| ConfigFile { path: PathBuf::from("/etc/jw.toml"), text: text.to_owned() });
    Effective::resolve(&Inputs { flags, environment: &environment, file, machine: &machine() })
}

#[test]
fn without_any_source_the_documented_defaults_hold() {
    let config = resolve(&ServeFlags::default(), &[], None).unwrap().config;
    assert_eq!(config.root, PathBuf::from("/home/ada/.local/state/jobwarden"));
    assert_eq!(
        config.listen,
        [ListenAddress::Unix("/home/ada/.local/state/jobwarden/jobwarden.sock".into())]
    );
    assert_eq!(config.durability, Durability::Power);
    assert_eq!(config.max_running_jobs, 512);
    assert_eq!(config.max_queued_jobs, 100_000);
    assert_eq!(config.default_timeout, None);
    assert_eq!(config.default_working_dir, Some(PathBuf::from("/home/ada")));
    let confinement = &config.confinement;
    assert_eq!((confinement.run_as.as_ref(), confinement.no_new_privs), (None, true));
    assert_eq!((confinement.umask, confinement.rlimits.len()), (0o022, 0));
    assert_eq!(config.max_wait, Duration::from_hours(1));
    assert_eq!(config.log_filter, "info");
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let file = Some("max_streams = 1\nmax_queued_jobs = 1\nmax_running_jobs = 1\n");
    let variables = [("JOBWARDEN_MAX_STREAMS", "2"), ("JOBWARDEN_MAX_QUEUED_JOBS", "2")];
    let flags = ServeFlags { max_streams: Some("3".to_owned()), ..ServeFlags::default() };
    let effective = resolve(&flags, &variables, file).unwrap();
    let config = &effective.config;
    assert_eq!((config.max_streams, config.max_queued_jobs, config.max_running_jobs), (3, 2, 1));
    assert_eq!(effective.sources["max_streams"], Source::Flag("--max-streams".to_owned()));
}

#[test]
fn every_mistake_is_reported_at_once_with_its_source() {
    let file = Some("max_wait = \"1\"\nmax_runing_jobs = 3\nretention = true\n[extra]\n");
    let flags = ServeFlags {
        listen: vec!["0.0.0.0:80".to_owned(), "nowhere".to_owned()],
        ..ServeFlags::default()
    };
    let errors = resolve(&flags, &[("JOBWARDEN_DURABILITY", "eternal")], file).unwrap_err();
    let sources: Vec<String> = errors.mistakes.iter().map(|it| it.source.to_string()).collect();
    assert_eq!(
        sources,
        [
            "--listen",
            "--listen",
            "JOBWARDEN_DURABILITY",
            "/etc/jw.toml:max_wait",
            "/etc/jw.toml:retention",
            "/etc/jw.toml:extra",
            "/etc/jw.toml:max_runing_jobs",
        ]
    );
    let text = errors.to_string();
    assert!(text.starts_with("7 settings are wrong\n"), "{text}");
    assert!(text.contains("did you mean max_running_jobs?"), "{text}");
    assert!(text.contains("must be \"power\" or \"process\""), "{text}");
}

#[test]
fn a_file_that_is_no_toml_does_not_hide_other_mistakes() {
    let errors =
        resolve(&ServeFlags::default(), &[("JOBWARDEN_CGROUP", "x")], Some("a = = 1")).unwrap_err();
    assert_eq!(errors.mistakes.len(), 2, "{errors}");
    assert!(errors.mistakes[0].remedy.contains("line 1"), "{errors}");
}

#[test]
fn relative_paths_start_from_the_callers_directory_but_not_in_the_file() {
    let flags = ServeFlags { root: Some("state".to_owned()), ..ServeFlags::default() };
    assert_eq!(resolve(&flags, &[], None).unwrap().config.root, PathBuf::from("/work/state"));
    let errors = resolve(&ServeFlags::default(), &[], Some("root = \"state\"")).unwrap_err();
    assert_eq!(errors.mistakes[0].remedy, "must be an absolute path");
}

#[test]
fn a_root_too_deep_for_a_socket_is_refused_unless_another_address_is_given() {
    let deep = format!("/{}", "d".repeat(100));
    let mut flags = ServeFlags { root: Some(deep), ..ServeFlags::default() };
    let errors = resolve(&flags, &[], None).unwrap_err();
    assert!(errors.mistakes[0].remedy.contains("shorter unix:PATH"), "{errors}");
    flags.listen = vec!["unix:/run/jw.sock".to_owned()];
    assert!(resolve(&flags, &[], None).is_ok());
}

#[test]
fn the_printed_settings_give_the_same_settings_again() {
    let flags = ServeFlags {
        listen: vec!["unix:/tmp/a \"b\".sock".to_owned(), "[::1]:7420".to_owned()],
        retention: Some("30days".to_owned()),
        unix_users: vec!["ada=operator".to_owned(), "7=reader".to_owned()],
        run_as: Some("ada:100".to_owned()),
        no_new_privs: Some("false".to_owned()),
        umask: Some("7".to_owned()),
        rlimits: vec!["nofile=1024".to_owned(), "as=4GiB".to_owned()],
        ..ServeFlags::default()
    };
    let effective = resolve(&flags, &[("JOBWARDEN_MAX_WAIT", "90s")], None).unwrap();
    let toml = effective.to_toml();
    assert!(toml.contains("# JOBWARDEN_MAX_WAIT\nmax_wait = \"1m 30s\"\n"), "{toml}");
    assert!(toml.contains("# default\nmax_streams = 16384\n"), "{toml}");
    let again = resolve(&ServeFlags::default(), &[], Some(&toml)).unwrap();
    assert_eq!(again.config, effective.config);
}

#[test]
fn the_default_number_of_jobs_follows_memory_and_open_files() {
    let jobs = |memory_bytes, open_files_max| {
        let machine = MachineFacts { memory_bytes, open_files_max, ..machine() };
        let inputs = Inputs {
            flags: &ServeFlags::default(),
            environment: &BTreeMap::new(),
            file: None,
            machine: &machine,
        };
        Effective::resolve(&inputs).unwrap().config.max_running_jobs
    };
    assert_eq!(jobs(Some(1 << 40), None), 1024);
    assert_eq!(jobs(Some(1 << 20), None), 16);
    assert_eq!(jobs(None, None), 16);
    assert_eq!(jobs(Some(1 << 40), Some(1024)), 96);
    assert_eq!(jobs(Some(1 << 40), Some(10)), 1);
}

#[test]
fn a_network_needs_tls_or_an_explicit_word() {
    let network = |more: &str| resolve(&ServeFlags::default(), &[], Some(more));
    let open = "listen = [\"127.0.0.1:1\", \"0.0.0.0:7420\", \"[2001:db8::1]:7420\"]\n";
    let errors = network(open).unwrap_err();
    assert_eq!(errors.mistakes.len(), 2, "{errors}");
    let says_what_to_add = |text: &str| {
        ["--tls-cert", "--tls-key", "--insecure-plaintext-network"]
            .iter()
            .all(|it| text.contains(it))
    };
    assert!(errors.mistakes.iter().all(|mistake| says_what_to_add(&mistake.remedy)), "{errors}");
    let tls = "tls_cert = \"/c\"\ntls_key = \"/k\"\n";
    assert!(network(&format!("{open}{tls}")).is_ok());
    assert!(network(&format!("{open}insecure_plaintext_network = true\n")).is_ok());
    assert!(network(&format!("{open}insecure_plaintext_network = false\n")).is_err());
}

#[test]
fn settings_of_tls_that_do_not_fit_are_each_told() {
    let mistakes = |file: &str| {
        let errors = resolve(&ServeFlags::default(), &[], Some(file)).unwrap_err();
        errors.mistakes.iter().map(|mistake| mistake.source.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(mistakes("tls_cert = \"/c\"\n"), ["/etc/jw.toml:tls_cert"]);
    assert_eq!(mistakes("tls_key = \"/k\"\n"), ["/etc/jw.toml:tls_key"]);
    assert_eq!(
        mistakes("tls_client_ca = \"/a\"\ntls_client_auth = \"never\"\nmax_connections = 0\n"),
        [
            "/etc/jw.toml:tls_client_auth",
            "/etc/jw.toml:max_connections",
            "/etc/jw.toml:tls_client_ca"
        ]
    );
    // Nobody may take it that a certificate is asked for when none is.
    assert_eq!(mistakes("tls_client_auth = \"required\"\n"), ["/etc/jw.toml:tls_client_auth"]);
}

#[test]
fn the_printed_settings_of_tls_give_the_same_again() {
    let file = "certificates = [\"CN:ci=submitter\"]\n\
                tls_cert = \"/c\"\ntls_key = \"/k\"\ntls_client_ca = \"/a\"\n\
                tls_client_auth = \"optional\"\ninsecure_plaintext_network = true\n";
    let effective = resolve(&ServeFlags::default(), &[], Some(file)).unwrap();
    let network = &effective.config.network;
    assert_eq!(network.tls_client_auth, ClientAuth::Optional);
    assert_eq!((network.max_connections, network.max_socket_connections), (1024, 8192));
    let again = resolve(&ServeFlags::default(), &[], Some(&effective.to_toml())).unwrap();
    assert_eq!(again.config, effective.config);
}

#[test]
fn jobs_that_run_as_a_user_start_in_its_home_unless_a_directory_is_given() {
    let dir = |file: &str| {
        let config = resolve(&ServeFlags::default(), &[], Some(file)).unwrap().config;
        config.default_working_dir
    };
    assert_eq!(dir("run_as = \"ada\""), None);
    assert_eq!(dir("run_as = \"ada\"\ndefault_working_dir = \"/srv\""), Some("/srv".into()));
    assert_eq!(dir("default_working_dir = \"home\""), Some("/home/ada".into()));
}

#[test]
fn a_resource_that_is_limited_twice_is_a_mistake() {
    let errors = resolve(&ServeFlags::default(), &[("JOBWARDEN_RLIMITS", "core=0, core=1")], None);
    let errors = errors.unwrap_err();
    assert_eq!(errors.mistakes[0].source, Source::Environment("JOBWARDEN_RLIMITS".to_owned()));
    assert!(errors.mistakes[0].remedy.contains("twice"), "{errors}");
}

#[test]
fn settings_that_would_let_in_more_or_others_than_they_seem_to_are_mistakes() {
    let mistakes = |file: &str| {
        let errors = resolve(&ServeFlags::default(), &[], Some(file)).unwrap_err();
        errors.mistakes.iter().map(|mistake| mistake.source.to_string()).collect::<Vec<_>>()
    };
    for key in ["allowed_executables", "allowed_working_dirs", "allowed_env_keys", "rlimits"] {
        let expected = [format!("/etc/jw.toml:{key}")];
        assert_eq!(mistakes(&format!("{key} = []\n")), expected);
    }
    let both = mistakes("allowed_executables = [\"none\", \"/bin/*\"]\n");
    assert_eq!(both, ["/etc/jw.toml:allowed_executables"]);
    assert_eq!(mistakes("certificates = [\"CN:a=reader\"]\n"), ["/etc/jw.toml:certificates"]);
    let open = "insecure_loopback_without_token = true\nlisten = [\"0.0.0.0:1\"]\n\
                tls_cert = \"/c\"\ntls_key = \"/k\"\n";
    assert_eq!(mistakes(open), ["/etc/jw.toml:insecure_loopback_without_token"]);
}
