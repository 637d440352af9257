//! Fuzz targets of the configuration file and of the texts that defaults depend on.

use std::{collections::BTreeMap, path::PathBuf};

use super::{ConfigFile, Effective, Inputs, MachineFacts, ServeFlags, facts};

fn resolve(text: String) -> Result<Effective, super::ConfigErrors> {
    let machine = MachineFacts {
        memory_bytes: Some(1 << 30),
        open_files_max: Some(1024),
        home: Some(PathBuf::from("/home/ada")),
        accounts: BTreeMap::new(),
        current_dir: PathBuf::from("/"),
    };
    let file = Some(ConfigFile { path: PathBuf::from("/etc/jobwarden.toml"), text });
    let (flags, environment) = (ServeFlags::default(), BTreeMap::new());
    Effective::resolve(&Inputs {
        flags: &flags,
        environment: &environment,
        file,
        machine: &machine,
    })
}

/// Settings that are taken are told as a file that gives them again; a refusal says something.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match resolve(text.to_owned()) {
        Ok(effective) => {
            let told = effective.to_toml();
            let again = resolve(told.clone()).map(|again| again.config);
            assert_eq!(again, Ok(effective.config), "{told}");
        }
        Err(errors) => {
            assert!(!errors.mistakes.is_empty());
            assert!(errors.mistakes.iter().all(|mistake| !mistake.remedy.is_empty()));
        }
    }
}

/// No text of the kernel or of the account database is more than it says.
pub(crate) fn machine_facts(texts: [&[u8]; 4]) {
    let [meminfo, limits, status, passwd] = texts.map(String::from_utf8_lossy);
    if let Some(bytes) = facts::memory_bytes(&meminfo) {
        assert!(bytes.is_multiple_of(1024));
    }
    let _ = facts::open_files_max(&limits);
    if let Some(home) = facts::account_home(&status, &passwd) {
        assert!(home.is_absolute());
    }
}
