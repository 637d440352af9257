//! Checks the life of jobs against a small model of it, over random steps and killed services.
//!
//! Store, catalog, queue, watcher, recovery and operations are the real ones, on a folder of their
//! own. Processes are not: what they would write is written by the check. Time does not pass but
//! for the queue. The runs are the same each time; `PROPTEST_CASES` asks for that many others.

mod act;
mod compare;
mod facts;
mod reference;
mod step;
mod take;
mod world;

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};

use self::{
    compare::Before,
    reference::Model,
    step::{Draw, Step, draws},
    world::World,
};

/// Runs, unless the environment says otherwise.
const CASES: u32 = 64;
/// What their steps are drawn from.
const SEED: u64 = 4;
/// The most steps of a run.
const STEPS_MAX: usize = 120;
const QUEUED_MAX: usize = 6;

fn config() -> Config {
    let standard = Config { max_shrink_iters: 300, ..Config::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => standard,
        None => Config { cases: CASES, rng_seed: RngSeed::Fixed(SEED), ..standard },
    }
}

/// Takes each step in the model and in the world, and compares after each.
fn run(draws: Vec<Draw>, running_max: usize) -> Result<(), String> {
    let mut model = Model::new(running_max, QUEUED_MAX);
    let mut world = World::new(&model)?;
    let mut before = Before::default();
    let mut story: Vec<Step> = Vec::new();
    let told = |story: &[Step], fault| {
        let steps: Vec<String> = story.iter().map(|step| format!("  {step:?}")).collect();
        format!("{fault}\nafter these steps:\n{}", steps.join("\n"))
    };
    for draw in draws {
        let Some(step) = draw.fit(&model) else { continue };
        story.push(step);
        let expected = model.take(step);
        let answer = world.take(step, &model).map_err(|fault| told(&story, fault))?;
        if answer != expected {
            return Err(told(&story, format!("the answer is {answer:?}, not {expected:?}")));
        }
        before.compare(&world, &model).map_err(|fault| told(&story, fault))?;
    }
    before.compare_all(&world, &model).map_err(|fault| told(&story, fault))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_life_goes_as_the_model_says(draws in draws(STEPS_MAX), running_max in 1..4_usize) {
        run(draws, running_max).map_err(TestCaseError::fail)?;
    }
}
