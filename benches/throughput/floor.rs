//! The limits that the service is held against, taken with as little around them as possible.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use crate::{figures::Calls, service::children_cpu_ms};

const HELPER: &str = "JOBWARDEN_BENCH_SPAWNS";
const SYNCS: usize = 200;
const SLOT_BYTES: usize = 512;

/// What bare processes cost.
pub(crate) struct Bare {
    pub(crate) per_second: f64,
    pub(crate) cpu_ms: f64,
}

/// Whether this process is the small one that only starts others.
pub(crate) fn is_helper() -> bool {
    std::env::var_os(HELPER).is_some()
}

/// Starts and waits for as many processes as asked for, in two threads; prints rate and cost.
pub(crate) fn run_helper() {
    let count: usize = std::env::var(HELPER).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let begin = Instant::now();
    let threads = [0, 1].map(|_| {
        thread::spawn(move || {
            for _ in 0..count / 2 {
                // Without more than this the standard library uses posix_spawn.
                let _ = Command::new("/bin/true").env_clear().stdin(Stdio::null()).status();
            }
        })
    });
    for thread in threads {
        let _ = thread.join();
    }
    let per_second = count as f64 / begin.elapsed().as_secs_f64();
    println!("{per_second} {}", children_cpu_ms(std::process::id()) / count as f64);
}

/// Starts `count` times /bin/true from a small process and waits for it.
pub(crate) fn spawn_and_wait(count: usize) -> Bare {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program).env(HELPER, count.to_string()).output();
    let output = output.expect("this program can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    let mut next = || numbers.next().unwrap_or(f64::NAN);
    Bare { per_second: next(), cpu_ms: next() }
}

/// The median of writing 512 bytes in place and syncing them.
pub(crate) fn sync_ms(folder: &Path) -> f64 {
    let path = folder.join("sync.probe");
    let file = File::create(&path).expect("the folder can be written");
    file.write_all_at(&[b' '; 8 * SLOT_BYTES], 0)
        .and_then(|()| file.sync_all())
        .expect("it has room");
    let each = (0..SYNCS).map(|number| {
        let begin = Instant::now();
        let place = (number % 8 * SLOT_BYTES) as u64;
        file.write_all_at(&[b'x'; SLOT_BYTES], place)
            .and_then(|()| file.sync_data())
            .expect("it works");
        begin.elapsed()
    });
    let each: Vec<_> = each.collect();
    let whole = each.iter().sum();
    let _ = std::fs::remove_file(path);
    Calls::of(each, whole).p50_ms
}
