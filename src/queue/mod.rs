//! The queue at work: one thread that starts what the schedule picks and ends what has waited
//! for too long. It sleeps until something changes.

mod schedule;

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use schedule::{Full, QueueLimits, Queued, Schedule};

use crate::{
    catalog::{Catalog, weight},
    job::{
        End, EndCause, EndState, Event, Job, JobId, LaunchError, OutputSize, State, StopRequest,
        Time,
    },
    launch::Launch,
    store::{JobRecord, StoreError},
    sys::{self, clock, faults},
};

/// How long a start that was refused (no process, no descriptor, no room) is put off.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);
/// How long the end of a job that has waited for too long is put off while another has its lock.
const LOCKED_PAUSE: Duration = Duration::from_millis(500);
/// The longest sleep: the boot clock goes on while the host is suspended, the condition does not.
const SLEEP_MAX: Duration = Duration::from_mins(1);

/// The queue.
#[derive(Debug)]
pub struct Queue {
    catalog: Arc<Catalog>,
    launch: Arc<Launch>,
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug)]
struct QueueState {
    schedule: Schedule,
    /// Starts are put off until then, on the boot clock.
    paused_until: Option<Duration>,
    is_stopping: bool,
}

/// What the queue does next.
#[derive(Clone, Debug)]
enum Task {
    /// End a job that has waited for too long.
    Expire(Queued),
    /// Start a job, which has its place already.
    Start(Queued),
}

impl QueueState {
    fn next_task(&mut self, now: Duration) -> Option<Task> {
        if let Some(job) = self.schedule.expire_next(now) {
            return Some(Task::Expire(job));
        }
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.schedule.start_next().map(Task::Start)
    }
}

impl Queue {
    /// A queue that starts jobs by `launch`. `run` does the work.
    pub fn new(catalog: Arc<Catalog>, launch: Arc<Launch>, limits: QueueLimits) -> Self {
        let schedule = Schedule::new(limits);
        let state = QueueState { schedule, paused_until: None, is_stopping: false };
        Self { catalog, launch, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The bounds.
    pub fn limits(&self) -> QueueLimits {
        self.lock().schedule.limits()
    }

    /// Sets a place aside for a job of this owner that is about to be accepted.
    pub fn reserve(&self, owner: &str) -> Result<(), Full> {
        self.lock().schedule.reserve(owner)
    }

    /// Gives a reserved place back: the job was not accepted.
    pub fn release(&self, owner: &str) {
        self.lock().schedule.release(owner);
    }

    /// Adds an accepted job in the place that was reserved for it.
    pub fn add_reserved(&self, job: &Job) {
        let mut state = self.lock();
        state.schedule.release(&job.accepted.owner);
        state.schedule.add(queued(job));
        self.changed.notify_one();
    }

    /// Adds a job that was accepted by an earlier service, or whose start came to nothing.
    pub fn add(&self, job: &Job) {
        self.lock().schedule.add(queued(job));
        self.changed.notify_one();
    }

    /// Counts a job as running that an earlier service started.
    pub fn add_running(&self, job: &Job) {
        self.lock().schedule.add_running(job.id(), &Arc::from(job.accepted.owner.as_str()));
    }

    /// Takes out a job that has ended or gone; its place is free for the next.
    pub fn remove(&self, id: JobId) {
        self.lock().schedule.remove(id);
        self.changed.notify_one();
    }

    /// Puts a job back whose start was refused, and waits a little with the next. One whose folder
    /// holds something else in the place of its FIFOs is ended: that does not pass.
    pub fn refused(&self, job: &Job, errno: i32) {
        if sys::is_lasting(errno) {
            let errno_name = sys::errno_name(errno);
            let message =
                format!("The job could not be started: its FIFOs cannot be made: {errno_name}.");
            let stage = "output".to_owned();
            let error = LaunchError { stage, errno, errno_name };
            let end = End {
                launch_error: Some(error),
                ..unstarted(EndState::Failed, EndCause::LaunchFailed, message)
            };
            match end_queued(&self.catalog, job.id(), end) {
                Ok(true) => return self.remove(job.id()),
                Ok(false) => {}
                Err(error) => tracing::warn!(job = %job.id(), %error, "a job cannot be ended"),
            }
        }
        self.lock().paused_until = Some(clock::since_boot() + REFUSED_PAUSE);
        self.requeue(job);
    }

    /// Puts a job back whose start came to nothing.
    pub fn requeue(&self, job: &Job) {
        let mut state = self.lock();
        state.schedule.remove(job.id());
        state.schedule.add(queued(job));
        self.changed.notify_one();
    }

    /// Whether a job is counted as running or being started.
    pub fn is_running(&self, id: JobId) -> bool {
        self.lock().schedule.is_running(id)
    }

    /// The jobs that are counted as running or being started.
    pub fn running_ids(&self) -> Vec<JobId> {
        self.lock().schedule.running_ids()
    }

    /// How many jobs wait, and how many run or are being started.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.schedule.waiting_count(), state.schedule.running_count())
    }

    /// Starts nothing more and lets `run` return.
    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.changed.notify_all();
    }

    /// Starts jobs as places become free, until `stop`.
    pub fn run(&self) {
        let mut state = self.lock();
        while !state.is_stopping {
            let now = clock::since_boot();
            if let Some(task) = state.next_task(now) {
                drop(state);
                self.carry_out(task, now);
                state = self.lock();
                continue;
            }
            let pause = state.paused_until.filter(|until| now < *until);
            let next = [state.schedule.next_expiry(), pause].into_iter().flatten().min();
            let sleep = next.map_or(SLEEP_MAX, |at| at.saturating_sub(now)).min(SLEEP_MAX);
            state =
                self.changed.wait_timeout(state, sleep).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Does all that is due at `now`, on the boot clock, and nothing more.
    #[cfg(test)]
    pub(crate) fn work_until_idle(&self, now: Duration) {
        loop {
            let task = self.lock().next_task(now);
            let Some(task) = task else { return };
            self.carry_out(task, now);
        }
    }

    fn carry_out(&self, task: Task, now: Duration) {
        match task {
            Task::Expire(job) => self.expire(job, now),
            Task::Start(job) => self.start(job),
        }
    }

    fn start(&self, job: Queued) {
        faults::point("queue.launching");
        if let Err(error) = self.launch.launch(job.id) {
            tracing::warn!(job = %job.id, %error, "the launcher cannot be reached");
            let mut state = self.lock();
            state.paused_until = Some(clock::since_boot() + REFUSED_PAUSE);
            state.schedule.remove(job.id);
            state.schedule.add(job);
        }
    }

    fn expire(&self, job: Queued, now: Duration) {
        let message = "Waited in the queue for longer than its limit; it never started.";
        let end = unstarted(EndState::TimedOut, EndCause::QueueTimedOut, message.to_owned());
        match end_queued(&self.catalog, job.id, end) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(job = %job.id, %error, "a job that waited for too long cannot be ended");
            }
        }
        // Whoever has its lock may give it back without having started it.
        if self.catalog.look(job.id).is_ok_and(|known| known.state == State::Queued) {
            self.lock().schedule.put_off(job, now + LOCKED_PAUSE);
        }
    }

    /// Ends a job that has not been started because it was cancelled. False if it has been.
    pub fn cancel(&self, id: JobId, request: &StopRequest) -> Result<bool, StoreError> {
        let message = match request.reason.as_str() {
            "" => "Cancelled before it started.".to_owned(),
            reason => format!("Cancelled before it started: {reason}."),
        };
        let end = unstarted(EndState::Cancelled, EndCause::Cancelled, message);
        let is_ended = end_queued(&self.catalog, id, end)?;
        if is_ended {
            self.remove(id);
        }
        Ok(is_ended)
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn queued(job: &Job) -> Queued {
    let spec = &job.accepted.spec;
    let waited = Time::from(clock::now()).since(job.accepted.create_time);
    let expires =
        spec.queue_timeout.map(|limit| clock::since_boot() + limit.saturating_sub(waited));
    let owner = Arc::from(job.accepted.owner.as_str());
    Queued { id: job.id(), owner, priority: spec.priority, expires, bytes: weight(job) }
}

fn unstarted(state: EndState, cause: EndCause, message: String) -> End {
    End {
        state,
        cause,
        exit: None,
        message,
        launch_error: None,
        time: Time::from(clock::now()),
        usage: None,
        stdout: OutputSize::default(),
        stderr: OutputSize::default(),
    }
}

/// The compare-and-set between starting a job and ending it unstarted: whoever has the lock
/// while it is queued decides. False if a supervisor was first, or it had ended.
fn end_queued(catalog: &Catalog, id: JobId, end: End) -> Result<bool, StoreError> {
    let dir = catalog.store().job_dir(id);
    let Some(mut record) = JobRecord::try_take(dir)? else { return Ok(false) };
    if *record.state() != State::Queued {
        return Ok(false);
    }
    // The end first: a job that is still queued needs its secrets.
    record.append(&Event::Ended(end))?;
    let _ = record.dir().remove_secrets();
    drop(record);
    catalog.look(id)?;
    Ok(true)
}
