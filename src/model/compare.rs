//! What is real against the reference: folders, index, queue, marks, and the events as they come.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use crate::{
    job::{End, Job, JobFilter, JobId, State, StateKind},
    store::{EventKind, JobEvent, JournalReader},
};

use super::{
    facts::{CLAIMED, EXITED, Facts, OVER, RUNS, WAITS},
    reference::{Model, Number},
    world::{World, fault},
};

/// What was there before and may not be taken back.
#[derive(Default)]
pub(super) struct Before {
    /// The last event that was read.
    position: u64,
    told: Vec<Vec<EventKind>>,
    /// The state and the revision that were told last.
    last: BTreeMap<Number, (Option<StateKind>, u64)>,
    steps: BTreeMap<Number, u8>,
    /// What each folder said when it was compared last.
    compared: BTreeMap<Number, (Facts, bool)>,
    /// Reads the journal on for one life of the service.
    reader: Option<(u32, JournalReader)>,
    ends: BTreeMap<Number, End>,
}

fn same<T: PartialEq + Debug>(what: &str, real: &T, expected: &T) -> Result<(), String> {
    if real == expected {
        return Ok(());
    }
    Err(format!("{what}\n      is {real:?}\n  not   {expected:?}"))
}

fn step_of(state: &State) -> u8 {
    match state {
        State::Queued => WAITS,
        State::Claimed(_) | State::Starting(_) | State::ExecFailed { .. } => CLAIMED,
        State::Running(_) => RUNS,
        State::Exited { .. } => EXITED,
        State::Ended { .. } => OVER,
    }
}

/// A job in the words of the reference: state, stop, cancel, labels, limits, signals, revision.
type Told = (StateKind, u8, [bool; 2], String, [u64; 2], usize, u64);

fn told(job: &Job) -> Told {
    let is_stopping = job.state.running().is_some_and(|running| running.stop.is_some());
    let label = job.labels.get("n").map_or("0", String::as_str).to_owned();
    let asked = job.timeout_change.map_or(0, |change| change.number);
    let is_answered = job.timeout_change.is_some_and(|change| change.answer.is_some());
    let limit = [asked, if is_answered { asked } else { 0 }];
    let flags = [is_stopping, job.cancel.is_some()];
    (job.state.kind(), step_of(&job.state), flags, label, limit, job.kills.len(), job.revision)
}

fn expected(facts: &Facts) -> Told {
    let is_answered = facts.limit_answered == facts.limits_asked;
    let limit = [facts.limits_asked, if is_answered { facts.limits_asked } else { 0 }];
    // The last sixteen are kept.
    let kills = usize::try_from(facts.kills.min(16)).unwrap_or(0);
    let flags = [facts.is_stopping, facts.is_cancelled];
    let label = facts.label_changes.to_string();
    (facts.kind(), facts.step, flags, label, limit, kills, facts.revision())
}

impl Before {
    /// Compares everything; says what differs.
    pub(super) fn compare(&mut self, world: &World, model: &Model) -> Result<(), String> {
        for (number, job) in model.jobs.iter().enumerate() {
            // Nobody touches what is over or gone; it is compared again at the end.
            let now = (job.folder, job.is_gone);
            let is_quiet = job.folder.step == OVER || job.is_gone;
            if self.compared.insert(number, now) != Some(now) || !is_quiet {
                self.compare_folder(world, model, number)?;
                compare_index(world, model, number)?;
            }
        }
        compare_lists(world, model)?;
        compare_queue(world, model)?;
        compare_requests(world, model)?;
        self.read_events(world)?;
        let told: Vec<_> = model.jobs.iter().map(|job| job.told.clone()).collect();
        self.told.resize(told.len(), Vec::new());
        same("what was told of each job", &self.told, &told)
    }

    /// Compares everything, also what nobody should have touched.
    pub(super) fn compare_all(&mut self, world: &World, model: &Model) -> Result<(), String> {
        self.compared.clear();
        self.compare(world, model)
    }

    fn compare_folder(
        &mut self,
        world: &World,
        model: &Model,
        number: Number,
    ) -> Result<(), String> {
        let dir = world.dir(number);
        if model.jobs[number].is_gone {
            return same("whether the folder is there", &dir.path().exists(), &false);
        }
        let job = dir.read().map_err(fault("read a folder"))?;
        same(
            &format!("the folder of {number}"),
            &told(&job),
            &expected(&model.jobs[number].folder),
        )?;
        let step = step_of(&job.state);
        if self.steps.insert(number, step).is_some_and(|before| before > step) {
            return Err(format!("the job {number} went back to {step}"));
        }
        if let Some(end) = job.state.end() {
            let first = self.ends.entry(number).or_insert_with(|| end.clone());
            same(&format!("the end of {number}"), end, first)?;
        }
        Ok(())
    }

    /// Reads what was told since, from memory and from the disk.
    fn read_events(&mut self, world: &World) -> Result<(), String> {
        let catalog = &world.service().catalog;
        let service = world.number_of_service;
        let kept = self.reader.take().filter(|(known, _)| *known == service);
        let (_, mut reader) = kept.unwrap_or_else(|| (service, catalog.event_reader()));
        let stored = catalog.stored_events(&mut reader, self.position, usize::MAX);
        self.reader = Some((service, reader));
        let stored = stored.map_err(fault("read events"))?.map_err(|gone| format!("{gone:?}"))?;
        // A start has in memory only what it has told itself.
        if let Ok(events) = catalog.events_after(self.position, usize::MAX) {
            let outline = |event: &JobEvent| (event.sequence, event.kind, event.id, event.revision);
            let in_memory: Vec<_> = events.iter().map(|event| outline(event)).collect();
            let on_disk: Vec<_> = stored.iter().map(outline).collect();
            same("events in memory", &in_memory, &on_disk)?;
        }
        for event in &stored {
            self.take_event(world, event)?;
        }
        same("the newest event", &self.position, &catalog.told_head())
    }

    fn take_event(&mut self, world: &World, event: &JobEvent) -> Result<(), String> {
        same("the sequence", &event.sequence, &(self.position + 1))?;
        self.position = event.sequence;
        let number = world.number(event.id)?;
        let (kind, revision) = self.last.get(&number).copied().unwrap_or((None, 0));
        let what = format!("the {:?} of {number}", event.kind);
        // Of one that ended long ago and was removed by hand nobody knows more than its id.
        let is_unknown = event.kind == EventKind::Deleted && event.job.is_none();
        if kind.is_some() && !is_unknown {
            same(&format!("the state before {what}"), &event.previous, &kind)?;
        }
        if event.revision < revision && !is_unknown {
            return Err(format!("{what} has the revision {} after {revision}", event.revision));
        }
        let kind = match event.kind {
            EventKind::Created => Some(StateKind::Queued),
            EventKind::Started => Some(StateKind::Running),
            EventKind::Ended => event.job.as_ref().map(|job| job.state.kind()),
            EventKind::Updated | EventKind::Deleted | EventKind::Matched | EventKind::Log => kind,
        };
        self.last.insert(number, (kind, event.revision));
        self.told.resize(self.told.len().max(number + 1), Vec::new());
        self.told[number].push(event.kind);
        Ok(())
    }
}

fn compare_index(world: &World, model: &Model, number: Number) -> Result<(), String> {
    let (catalog, id) = (&world.service().catalog, world.ids[number]);
    let job = &model.jobs[number];
    same(&format!("whether {number} is active"), &catalog.is_active(id), &job.is_active())?;
    same(&format!("whether {number} is known"), &catalog.is_known(id), &!job.is_gone)?;
    match (catalog.get(id), job.seen.filter(|_| !job.is_gone)) {
        (Ok(known), Some(seen)) => {
            same(&format!("the index of {number}"), &told(&known), &expected(&seen))
        }
        (Err(error), None) if error.is_missing() => Ok(()),
        (got, seen) => Err(format!("the index has {got:?} of {number}, not {seen:?}")),
    }
}

fn compare_lists(world: &World, model: &Model) -> Result<(), String> {
    let catalog = &world.service().catalog;
    let present = || (0..model.jobs.len()).filter(|number| !model.jobs[*number].is_gone);
    let page = catalog.page(&JobFilter::default(), None, usize::MAX - 1);
    let listed = page.map_err(fault("list"))?.ids;
    let newest_first: Vec<JobId> = present().rev().map(|number| world.ids[number]).collect();
    same("the list", &listed, &newest_first)?;

    let mut counts = BTreeMap::new();
    for seen in present().filter_map(|number| model.jobs[number].seen) {
        *counts.entry(seen.kind()).or_insert(0) += 1;
    }
    same("the counts", &catalog.counts(None).by_state, &counts)?;

    let is_marked = |number: &Number| {
        let job = &model.jobs[*number];
        job.is_active() || job.has_stray_mark
    };
    let marked = (0..model.jobs.len()).filter(is_marked).map(|number| world.ids[number]);
    let marks = world.store().active_ids().map_err(fault("list marks"))?;
    same("the marks of active jobs", &marks, &marked.collect())?;
    let trash = world.store().hidden().map_err(fault("list what is hidden"))?;
    same("what is hidden", &trash.len(), &0)
}

fn compare_queue(world: &World, model: &Model) -> Result<(), String> {
    let queue = &world.service().queue;
    let running = queue.running_ids().into_iter().map(|id| world.number(id));
    let running: BTreeSet<Number> = running.collect::<Result<_, _>>()?;
    same("the jobs that take a place", &running, &model.counted)?;
    same("how many wait", &queue.counts().0, &model.waiting.len())?;
    same("the starts that were asked for", &world.starts, &model.starts)?;
    same("the burials that were asked for", &world.burials, &model.burials)
}

fn compare_requests(world: &World, model: &Model) -> Result<(), String> {
    for request in model.requests.keys() {
        let asked = super::world::asked(Some(*request));
        let name = asked.request_id.unwrap_or_default();
        let known = world.store().known_request(&asked.owner, &name);
        let known = known.map_err(fault("read a request id"))?;
        let number = known.map(|known| world.number(known.id)).transpose().unwrap_or(None);
        let number = number.filter(|number| !model.jobs[*number].is_gone);
        same(&format!("the job of the request {request}"), &number, &model.requested(*request))?;
    }
    Ok(())
}
