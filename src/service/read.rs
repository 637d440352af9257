//! Status, List and `GetServerInfo`: jobs shown.

use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use prost::Message as _;
use tonic::Request;

use super::{
    JobApi,
    caller::Caller,
    convert, is_unknown_id,
    jobs::{Awaited, sent_bytes},
    status::{CANDIDATES_MAX, Refusal},
};
use crate::{
    api,
    job::{JobFilter, JobId, Violation},
    operations::OperationError,
    store::StoreError,
};

const PAGE_SIZE_DEFAULT: usize = 50;
const PAGE_SIZE_MAX: usize = 1000;
/// The most bytes of the jobs of a page as they are sent, if it has more than one. With the largest
/// job and the rest of the answer a page stays below the 4 MiB that most clients take.
const PAGE_BYTES_MAX: usize = 3 << 20;

impl JobApi {
    pub(super) async fn status(
        &self,
        caller: Caller,
        request: Request<api::StatusRequest>,
    ) -> Result<api::StatusResponse, Refusal> {
        let id = self.resolve(&caller, &request.get_ref().job_id).await?;
        let job = self.seen_job(&caller, id).await?;
        Ok(api::StatusResponse { job: Some(self.shown(&job)) })
    }

    /// The job that a whole id or a prefix means, among those that exist for the caller. A whole id
    /// is taken as it is.
    pub(super) async fn resolve(&self, caller: &Caller, text: &str) -> Result<JobId, Refusal> {
        let prefix = match convert::job_id_prefix("job_id", text) {
            Ok(prefix) => prefix,
            Err(_) if is_unknown_id(text) => {
                return Err(Refusal::NotFound { id: text.to_owned() });
            }
            Err(malformed) => return Err(malformed.into()),
        };
        if let Some(id) = prefix.exact() {
            return Ok(id);
        }
        let owner = (!caller.sees_all()).then(|| caller.principal().to_owned());
        let candidates = self.blocking("looking for a job", move |operations| {
            let owner = owner.as_deref();
            Ok(operations.catalog().ids_with_prefix(prefix, owner, CANDIDATES_MAX + 1)?)
        });
        match candidates.await?.as_slice() {
            [] => Err(Refusal::NotFound { id: text.to_owned() }),
            [id] => Ok(*id),
            candidates => {
                let candidates = candidates.to_vec();
                Err(Refusal::Ambiguous { prefix: text.to_owned(), candidates })
            }
        }
    }

    pub(super) async fn list(
        &self,
        caller: Caller,
        request: Request<api::ListRequest>,
    ) -> Result<api::ListResponse, Refusal> {
        let api::ListRequest { page_size, page_token, filter } = request.into_inner();
        let filter = filter.unwrap_or_default();
        let mark = filter_mark(&filter);
        let filter = caller.narrow(convert::filter(filter)?);
        let page_size = match usize::try_from(page_size) {
            Ok(0) => PAGE_SIZE_DEFAULT,
            Ok(size) if size <= PAGE_SIZE_MAX => size,
            Ok(_) | Err(_) => {
                let rule = format!("must lie in 0 to {PAGE_SIZE_MAX}");
                return Err(Violation::new("page_size", rule).into());
            }
        };
        let before = match page_token.as_str() {
            "" => None,
            token => Some(parse_page_token(token, mark)?),
        };
        let page = self.reading("listing jobs", move |api, awaited| {
            Page::read(api, awaited, &caller, &filter, (before, page_size))
        });
        let Page { jobs, last, has_more, unreadable_count } = page.await?;
        let next_page_token = match last {
            Some(last) if has_more => page_token_after(last, mark),
            Some(_) | None => String::new(),
        };
        Ok(api::ListResponse { jobs, next_page_token, unreadable_count })
    }

    #[expect(clippy::unused_async, reason = "all calls have one shape")]
    pub(super) async fn get_server_info(
        &self,
        caller: Caller,
        _request: Request<api::GetServerInfoRequest>,
    ) -> Result<api::GetServerInfoResponse, Refusal> {
        let owner = (!caller.sees_all()).then(|| caller.principal());
        let counts = self.catalog().counts(owner);
        let limits = &self.0.limits;
        let defaults = self.0.operations.defaults();
        let states = counts.by_state.into_iter();
        Ok(api::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time: Some(convert::timestamp(self.0.start_time)),
            limits: Some(api::ServerLimits {
                max_running_jobs: limits.running_max,
                max_queued_jobs: limits.queued_max,
                max_stdin_bytes: defaults.stdin_bytes_max,
                max_wait: Some(convert::duration(limits.wait_max)),
                max_streams: limits.streams_max,
                max_request_bytes: limits.request_bytes_max,
                default_timeout: defaults.timeout.map(convert::duration),
            }),
            counts: states
                .map(|(kind, count)| api::StateCount {
                    state: convert::job_state(kind).into(),
                    count,
                })
                .collect(),
            features: Vec::new(),
            counts_complete: counts.is_complete,
            durability: match defaults.durability {
                crate::job::Durability::Power => "power".to_owned(),
                crate::job::Durability::Process => "process".to_owned(),
            },
            store_id: self.catalog().store().id().to_owned(),
        })
    }
}

/// The jobs of a page, and where the next one goes on.
#[derive(Debug, Default)]
struct Page {
    jobs: Vec<api::Job>,
    last: Option<JobId>,
    has_more: bool,
    unreadable_count: u64,
}

impl Page {
    /// Reads a page below a job, of so many jobs at most. Stops early if nobody waits for it.
    fn read(
        api: &JobApi,
        awaited: &Awaited,
        caller: &Caller,
        filter: &JobFilter,
        (before, count): (Option<JobId>, usize),
    ) -> Result<Self, OperationError> {
        let catalog = api.catalog();
        let candidates = catalog.page(filter, before, count)?;
        let mut page = Self { has_more: candidates.has_more, ..Self::default() };
        let mut bytes = 0;
        for id in candidates.ids {
            if !awaited.is_true() {
                break;
            }
            match catalog.get(id) {
                Ok(job) if caller.sees(&job) => {
                    let job = api.shown(&job);
                    bytes += sent_bytes(&job);
                    if bytes > PAGE_BYTES_MAX && !page.jobs.is_empty() {
                        page.has_more = true;
                        break;
                    }
                    page.jobs.push(job);
                }
                // One that was deleted since is not there any more.
                Ok(_) | Err(StoreError::Missing(_)) => {}
                Err(error) => catalog.note_unreadable(id, &error),
            }
            page.last = Some(id);
        }
        // Whose they are nobody knows.
        page.unreadable_count = if caller.sees_all() { catalog.unreadable_count() } else { 0 };
        Ok(page)
    }
}

/// Tells filters apart: a token is good for the filter that it came with.
pub(super) fn filter_mark(filter: &api::JobFilter) -> u32 {
    // Maps have no order on the wire; in a sorted form equal filters are equal bytes.
    let mut labels: Vec<_> = filter.labels.iter().collect();
    labels.sort_unstable();
    let rest = api::JobFilter { labels: HashMap::new(), ..filter.clone() };
    crc32fast::hash(format!("{labels:?}{:?}", rest.encode_to_vec()).as_bytes())
}

pub(super) fn page_token_after(last: JobId, mark: u32) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("1 {last} {mark:08x}"))
}

pub(super) fn parse_page_token(token: &str, mark: u32) -> Result<JobId, Refusal> {
    let parsed = || {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let mut words = text.split(' ');
        let (version, id, found) = (words.next()?, words.next()?, words.next()?);
        (version == "1" && words.next().is_none()).then_some(())?;
        Some((id.parse::<JobId>().ok()?, u32::from_str_radix(found, 16).ok()?))
    };
    match parsed() {
        Some((id, found)) if found == mark => Ok(id),
        Some(_) => {
            let rule = "belongs to another filter; repeat the filter of the page before";
            Err(Violation::new("page_token", rule).into())
        }
        None => {
            let rule = "is no token of this service; use next_page_token of the page before";
            Err(Violation::new("page_token", rule).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_is_good_for_its_filter_only() {
        let blue = [("team".to_owned(), "blue".to_owned())].into();
        let blue = filter_mark(&api::JobFilter { labels: blue, ..Default::default() });
        let none = filter_mark(&api::JobFilter::default());
        let token = page_token_after(JobId::MAX, blue);
        assert_eq!(parse_page_token(&token, blue), Ok(JobId::MAX));
        assert!(parse_page_token(&token, none).is_err());
        assert!(parse_page_token("%%%", none).is_err());
        assert!(parse_page_token("", none).is_err());
    }
}
