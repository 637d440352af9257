//! The program as a client: a process of its own that talks to a service over its unix socket.

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use super::{Daemon, daemon::BINARY, eventually};

/// A client command that runs. It is killed when it is dropped.
pub(crate) struct ClientProcess {
    process: Child,
    stdout: Reading,
    stderr: Reading,
}

/// How a client command ended, and all that it wrote.
#[derive(Debug)]
pub(crate) struct ClientEnd {
    /// None if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Daemon {
    /// Starts `jobwarden WORDS…` as a client of this service and of those that follow it.
    pub(crate) fn client(&self, words: &[&str]) -> ClientProcess {
        self.client_with(&[], words)
    }

    /// The same, with these variables.
    pub(crate) fn client_with(&self, env: &[(&str, &str)], words: &[&str]) -> ClientProcess {
        self.client_at(&format!("unix:{}", self.socket().display()), env, words)
    }

    /// The same, of whoever answers at `endpoint`.
    pub(crate) fn client_at(
        &self,
        endpoint: &str,
        env: &[(&str, &str)],
        words: &[&str],
    ) -> ClientProcess {
        let mut command = Command::new(BINARY);
        // The flag, not the root: a client must not start a service in place of a killed one.
        command.arg("--endpoint").arg(endpoint).args(words);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(env.iter().copied());
        // What it runs, it runs where it is: in the folder of the test.
        command.env("HOME", self.beside()).current_dir(self.beside());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the binary starts");
        let stdout = Reading::of(process.stdout.take().expect("it is a pipe"));
        let stderr = Reading::of(process.stderr.take().expect("it is a pipe"));
        ClientProcess { process, stdout, stderr }
    }
}

impl ClientProcess {
    /// What it has written to standard output so far.
    pub(crate) fn stdout(&self) -> Vec<u8> {
        self.stdout.so_far()
    }

    /// Waits until its standard output holds `text`.
    pub(crate) async fn printed(&mut self, text: &str) {
        let what = format!("{text:?} from a client");
        let (process, stdout, stderr) = (&mut self.process, &self.stdout, &self.stderr);
        eventually(&what, || {
            // Asked for first: what it wrote before its end is there to be seen afterwards.
            let ended = process.try_wait().expect("it is our child");
            let is_there = String::from_utf8_lossy(&stdout.so_far()).contains(text);
            if let Some(status) = ended.filter(|_| !is_there && stdout.is_over()) {
                let stderr = String::from_utf8_lossy(&stderr.so_far()).into_owned();
                panic!("the client ended without {text:?}: {status}: {stderr}");
            }
            is_there.then_some(())
        })
        .await;
    }

    /// Waits for its end, which must come by itself.
    pub(crate) async fn ended(mut self) -> ClientEnd {
        let process = &mut self.process;
        let ended = || process.try_wait().expect("it is our child");
        let status = eventually("the end of a client", ended).await;
        let (stdout, stderr) = (&self.stdout, &self.stderr);
        let are_over = || (stdout.is_over() && stderr.is_over()).then_some(());
        eventually("the end of the output of a client", are_over).await;
        ClientEnd { code: status.code(), stdout: stdout.so_far(), stderr: stderr.so_far() }
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A pipe that is read by a thread until its end.
struct Reading {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Reading {
    fn of(mut pipe: impl Read + Send + 'static) -> Reading {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 8 * 1024];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                kept.lock().expect("no panic while it was held").extend(&buffer[..count]);
            }
        });
        Reading { bytes, thread }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().expect("no panic while it was held").clone()
    }

    fn is_over(&self) -> bool {
        self.thread.is_finished()
    }
}
