//! Figures of the service beside limits that the same run measures itself.
//!
//! Rounds of floor and service follow one another, so that both see the same machine; what is
//! printed are medians with the least and the greatest. Nothing here asserts: figures are for
//! people. Every load is bounded in count, and only processes that were started here are ended.
//!
//! `cargo bench --bench throughput -- [--quick] [--rounds N] [--dir DIR] [NAME…]`

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench says by panicking what is in its way, prints figures, and rounds them"
)]

mod capture;
#[allow(dead_code, reason = "the bench of streams uses the rest")]
mod figures;
mod floor;
mod load;
mod memory;
mod options;
#[allow(dead_code, reason = "the bench of streams uses the rest")]
mod service;

use figures::Table;
use options::Options;
use service::Service;

#[tokio::main]
async fn main() {
    if floor::is_helper() {
        return floor::run_helper();
    }
    let options = Options::parse(std::env::args().skip(1));
    let mut table = Table::default();
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        if options.is_wanted("jobs") {
            for durability in ["power", "process"] {
                jobs(&options, durability, &mut table).await;
            }
        }
        if options.is_wanted("calls") {
            calls(&options, &mut table).await;
        }
        if options.is_wanted("memory") {
            memory::measure(&options.folder, if options.is_quick { 50 } else { 200 }, &mut table)
                .await;
        }
        if options.is_wanted("capture") {
            let mebibytes = if options.is_quick { 128 } else { 1024 };
            capture::measure(&options.folder, mebibytes, &mut table).await;
        }
        if options.is_wanted("follow") {
            capture::follow(&options.folder, &mut table).await;
        }
    }
    table.print();
}

/// Jobs from call to known end, beside bare processes.
async fn jobs(options: &Options, durability: &str, table: &mut Table) {
    let count = if options.is_quick { 400 } else { 2000 };
    let bare = floor::spawn_and_wait(count);
    table.add("K1 bare spawn and wait, 2 threads, jobs/s", bare.per_second);
    table.add("K1 processor ms per job", bare.cpu_ms);
    table.add("K2 write and fdatasync of 512 bytes, p50 ms", floor::sync_ms(&options.folder));

    let service = Service::start(&options.folder, &["--durability", durability]).await;
    let name = |text: &str| format!("{durability}: {text}");
    let before = service.cpu_ms();
    let many = load::exec_and_wait(&service, count, 16).await;
    let cpu = (service.cpu_ms() - before) / count as f64;
    table.add(&name("16 callers, true, jobs/s until known"), many.per_second);
    table.add(&name("  … as a part of K1"), many.per_second / bare.per_second);
    table.add(&name("  processor ms per job, all processes"), cpu);
    table.add(&name("  … as a multiple of K1's"), cpu / bare.cpu_ms);
    let one = load::exec_and_wait(&service, count / 5, 1).await;
    table.add(&name("1 caller, Exec to known end, p50 ms"), one.p50_ms);
    table.add(&name("1 caller, Exec to known end, p99 ms"), one.p99_ms);
    let accepted = load::exec_only(&service, count / 5).await;
    table.add(&name("1 caller, Exec acknowledged, p50 ms"), accepted.p50_ms);
    table.add(&name("1 caller, Exec acknowledged, p99 ms"), accepted.p99_ms);
    service.stop().await;
}

/// Status under load, and with many waits open.
async fn calls(options: &Options, table: &mut Table) {
    let count = if options.is_quick { 10_000 } else { 40_000 };
    let service = Service::start(&options.folder, &["--durability", "process"]).await;
    let status = load::status(&service, count, 16).await;
    table.add("Status, 16 callers, calls/s (target 10,000)", status.per_second);
    let waits = load::open_waits(&service, 2000).await;
    table.add("threads of the service with 2,000 waits open", service.threads() as f64);
    let status = load::status(&service, count / 4, 4).await;
    table.add("Status p50 ms with 2,000 waits open, 4 callers", status.p50_ms);
    table.add("Status p99 ms with 2,000 waits open (target 20)", status.p99_ms);
    waits.end().await;
    service.stop().await;
}
