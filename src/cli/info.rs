//! `jobwarden info`: what the service is, its limits and how many jobs it has.

use std::time::{Duration, SystemTime};

use clap::Args;

use crate::api::{GetServerInfoRequest, GetServerInfoResponse};

use super::{
    Context, Outcome,
    failure::DONE,
    output::{Cell, Colour},
    show,
};

/// The arguments of `info`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  jobwarden info --json | jq .limits")]
pub(super) struct InfoCommand {}

pub(super) async fn run(context: &Context, _command: InfoCommand) -> Outcome {
    let client = context.connect().await?;
    let info = client.get_server_info(GetServerInfoRequest {}).await?;
    if context.printer.json {
        context.printer.object("GetServerInfoResponse", &info)?;
    } else {
        context.printer.table(&rows(&client.endpoint().to_string(), &info))?;
    }
    Ok(DONE)
}

fn rows(endpoint: &str, info: &GetServerInfoResponse) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String, colour: Colour| {
        rows.push(vec![Cell::plain(name), Cell::new(value, colour)]);
    };
    row("service", endpoint.to_owned(), Colour::Bold);
    row("version", info.version.clone(), Colour::Plain);
    if let Some(start) = show::system_time(info.start_time.as_ref()) {
        let up = SystemTime::now().duration_since(start).unwrap_or_default();
        row("up for", show::short_span(up), Colour::Plain);
    }
    row("durability", info.durability.clone(), Colour::Plain);
    for count in &info.counts {
        let suffix = if info.counts_complete { "" } else { " or more" };
        let name = show::state_name(count.state());
        row(name, format!("{}{suffix}", count.count), show::state_colour(count.state()));
    }
    if let Some(limits) = &info.limits {
        let span = |span: &Option<prost_types::Duration>| {
            let span = span.and_then(|span| Duration::try_from(span).ok());
            span.map_or("none".to_owned(), |span| humantime::format_duration(span).to_string())
        };
        for (name, value) in [
            ("running at most", limits.max_running_jobs.to_string()),
            ("queued at most", limits.max_queued_jobs.to_string()),
            ("streams at most", limits.max_streams.to_string()),
            ("stdin bytes at most", limits.max_stdin_bytes.to_string()),
            ("request bytes at most", limits.max_request_bytes.to_string()),
            ("wait at most", span(&limits.max_wait)),
            ("default timeout", span(&limits.default_timeout)),
        ] {
            row(name, value, Colour::Plain);
        }
    }
    row("features", info.features.join(" "), Colour::Plain);
    rows
}
