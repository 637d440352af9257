//! The calls, each in one line of a test.

use jobwarden::api::{
    CancelRequest, DeleteRequest, EndCause, ExecRequest, Job, JobSpec, JobState, KillRequest,
    KillResponse, StatusRequest, TailLogRequest, WaitRequest, WaitUntil, exit_status::Outcome,
};
use tonic::{Response, Status};

use super::{Daemon, Output, collect, seconds, within};

/// What is asked of a job most often.
pub(crate) trait JobFacts {
    fn exit_code(&self) -> Option<i32>;
    fn signal(&self) -> Option<i32>;
    /// State and cause, to be compared at once.
    fn how(&self) -> (JobState, EndCause);
}

impl JobFacts for Job {
    fn exit_code(&self) -> Option<i32> {
        match self.exit_status.as_ref()?.outcome? {
            Outcome::ExitCode(code) => Some(code),
            Outcome::Signal(_) => None,
        }
    }

    fn signal(&self) -> Option<i32> {
        match self.exit_status.as_ref()?.outcome? {
            Outcome::Signal(signal) => Some(signal),
            Outcome::ExitCode(_) => None,
        }
    }

    fn how(&self) -> (JobState, EndCause) {
        (self.state(), self.cause())
    }
}

impl Daemon {
    /// Submits a job, which must be accepted; its id.
    pub(crate) async fn exec(&self, spec: JobSpec) -> String {
        let request = ExecRequest { spec: Some(spec), ..ExecRequest::default() };
        let accepted = within("Exec", self.api().exec(request)).await.expect("it is accepted");
        accepted.into_inner().job.expect("a reply has the job").job_id
    }

    /// Submits a job that may be refused.
    pub(crate) async fn try_exec(&self, spec: JobSpec) -> Result<Response<Job>, Status> {
        let request = ExecRequest { spec: Some(spec), ..ExecRequest::default() };
        let accepted = within("Exec", self.api().exec(request)).await?;
        Ok(accepted.map(|accepted| accepted.job.expect("a reply has the job")))
    }

    /// Runs a job to its end.
    pub(crate) async fn run(&self, spec: JobSpec) -> Job {
        let id = self.exec(spec).await;
        self.wait(&id).await
    }

    /// The job once it has ended.
    pub(crate) async fn wait(&self, id: &str) -> Job {
        self.wait_until(id, WaitUntil::Terminal).await
    }

    /// The job once it has started.
    pub(crate) async fn started(&self, id: &str) -> Job {
        self.wait_until(id, WaitUntil::Started).await
    }

    async fn wait_until(&self, id: &str, until: WaitUntil) -> Job {
        let request = WaitRequest { job_id: id.to_owned(), timeout: None, until: until.into() };
        let reply = within("Wait", self.api().wait(request)).await.expect("the job exists");
        let reply = reply.into_inner();
        assert!(reply.ended, "{:?}", reply.job);
        reply.job.expect("a reply has the job")
    }

    pub(crate) async fn status(&self, id: &str) -> Job {
        self.try_status(id).await.expect("the job exists").into_inner()
    }

    pub(crate) async fn try_status(&self, id: &str) -> Result<Response<Job>, Status> {
        let request = StatusRequest { job_id: id.to_owned() };
        let reply = within("Status", self.api().status(request)).await?;
        Ok(reply.map(|reply| reply.job.expect("a reply has the job")))
    }

    pub(crate) async fn kill_job(&self, id: &str, signal: i32) -> KillResponse {
        let request = KillRequest { job_id: id.to_owned(), signal, scope: 0 };
        let reply = within("Kill", self.api().kill(request)).await.expect("it may be killed");
        reply.into_inner()
    }

    pub(crate) async fn cancel(&self, id: &str) -> Job {
        self.try_cancel(id).await.expect("it may be cancelled").into_inner()
    }

    pub(crate) async fn try_cancel(&self, id: &str) -> Result<Response<Job>, Status> {
        let request = CancelRequest { job_id: id.to_owned(), ..CancelRequest::default() };
        let reply = within("Cancel", self.api().cancel(request)).await?;
        Ok(reply.map(|reply| reply.job.expect("a reply has the job")))
    }

    pub(crate) async fn delete(&self, id: &str, force: bool) -> Result<(), Status> {
        let request = DeleteRequest { job_id: id.to_owned(), force, allow_missing: false };
        within("Delete", self.api().delete(request)).await.map(drop)
    }

    /// Standard output so far, as text.
    pub(crate) async fn stdout(&self, id: &str) -> String {
        String::from_utf8(self.output(id).await.stdout()).expect("it is text")
    }

    /// Both streams so far.
    pub(crate) async fn output(&self, id: &str) -> Output {
        let request = TailLogRequest { job_id: id.to_owned(), ..TailLogRequest::default() };
        self.tail(request).await
    }

    /// A `TailLog` stream to its end.
    pub(crate) async fn tail(&self, request: TailLogRequest) -> Output {
        let opened = within("TailLog", self.api().tail_log(request)).await;
        collect(opened.expect("it may be read").into_inner()).await
    }

    /// Follows a job until its standard output holds `text`; then lets go of the stream. The
    /// service knows by then that the job has started.
    pub(crate) async fn printed(&self, id: &str, text: &str) {
        // Output may be seen before the start is.
        self.started(id).await;
        let job_id = id.to_owned();
        let heartbeat_interval = seconds(60);
        let request = TailLogRequest {
            job_id,
            follow: true,
            heartbeat_interval,
            ..TailLogRequest::default()
        };
        let reading = async {
            let mut stream = self.api().tail_log(request).await?.into_inner();
            let mut output = Output::default();
            while let Some(message) = stream.message().await? {
                output.take(message);
                if String::from_utf8_lossy(&output.stdout()).contains(text) {
                    return Ok::<_, Status>(());
                }
            }
            panic!("the job ended without {text:?}: {output:?}")
        };
        within("output of a job", reading).await.expect("it may be read");
    }
}
