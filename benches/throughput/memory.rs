//! What running jobs cost in memory beyond the jobs themselves.

use std::{path::Path, time::Duration};

use jobwarden::api;

use crate::{
    figures::Table,
    service::{Service, children, pss_kib},
};

/// Longer than a supervisor waits before it gives back what memory it can.
const SETTLE: Duration = Duration::from_secs(11);

/// Runs so many sleeping jobs and adds up what supervisors and service take.
pub(crate) async fn measure(folder: &Path, jobs: usize, table: &mut Table) {
    let service = Service::start(folder, &["--durability", "process"]).await;
    let before = pss_kib(service.pid()).0;
    let mut client = service.client();
    let mut ids = Vec::with_capacity(jobs);
    for _ in 0..jobs {
        let argv = vec!["sleep".to_owned(), "600".to_owned()];
        let spec = Some(api::JobSpec { argv, ..api::JobSpec::default() });
        let request = api::ExecRequest { spec, ..api::ExecRequest::default() };
        let reply = client.exec(request).await.expect("a job is accepted").into_inner();
        ids.extend(reply.job.map(|job| job.job_id));
    }
    tokio::time::sleep(SETTLE).await;
    let supervisors = children(service.launcher());
    let sizes: Vec<(f64, f64)> = supervisors.iter().map(|pid| pss_kib(*pid)).collect();
    let count = sizes.len() as f64;
    let service_growth = pss_kib(service.pid()).0 - before;
    let supervisor = sizes.iter().map(|(pss, _)| pss).sum::<f64>() / count;
    table.add("PSS per idle running job, supervisor, KiB", supervisor);
    let private = sizes.iter().map(|(_, private)| private).sum::<f64>() / count;
    table.add("  of it private, KiB", private);
    table.add("PSS per idle running job, service, KiB", service_growth / count);
    for job_id in ids {
        let request = api::DeleteRequest { job_id, force: true, allow_missing: false };
        client.delete(request).await.expect("the job can be removed");
    }
    service.stop().await;
}
