//! The reference: what is known of jobs, as counts and sets, and what becomes of it by each step.
//!
//! Knows no files, no locks and no types of the store. A job is told by how far it has come and how
//! often each of its small files has changed; the events follow from two such descriptions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::store::EventKind;

use super::{
    facts::{CLAIMED, Facts, OVER, RUNS, WAITS},
    step::{Answer, Ending, Mark, Wish},
};

/// A job, by the order of acceptance.
pub(super) type Number = usize;

/// Who has the lock of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Nobody,
    /// The supervisor that the launcher of this service forked.
    Supervisor(u32),
    /// Somebody who writes nothing.
    Somebody,
}

/// A job that was accepted.
#[derive(Clone, Debug)]
pub(super) struct ModelJob {
    pub(super) wish: Wish,
    pub(super) folder: Facts,
    /// What the service has seen of it, and so told; none if it has told nothing.
    pub(super) seen: Option<Facts>,
    pub(super) told: Vec<EventKind>,
    /// How much output has been told of.
    pub(super) logged: u64,
    pub(super) kills_asked: u64,
    pub(super) holder: Holder,
    pub(super) is_gone: bool,
    /// Its folder went while its mark stood: the next start takes the mark away.
    pub(super) has_stray_mark: bool,
}

impl ModelJob {
    pub(super) fn is_active(&self) -> bool {
        !self.is_gone && self.seen.is_some_and(|seen| seen.step < OVER)
    }

    pub(super) fn is_free(&self) -> bool {
        self.holder == Holder::Nobody
    }

    pub(super) fn is_supervised(&self) -> bool {
        !self.is_gone && matches!(self.holder, Holder::Supervisor(_))
    }

    pub(super) fn is_seen_over(&self) -> bool {
        !self.is_gone && self.seen.is_some_and(|seen| seen.step == OVER)
    }

    /// The service reads the folder, and tells what is new.
    pub(super) fn see(&mut self) {
        let before = self.seen.unwrap_or_else(|| {
            self.told.push(EventKind::Created);
            Facts::default()
        });
        let now = self.folder;
        let mut shown = before.visible();
        if now.has_run && !before.has_run {
            self.told.push(EventKind::Started);
            // Told as it is, but as still running: its stop counts once the process had ended.
            shown = now.visible();
            shown.0 = now.is_stopping && now.step == RUNS;
        }
        if now.step == OVER && before.step < OVER {
            if now.bytes != self.logged {
                self.told.push(EventKind::Log);
            }
            self.told.push(EventKind::Ended);
        } else if now.visible() != shown {
            self.told.push(EventKind::Updated);
        }
        self.seen = Some(now);
    }
}

/// Everything: the jobs, the queue, the launcher.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) jobs: Vec<ModelJob>,
    pub(super) requests: BTreeMap<u8, Number>,
    pub(super) waiting: BTreeSet<Number>,
    pub(super) counted: BTreeSet<Number>,
    /// Starts that were asked for, each by the service that did.
    pub(super) starts: VecDeque<(Number, u32)>,
    /// Ends of lost jobs that were asked for.
    pub(super) burials: VecDeque<(Number, u32)>,
    /// Counts the services, one after the other.
    pub(super) service: u32,
    pub(super) running_max: usize,
    pub(super) queued_max: usize,
}

impl Model {
    pub(super) fn new(running_max: usize, queued_max: usize) -> Self {
        Self {
            jobs: Vec::new(),
            requests: BTreeMap::new(),
            waiting: BTreeSet::new(),
            counted: BTreeSet::new(),
            starts: VecDeque::new(),
            burials: VecDeque::new(),
            service: 0,
            running_max,
            queued_max,
        }
    }

    /// The job that a request id stands for.
    pub(super) fn requested(&self, request: u8) -> Option<Number> {
        let number = self.requests.get(&request).copied();
        number.filter(|number| !self.jobs[*number].is_gone)
    }

    pub(super) fn accept(&mut self, request: Option<u8>, wish: Wish) -> Answer {
        if let Some(known) = request.and_then(|request| self.requested(request)) {
            return if self.jobs[known].wish == wish {
                Answer::Same(known)
            } else {
                Answer::Reused(known)
            };
        }
        let free = self.running_max.saturating_sub(self.counted.len());
        if self.waiting.len() >= self.queued_max + free {
            return Answer::Full;
        }
        let number = self.add(request, wish);
        self.jobs[number].see();
        self.waiting.insert(number);
        Answer::New(number)
    }

    /// The folder of a new job is there, and nobody was told.
    pub(super) fn add(&mut self, request: Option<u8>, wish: Wish) -> Number {
        self.jobs.push(ModelJob {
            wish,
            folder: Facts::default(),
            seen: None,
            told: Vec::new(),
            logged: 0,
            kills_asked: 0,
            holder: Holder::Nobody,
            is_gone: false,
            has_stray_mark: false,
        });
        let number = self.jobs.len() - 1;
        self.requests.extend(request.map(|request| (request, number)));
        number
    }

    /// The service looks at a job it does not know to be over.
    pub(super) fn look(&mut self, number: Number) {
        if self.jobs[number].is_active() {
            self.jobs[number].see();
            let job = &self.jobs[number];
            if job.folder.step == WAITS && job.folder.is_cancelled && job.is_free() {
                self.end_unstarted(number, Ending::Cancelled);
            }
        }
        if self.jobs[number].folder.step == OVER {
            self.leave_queue(number);
        }
    }

    pub(super) fn end_unstarted(&mut self, number: Number, ending: Ending) {
        let job = &mut self.jobs[number];
        job.folder.write(Mark::Ended(ending), 0);
        job.see();
        self.leave_queue(number);
    }

    fn leave_queue(&mut self, number: Number) {
        self.waiting.remove(&number);
        self.counted.remove(&number);
    }

    /// What the launcher tells the service that forked it.
    fn notice_gone(&mut self, number: Number, service: u32) {
        if service != self.service || self.jobs[number].is_gone {
            return;
        }
        self.look(number);
        if self.jobs[number].folder.step == WAITS && self.counted.remove(&number) {
            self.waiting.insert(number);
        }
    }

    pub(super) fn queue_works(&mut self) {
        for number in self.waiting.clone() {
            let job = &mut self.jobs[number];
            if !job.wish.is_short {
                continue;
            }
            if job.folder.step == WAITS && job.is_free() {
                self.end_unstarted(number, Ending::QueueTimedOut);
                continue;
            }
            // While another has the lock it waits on; once that one has begun it, it does not.
            job.see();
            if job.folder.step > WAITS {
                self.waiting.remove(&number);
            }
        }
        while self.counted.len() < self.running_max {
            let startable = self.waiting.iter().filter(|number| !self.jobs[**number].wish.is_short);
            let first =
                startable.min_by_key(|number| (-self.jobs[**number].wish.priority, **number));
            let Some(first) = first.copied() else { return };
            self.waiting.remove(&first);
            self.counted.insert(first);
            self.starts.push_back((first, self.service));
        }
    }

    pub(super) fn launcher_takes(&mut self) {
        let Some((number, service)) = self.starts.pop_front() else { return };
        let job = &mut self.jobs[number];
        if job.is_gone {
            return;
        }
        if !job.is_free() || job.folder.step != WAITS {
            self.notice_gone(number, service);
        } else if job.folder.is_cancelled {
            job.folder.write(Mark::Ended(Ending::Cancelled), 0);
        } else {
            job.holder = Holder::Supervisor(service);
        }
    }

    pub(super) fn write(&mut self, number: Number, mark: Mark, more_bytes: u64) -> Answer {
        let job = &mut self.jobs[number];
        if !job.folder.allows(mark) {
            return Answer::Impossible;
        }
        job.folder.write(mark, job.logged + more_bytes);
        Answer::Done
    }

    pub(super) fn supervisor_leaves(&mut self, number: Number) {
        let job = &mut self.jobs[number];
        if let Holder::Supervisor(service) = job.holder
            && job.folder.step < OVER
        {
            self.burials.push_back((number, service));
        }
        job.holder = Holder::Nobody;
    }

    pub(super) fn bury(&mut self) {
        let Some((number, service)) = self.burials.pop_front() else { return };
        let job = &mut self.jobs[number];
        if job.is_gone {
            return;
        }
        if job.is_free() && (CLAIMED..OVER).contains(&job.folder.step) {
            let ending = job.folder.exit.map_or(Ending::Lost, Ending::Exit);
            job.folder.write(Mark::Ended(ending), job.logged);
        }
        self.notice_gone(number, service);
    }

    pub(super) fn sweep(&mut self) {
        for number in 0..self.jobs.len() {
            self.look(number);
        }
        for number in self.counted.clone() {
            self.ask_for_burial(number);
        }
    }

    fn ask_for_burial(&mut self, number: Number) {
        let job = &self.jobs[number];
        if job.is_free() && (CLAIMED..OVER).contains(&job.folder.step) {
            self.burials.push_back((number, self.service));
        }
    }

    pub(super) fn remove(&mut self, number: Number) {
        let job = &mut self.jobs[number];
        job.told.push(EventKind::Deleted);
        (job.is_gone, job.holder) = (true, Holder::Nobody);
        self.leave_queue(number);
    }

    /// Another service takes over what this one left.
    pub(super) fn restart(&mut self, keeps_starts: bool, running_max: usize) {
        self.service += 1;
        self.running_max = running_max;
        self.waiting.clear();
        self.counted.clear();
        if !keeps_starts {
            self.starts.clear();
        }
        for number in 0..self.jobs.len() {
            let job = &mut self.jobs[number];
            job.has_stray_mark = false;
            if job.is_gone || job.seen == Some(job.folder) && job.folder.step == OVER {
                continue;
            }
            job.see();
            match job.folder.step {
                OVER => {}
                WAITS => {
                    self.waiting.insert(number);
                    self.look(number);
                }
                _ => {
                    self.counted.insert(number);
                    self.ask_for_burial(number);
                }
            }
        }
    }
}
