//! Gives every fuzz target its seeds and random changes of them, on stable Rust.
//!
//! `JOBWARDEN_FUZZ_SEED` and `JOBWARDEN_FUZZ_ROUNDS` choose other inputs and more of them,
//! `JOBWARDEN_FUZZ_TARGET` one target. What fails is told in base 64, as short as it could be made
//! in a moment; put it into `fuzz/corpus/<target>/` before the fault is mended. What is guided by
//! coverage is in `fuzz/`, for cargo-fuzz.

#![cfg(test)]

#[path = "fuzz/corpus.rs"]
mod corpus;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/run.rs"]
mod run;

use std::{env, str::FromStr, time::Instant};

use jobwarden::fuzzing::TARGETS;

use mutate::{Mutator, Random};

/// Inputs for each target if nobody says how many.
const ROUNDS: u64 = 400;
const SEED: u64 = 1;

fn setting<T: FromStr>(name: &str, default: T) -> T {
    let Ok(text) = env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
}

#[test]
fn no_input_makes_a_parser_panic_or_break_its_promise() {
    let seed = setting("JOBWARDEN_FUZZ_SEED", SEED);
    let rounds = setting("JOBWARDEN_FUZZ_ROUNDS", ROUNDS);
    let chosen = env::var("JOBWARDEN_FUZZ_TARGET").ok();
    let mut failures = Vec::new();
    let watched = run::Watched::new();
    for (name, target) in TARGETS {
        if chosen.as_ref().is_some_and(|chosen| chosen != name) {
            continue;
        }
        let corpus = corpus::inputs(name);
        let mutator = Mutator::new(&corpus);
        // Each target has numbers of its own, so that one more leaves the others as they are.
        let mut random = Random::new(seed, name);
        let changed = (0..rounds).map(|_| mutator.input(&mut random));
        let begin = Instant::now();
        let mut inputs = corpus.iter().cloned().chain(changed);
        if let Some(failure) = inputs.find_map(|input| watched.run(name, *target, input)) {
            failures.push(format!("{failure}\n  JOBWARDEN_FUZZ_SEED={seed}"));
        }
        println!("{name}: {} ms", begin.elapsed().as_millis());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_target_has_seeds_and_a_program_for_cargo_fuzz() {
    let manifest = corpus::manifest();
    for (name, _) in TARGETS {
        assert!(!corpus::inputs(name).is_empty(), "fuzz/corpus/{name} is empty");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml: no {name}");
        let program = corpus::program(name);
        assert!(program.contains(&format!("jobwarden::fuzzing::{name}(")), "{name}: {program}");
    }
    for name in corpus::folders() {
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "fuzz/corpus/{name}: no target");
    }
}
