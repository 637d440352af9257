//! Streams of the service: how late they are, how fast, and what they cost, beside targets.
//!
//! Every connection is a unix socket. Where a figure is held against a floor, floor and service
//! take turns in the same round. What is printed are medians over rounds, and whether they meet
//! their targets; nothing here asserts that they do. Every load is bounded in count and time.
//!
//! `cargo bench --bench streams -- [--quick] [--rounds N] [--dir DIR] [NAME…]`

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench says by panicking what is in its way, prints figures, and rounds them"
)]

mod bare;
mod bulk;
mod events;
#[path = "../throughput/figures.rs"]
#[allow(dead_code, reason = "the bench of throughput uses the rest")]
mod figures;
mod follow;
mod jobs;
mod machine;
#[path = "../throughput/options.rs"]
mod options;
#[path = "../throughput/service.rs"]
#[allow(dead_code, reason = "the bench of throughput uses the rest")]
mod service;
mod writer;

use std::time::Duration;

use figures::Table;
use options::Options;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if writer::is_asked_for(&arguments) {
        return writer::run(&arguments);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be started");
    if bare::is_asked_for(&arguments) {
        return runtime.block_on(bare::run(&arguments));
    }
    let options = Options::parse(arguments.into_iter());
    println!("{}\n", machine::line(&options.folder));
    let mut table = Table::default();
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        runtime.block_on(measure(&options, &mut table));
    }
    table.print();
}

async fn measure(options: &Options, table: &mut Table) {
    let (folder, is_quick) = (&options.folder, options.is_quick);
    if options.is_wanted("latency") {
        events::latency(folder, if is_quick { 3 } else { 10 }, table).await;
    }
    if options.is_wanted("line") {
        follow::first_byte(folder, if is_quick { 100 } else { 300 }, table).await;
    }
    if options.is_wanted("bulk") {
        bulk::measure(folder, if is_quick { 128 } else { 1024 }, table).await;
    }
    if options.is_wanted("followers") {
        let span = Duration::from_secs(if is_quick { 5 } else { 10 });
        follow::followers(folder, span, table).await;
    }
    if options.is_wanted("resume") {
        events::resume(folder, if is_quick { 3000 } else { 20_000 }, table).await;
    }
}
