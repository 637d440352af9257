//! The snapshot at the beginning of a watch: every job as it is, newest first.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{
    Watching, shape,
    token::{Position, Within},
};
use crate::{
    api::{self, watch_events_response::Kind},
    catalog::{Catalog, weight},
    job::{Job, JobId, Time},
    service::streams::Stop,
    store::{EventKind, JobEvent},
    sys::clock,
};

/// Jobs that are read together, and their bytes in memory, roughly; one job may be larger.
const PAGE: usize = 256;
const PAGE_BYTES_MAX: usize = 4 << 20;
/// How long the end of a snapshot waits for what it showed to be told, so that whoever resumes
/// behind it does not hear of it again; and how often it looks.
const TOLD_WAIT: Duration = Duration::from_secs(1);
const TOLD_PAUSE: Duration = Duration::from_millis(1);
/// Jobs that ended longer than this before the snapshot do not change while it is made.
const SETTLED: Duration = Duration::from_secs(5);

/// The revisions that a snapshot showed of jobs that may have changed while it was made: what
/// events tell of them again is no news. At most one entry for each job that was active then; once
/// the events reach the snapshot's end, only those that were shown before they were told.
#[derive(Debug, Default)]
pub(super) struct Shown {
    revisions: HashMap<JobId, u64>,
    /// What was not told yet when the snapshot ended.
    untold: HashMap<JobId, u64>,
    until: u64,
}

impl Shown {
    /// Whether the snapshot has shown a revision of a job of which an event tells.
    pub(super) fn covers(&mut self, event: &JobEvent) -> bool {
        if event.sequence > self.until {
            self.revisions = HashMap::new();
        }
        let shown = self.revisions.get(&event.id).max(self.untold.get(&event.id));
        let is_covered = shown.is_some_and(|shown| *shown >= event.revision);
        if !is_covered || event.kind == EventKind::Ended {
            self.untold.remove(&event.id);
        }
        is_covered
    }

    /// Ends the snapshot. A job is shown a moment before it is told, so what has not been told has
    /// to be looked for before the head is read.
    fn end(&mut self, catalog: &Catalog) {
        let untold = self.revisions.iter().filter(|(id, shown)| !catalog.is_told(**id, **shown));
        self.untold = untold.map(|(id, shown)| (*id, *shown)).collect();
        self.until = catalog.told_head();
    }

    /// Whether something was shown that is not told.
    fn is_ahead(&self, catalog: &Catalog) -> bool {
        self.revisions.iter().any(|(id, shown)| !catalog.is_told(*id, *shown))
    }

    fn note(&mut self, job: &Job, begun: Time) {
        let is_settled = job.state.end().is_some_and(|end| end.time.after(SETTLED) < begun);
        if !is_settled {
            self.revisions.insert(job.id(), job.revision);
        }
    }
}

impl Watching {
    /// Sends the snapshot from the position on, then the bookmark that ends it.
    pub(super) async fn snapshot(&mut self, mut before: Option<JobId>) -> Result<(), Stop> {
        let begun = Time::from(clock::now());
        while self.is_wanted(api::EventType::Snapshot) {
            let filter = self.filter.clone();
            let page = self.api.blocking("reading a snapshot", move |operations| {
                let catalog = operations.catalog();
                let page = catalog.page(&filter, before, PAGE)?;
                let (mut jobs, mut last, mut bytes) = (Vec::new(), None, 0);
                for id in &page.ids {
                    if bytes >= PAGE_BYTES_MAX {
                        return Ok((jobs, last, true));
                    }
                    last = Some(*id);
                    if let Ok(job) = catalog.get(*id)
                        && filter.matches(&job)
                    {
                        bytes += weight(&job);
                        jobs.push(job);
                    }
                }
                Ok((jobs, last, page.has_more))
            });
            let (jobs, last, has_more) = page.await?;
            for job in jobs {
                self.shown.note(&job, begun);
                self.position.within = Within::Snapshot(Some(job.id()));
                let event = shape::snapshot(&self.api, &job);
                self.send(Kind::Event(event)).await?;
            }
            if !has_more {
                break;
            }
            before = last;
        }
        let wait_until = Instant::now() + TOLD_WAIT;
        while self.shown.is_ahead(self.api.catalog()) && Instant::now() < wait_until {
            tokio::time::sleep(TOLD_PAUSE).await;
        }
        self.shown.end(self.api.catalog());
        self.position.within = Within::Nothing;
        self.skip_shown().await?;
        self.send(Kind::Bookmark(api::Bookmark { snapshot_end: true })).await
    }

    /// Moves the position past the events that say nothing new behind the snapshot, up to the
    /// first that does.
    async fn skip_shown(&mut self) -> Result<(), Stop> {
        while self.position.sequence < self.shown.until {
            // History that is gone by now is told of when it is asked for.
            let Ok(events) = self.events().await? else { return Ok(()) };
            for event in events {
                if self.is_for_caller(&event).await && self.is_news(&event) {
                    return Ok(());
                }
                self.position = Position::after(event.sequence);
            }
        }
        Ok(())
    }
}
