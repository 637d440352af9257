//! The root and the addresses: one service each, and a clear word when something is wrong.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::harness::{Daemon, JobFacts as _, Setup, argv, serve_to_end};

/// Serves on a root that must be refused; the exit code and the text.
async fn refused_root(root: &Path) -> (Option<i32>, String) {
    serve_to_end(&["--root", root.to_str().unwrap(), "--listen", "127.0.0.1:0"]).await
}

#[tokio::test]
async fn a_second_service_says_who_has_the_root_and_that_it_may_be_tried_again() {
    let daemon = Daemon::start().await;
    let (code, text) = refused_root(daemon.root()).await;
    assert_eq!(code, Some(75), "{text}");
    assert!(text.contains(daemon.root().to_str().unwrap()), "{text}");
    assert!(text.contains(&daemon.pid().to_string()), "{text}");
    // The first is none the worse.
    assert_eq!(daemon.run(argv(&["true"])).await.exit_code(), Some(0));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let daemon = Daemon::start().await;
    let root = daemon.beside().join("other");
    let address = daemon.tcp().to_string();
    let (code, text) =
        serve_to_end(&["--root", root.to_str().unwrap(), "--listen", &address]).await;
    assert_eq!(code, Some(75), "{text}");
    assert!(text.contains(&address) && text.contains("--listen"), "{text}");
}

#[tokio::test]
async fn a_socket_of_another_service_is_left_alone() {
    let daemon = Daemon::start().await;
    let root = daemon.beside().join("other");
    let address = format!("unix:{}", daemon.socket().display());
    let (code, text) =
        serve_to_end(&["--root", root.to_str().unwrap(), "--listen", &address]).await;
    assert_eq!(code, Some(75), "{text}");
    assert!(text.contains(&address), "{text}");
    daemon.api_over_socket().await;
}

#[tokio::test]
async fn a_socket_that_a_killed_service_left_is_replaced() {
    let mut daemon = Daemon::start().await;
    daemon.kill();
    assert!(daemon.socket().exists(), "nobody was there to remove it");
    let daemon = daemon.restart().await;
    daemon.api_over_socket().await;
    let mode = fs::metadata(daemon.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_file_in_the_place_of_the_socket_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (root, file) = (folder.path().join("root"), folder.path().join("file"));
    fs::write(&file, "precious").unwrap();
    let address = format!("unix:{}", file.display());
    let (code, text) =
        serve_to_end(&["--root", root.to_str().unwrap(), "--listen", &address]).await;
    assert!(code.is_some_and(|code| code != 0), "{text}");
    assert!(text.contains(file.to_str().unwrap()), "{text}");
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
}

#[tokio::test]
async fn a_root_of_another_version_is_refused_and_both_are_named() {
    for version in ["jobwarden 3\n", "jobwarden 0\n", "", "something else\n"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("VERSION"), version).unwrap();
        let (code, text) = refused_root(folder.path()).await;
        assert!(code.is_some_and(|code| code != 0 && code != 75), "{version:?}: {text}");
        assert!(text.contains("VERSION") && text.contains("jobwarden 2"), "{text}");
        assert!(text.contains(version.trim()), "{text}");
        // Not a thing in it has changed.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn a_folder_with_something_else_in_it_is_not_made_a_store() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "x").unwrap();
    let (code, text) = refused_root(folder.path()).await;
    assert!(code.is_some_and(|code| code != 0), "{text}");
    assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_root_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let root = file.join("root");
    let (code, text) = refused_root(&root).await;
    assert!(code.is_some_and(|code| code != 0), "{text}");
    assert!(text.contains(root.to_str().unwrap()), "{text}");
}

#[tokio::test]
async fn a_root_that_may_not_be_written_is_named() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("not looked at: nothing is forbidden to the user root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o500)).unwrap();
    let (code, text) = refused_root(&root).await;
    assert!(code.is_some_and(|code| code != 0), "{text}");
    assert!(text.contains(root.to_str().unwrap()), "{text}");
}

#[tokio::test]
async fn a_root_that_others_may_write_to_or_own_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    for mode in [0o777, 0o770, 0o702] {
        fs::set_permissions(&root, fs::Permissions::from_mode(mode)).unwrap();
        let (code, text) = refused_root(&root).await;
        assert!(code.is_some_and(|code| code != 0), "{text}");
        let remedy = format!("chmod go-w {}", root.display());
        assert!(text.contains(&remedy), "{text}");
    }
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not looked at: only root can give a folder to somebody else");
        return;
    }
    std::os::unix::fs::chown(&root, Some(61234), None).unwrap();
    let (code, text) = refused_root(&root).await;
    assert!(code.is_some_and(|code| code != 0), "{text}");
    assert!(text.contains("61234") && text.contains("chown 0 "), "{text}");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}

#[tokio::test]
async fn all_that_is_wrong_with_the_settings_is_told_at_once() {
    let flags = ["--max-running-jobs", "none", "--max-wait", "soon", "--listen", "0.0.0.0:80"];
    let (code, text) = serve_to_end(&flags).await;
    assert_eq!(code, Some(2), "{text}");
    for flag in ["max-running-jobs", "max-wait", "listen"] {
        assert!(text.contains(flag), "{flag}: {text}");
    }
}

#[tokio::test]
async fn a_root_that_others_could_enter_is_made_private_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = Daemon::start_on(Setup::default(), root, folder).await;
    assert_eq!(fs::metadata(daemon.root()).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(daemon.lines().iter().any(|line| line.contains("other users had access")));
}

#[tokio::test]
async fn a_link_in_the_place_of_the_socket_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(at("elsewhere"), at("socket")).unwrap();
    let (root, listen) =
        (at("root").display().to_string(), format!("unix:{}", at("socket").display()));
    let (code, text) = serve_to_end(&["--root", &root, "--listen", &listen]).await;
    assert_eq!(code, Some(70), "{text}");
    assert!(text.contains("is no socket; remove it or give another --listen"), "{text}");
    assert!(fs::symlink_metadata(at("socket")).unwrap().is_symlink() && !at("elsewhere").exists());
}

#[tokio::test]
async fn a_socket_is_for_all_only_when_other_users_are_let_in() {
    for (flags, expected) in [(&[][..], 0o600), (&["--unix-users", "65534=reader"][..], 0o666)] {
        let daemon = Daemon::start_with(Setup::flags(flags)).await;
        let mode = fs::metadata(daemon.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, expected, "{flags:?}");
    }
}

#[tokio::test]
async fn nobody_else_may_look_into_the_root() {
    let daemon = Daemon::start_with(Setup::default()).await;
    let id = daemon.exec(crate::harness::shell("echo on; echo err >&2")).await;
    daemon.wait(&id).await;
    let mut folders = vec![daemon.root().to_owned()];
    while let Some(folder) = folders.pop() {
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o077, 0, "{folder:?}");
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?}", entry.path());
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
}

#[tokio::test]
async fn health_is_told_for_the_service_and_the_whole() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    let daemon = Daemon::start().await;
    let mut health = HealthClient::new(daemon.channel().await);
    for service in ["", "jobwarden.v1.JobService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
}
