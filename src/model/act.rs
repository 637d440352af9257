//! Each step as it is taken in the real world.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    job::{
        Actor, Claim, End, EndCause, EndState, Event, ExitStatus, JobId, KillRecord, LaunchError,
        OutputSize, ProcessIdentity, Started, State, StopCause, StopRequest, Time,
    },
    launch_message::Notice,
    operations::{OperationError, TimeoutWish},
    store::{JobRecord, KillRequest, KillScope},
    sys::clock,
};

use super::{
    reference::{Model, Number},
    step::{Answer, Ending, Mark, Step, Stop},
    world::{World, asked, draft, fault},
};

/// No process has this number: nothing here may reach a real one.
const NO_PID: i32 = i32::MAX;

fn now() -> Time {
    Time::from(clock::now())
}

fn process() -> ProcessIdentity {
    ProcessIdentity { pid: NO_PID, start_ticks: 1, boot_id: "none".to_owned() }
}

fn event(mark: Mark, bytes: u64) -> Event {
    let time = now();
    match mark {
        Mark::Claimed => {
            Event::Claimed(Claim { attempt: 1, supervisor: process(), time, announces: true })
        }
        Mark::Started => Event::Started(Started { process: process(), time, cgroup: None }),
        Mark::Stopping => Event::Stopping { cause: StopCause::Timeout, time },
        Mark::Exited(code) => Event::Exited { exit: ExitStatus::Code(code), time },
        Mark::Ended(ending) => Event::Ended(end(ending, bytes)),
    }
}

fn end(ending: Ending, size_bytes: u64) -> End {
    let (state, cause, exit) = match ending {
        Ending::Exit(0) => (EndState::Succeeded, EndCause::Exited, Some(0)),
        Ending::Exit(code) => (EndState::Failed, EndCause::Exited, Some(code)),
        Ending::NotLaunched => (EndState::Failed, EndCause::LaunchFailed, None),
        Ending::Cancelled => (EndState::Cancelled, EndCause::Cancelled, None),
        Ending::QueueTimedOut => (EndState::TimedOut, EndCause::QueueTimedOut, None),
        Ending::Lost => (EndState::Lost, EndCause::Lost, None),
    };
    let launch_error = (ending == Ending::NotLaunched).then(|| LaunchError {
        stage: "exec".to_owned(),
        errno: 2,
        errno_name: "ENOENT".to_owned(),
    });
    End {
        state,
        cause,
        exit: exit.map(ExitStatus::Code),
        message: String::new(),
        launch_error,
        time: now(),
        usage: None,
        stdout: OutputSize { size_bytes, dropped_bytes: 0 },
        stderr: OutputSize::default(),
    }
}

fn stop_request() -> StopRequest {
    StopRequest { time: now(), reason: String::new(), actor: Actor::default(), grace_period: None }
}

impl World {
    /// Takes a step; `model` has taken it. What whoever asked for it is told.
    pub(super) fn take(&mut self, step: Step, model: &Model) -> Result<Answer, String> {
        self.settle()?;
        let answer = self.take_settled(step, model)?;
        self.take_requests()?;
        for (number, job) in model.jobs.iter().enumerate() {
            if job.is_gone {
                self.records.remove(&number);
            }
        }
        Ok(answer)
    }

    fn take_settled(&mut self, step: Step, model: &Model) -> Result<Answer, String> {
        match step {
            Step::Accept { request, wish } => {
                let submitted = self.service().operations.submit(draft(wish), &asked(request));
                return self.submitted(submitted);
            }
            Step::AcceptCutShort { request, wish, is_whole } => {
                self.create_unanswered(request, wish, is_whole)?;
                self.restart(Stop::Killed, true, model)?;
            }
            Step::QueueWorks => {
                self.now = self.now.max(clock::since_boot()) + Duration::from_secs(1);
                self.service().queue.work_until_idle(self.now);
            }
            Step::LauncherTakes => self.launcher_takes()?,
            Step::Write { job, mark, .. } => {
                let bytes = model.jobs[job].folder.bytes;
                let record = self.records.get_mut(&job).ok_or("no supervisor")?;
                let written = record.append(&event(mark, bytes));
                return Ok(if written.is_ok() { Answer::Done } else { Answer::Impossible });
            }
            Step::SupervisorLeaves { job } => {
                let record = self.records.remove(&job).ok_or("no supervisor")?;
                self.given_back.push(job);
                if !record.state().is_ended() {
                    self.burials.extend(model.burials.back());
                }
            }
            Step::Bury => self.bury(model)?,
            Step::Look { job } => drop(self.service().watcher.look(self.ids[job])),
            Step::Sweep => self.service().watcher.sweep(),
            Step::Restart { stop, keeps_starts, .. } => {
                self.restart(stop, keeps_starts, model)?;
            }
            Step::Output { job, .. } => {
                let catalog = &self.service().catalog;
                let seen = catalog.get(self.ids[job]).map_err(fault("get"))?;
                catalog.tell_output(&seen, 1, [model.jobs[job].logged, 0]);
            }
            step => return self.ask(step, model),
        }
        Ok(Answer::Done)
    }

    fn submitted(
        &mut self,
        submitted: Result<crate::operations::Submitted, OperationError>,
    ) -> Result<Answer, String> {
        match submitted {
            Ok(submitted) if submitted.deduplicated => {
                Ok(Answer::Same(self.number(submitted.job.id())?))
            }
            Ok(submitted) => {
                let id = submitted.job.id();
                if self.ids.last().is_some_and(|last| *last >= id) {
                    return Err(format!("the id {id} is not larger than those before"));
                }
                self.ids.push(id);
                Ok(Answer::New(self.ids.len() - 1))
            }
            Err(OperationError::RequestIdReused(id)) => Ok(Answer::Reused(self.number(id)?)),
            Err(OperationError::QueueFull) => Ok(Answer::Full),
            Err(error) => Err(error.to_string()),
        }
    }

    fn launcher_takes(&mut self) -> Result<(), String> {
        let Some((number, service)) = self.starts.pop_front() else { return Ok(()) };
        let dir = self.dir(number);
        let id = self.ids[number];
        if !dir.path().exists() {
            self.tell(service, Notice::Refused(id, 2));
            return Ok(());
        }
        let taken = if self.records.contains_key(&number) {
            None
        } else {
            JobRecord::try_take(dir).map_err(fault("take a job"))?
        };
        let Some(mut record) = taken.filter(|record| *record.state() == State::Queued) else {
            self.tell(service, Notice::Gone(id));
            return Ok(());
        };
        if record.dir().is_cancel_requested() {
            self.given_back.push(number);
            let event = Event::Ended(end(Ending::Cancelled, 0));
            return record.append(&event).map_err(fault("end a cancelled job"));
        }
        self.records.insert(number, record);
        Ok(())
    }

    fn bury(&mut self, model: &Model) -> Result<(), String> {
        let Some((number, service)) = self.burials.pop_front() else { return Ok(()) };
        let (dir, id) = (self.dir(number), self.ids[number]);
        if !dir.path().exists() {
            return Ok(());
        }
        if !self.records.contains_key(&number)
            && let Some(mut record) = JobRecord::try_take(dir).map_err(fault("take a job"))?
        {
            let ending = match record.state() {
                State::Queued | State::Ended { .. } => None,
                State::Exited { exit: ExitStatus::Code(code), .. } => Some(Ending::Exit(*code)),
                State::Claimed(_)
                | State::Starting(_)
                | State::ExecFailed { .. }
                | State::Running(_)
                | State::Exited { .. } => Some(Ending::Lost),
            };
            if let Some(ending) = ending {
                let end = end(ending, model.jobs[number].folder.bytes);
                record.append(&Event::Ended(end)).map_err(fault("bury"))?;
            }
            self.given_back.push(number);
        }
        self.tell(service, Notice::Gone(id));
        Ok(())
    }

    fn ask(&mut self, step: Step, model: &Model) -> Result<Answer, String> {
        match step {
            Step::Hold { job } => {
                let record = JobRecord::try_take(self.dir(job)).map_err(fault("hold"))?;
                self.records.insert(job, record.ok_or("the lock is taken")?);
            }
            Step::Free { job } => {
                self.records.remove(&job);
                self.given_back.push(job);
            }
            Step::LimitAnswered { job } => {
                let number = model.jobs[job].folder.limit_answered;
                let record = self.records.get(&job).ok_or("no supervisor")?;
                record.answer_timeout(number, true).map_err(fault("answer"))?;
            }
            Step::KillAnswered { job } => self.answer_kill(job)?,
            Step::DeleteCutShort { job } => {
                self.store().hide(self.ids[job], false).map_err(fault("hide"))?;
                self.restart(Stop::Killed, true, model)?;
            }
            Step::MarkLeft { job } => {
                self.store().mark_active(self.ids[job]).map_err(fault("mark"))?;
                self.restart(Stop::Killed, true, model)?;
            }
            Step::LabelCutShort { job } => {
                self.store().mark_active(self.ids[job]).map_err(fault("mark"))?;
                let (change, labels) = labels(model, job);
                let replaced = self.dir(job).replace_labels(change, &labels, false);
                replaced.map_err(fault("label"))?;
                self.restart(Stop::Killed, true, model)?;
            }
            Step::RemoveByHand { job } => {
                let path = self.dir(job).path().to_owned();
                std::fs::remove_dir_all(path).map_err(|error| error.to_string())?;
                self.service().watcher.sweep();
            }
            step => return self.request(step, model),
        }
        Ok(Answer::Done)
    }

    /// What callers ask for.
    fn request(&self, step: Step, model: &Model) -> Result<Answer, String> {
        let operations = &self.service().operations;
        let id = |job: Number| -> JobId { self.ids[job] };
        let limit = Duration::from_hours(1);
        let asked = match step {
            Step::Cancel { job } => operations.cancel(id(job), &stop_request()).map(drop),
            Step::Label { job } => {
                operations.update_labels(id(job), &labels(model, job).1, &[]).map(drop)
            }
            Step::Limit { job } => {
                operations.update_timeout(id(job), TimeoutWish::FromNow(limit)).map(drop)
            }
            Step::Delete { job } => operations.delete(id(job), false, Actor::default()),
            Step::DeleteByForce { job } => operations.delete(id(job), true, Actor::default()),
            Step::DropMarker { job } => {
                Ok(self.dir(job).request_cancel(&stop_request(), false).map_err(fault("drop"))?)
            }
            Step::LimitAsked { job } => {
                let number = model.jobs[job].folder.limits_asked;
                let asked = self.dir(job).request_timeout(number, Some(limit), false);
                Ok(asked.map_err(fault("ask for a limit"))?)
            }
            Step::KillAsked { job } => {
                let name = format!("{:04}", model.jobs[job].kills_asked);
                let (scope, actor) = (KillScope::Tree, Actor::default());
                let request = KillRequest { name, signal: 15, scope, time: now(), actor };
                Ok(self.dir(job).request_kill(&request).map_err(fault("ask for a signal"))?)
            }
            other => return Err(format!("{other:?} is no request")),
        };
        match asked {
            Ok(()) => Ok(Answer::Done),
            Err(OperationError::Ended(_)) => Ok(Answer::Ended),
            Err(OperationError::Active(_)) => Ok(Answer::Active),
            Err(error) => Err(error.to_string()),
        }
    }

    fn answer_kill(&mut self, number: Number) -> Result<(), String> {
        let record = self.records.get_mut(&number).ok_or("no supervisor")?;
        let dir = record.dir().clone();
        let requests = dir.kill_requests().map_err(fault("list"))?;
        let request = requests.into_iter().next().ok_or("no request for a signal")?;
        let KillRequest { name, signal, scope: _, time, actor } = request;
        let kill = KillRecord { time, signal, actor, delivered: true, request: name.clone() };
        record.record_kill(&kill).map_err(fault("answer"))?;
        dir.remove_kill_request(&name).map_err(fault("take a request away"))
    }
}

fn labels(model: &Model, number: Number) -> (u64, BTreeMap<String, String>) {
    let change = model.jobs[number].folder.label_changes;
    (change, BTreeMap::from([("n".to_owned(), change.to_string())]))
}
