//! Runs a target on an input: a panic becomes a failure with its input, and a target that does
//! not come back ends the test with it.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind},
    sync::{Arc, Mutex, Once, PoisonError, Weak},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jobwarden::fuzzing::Target;

/// An input that takes longer is a fault: the largest takes milliseconds.
const RUN_TIME_MAX: Duration = Duration::from_secs(20);
/// How often an input that fails is tried with less in it.
const SHORTENINGS_MAX: usize = 400;

#[derive(Default)]
struct Running {
    since: Option<Instant>,
    target: &'static str,
    input: Vec<u8>,
}

thread_local! {
    /// What the panic of a running target says; none while no target runs.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps what panics of targets say, instead of printing each that shortening makes.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if PANIC.with_borrow(Option::is_none) {
                usual(info);
            } else {
                PANIC.set(Some(info.to_string()));
            }
        }));
    });
}

/// Runs inputs while somebody looks at the time.
pub(crate) struct Watched(Arc<Mutex<Running>>);

impl Watched {
    pub(crate) fn new() -> Self {
        let running = Arc::new(Mutex::new(Running::default()));
        let weak = Arc::downgrade(&running);
        std::thread::spawn(move || watch(&weak));
        Self(running)
    }

    /// The failure that an input makes, if it makes one, with its input in base 64.
    pub(crate) fn run(&self, name: &'static str, target: Target, input: Vec<u8>) -> Option<String> {
        self.panic_of(name, target, &input)?;
        let input = self.shortened(name, target, input);
        let told = self.panic_of(name, target, &input)?;
        Some(format!("{name}: {told}\n  input: {}", BASE64_STANDARD.encode(&input)))
    }

    fn panic_of(&self, name: &'static str, target: Target, input: &[u8]) -> Option<String> {
        let set = |running| *self.0.lock().unwrap_or_else(PoisonError::into_inner) = running;
        set(Running { since: Some(Instant::now()), target: name, input: input.to_vec() });
        keep_panics();
        PANIC.set(Some(String::new()));
        let is_panic = catch_unwind(AssertUnwindSafe(|| target(input))).is_err();
        set(Running::default());
        let told = PANIC.take();
        if is_panic { told } else { None }
    }

    /// The input without what is not needed to make the target panic.
    fn shortened(&self, name: &'static str, target: Target, mut input: Vec<u8>) -> Vec<u8> {
        let mut length = input.len() / 2;
        let mut tries = 0;
        while length > 0 && tries < SHORTENINGS_MAX {
            let mut from = 0;
            while from < input.len() && tries < SHORTENINGS_MAX {
                let end = (from + length).min(input.len());
                let shorter = [&input[..from], &input[end..]].concat();
                tries += 1;
                if self.panic_of(name, target, &shorter).is_some() {
                    input = shorter;
                } else {
                    from += length;
                }
            }
            length /= 2;
        }
        input
    }
}

/// Ends the process when an input takes too long.
fn watch(running: &Weak<Mutex<Running>>) {
    while let Some(running) = running.upgrade() {
        {
            let running = running.lock().unwrap_or_else(PoisonError::into_inner);
            if running.since.is_some_and(|since| since.elapsed() > RUN_TIME_MAX) {
                let input = BASE64_STANDARD.encode(&running.input);
                eprintln!("{}: does not come back\n  input: {input}", running.target);
                std::process::abort();
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_panic_is_told_with_the_part_of_the_input_that_makes_it() {
    let target: Target = |data| assert!(!data.contains(&b'!'), "an exclamation");
    let watched = Watched::new();
    assert_eq!(watched.run("none", target, b"quiet".to_vec()), None);
    let told = watched.run("loud", target, b"some words! and more".to_vec()).unwrap();
    assert!(told.starts_with("loud: ") && told.contains("an exclamation"), "{told}");
    assert!(told.ends_with("\n  input: IQ=="), "{told}");
}
