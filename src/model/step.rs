//! The steps of a check: what random numbers turn into, as far as the reference allows it.
//!
//! A step names its job by number, so that a failing run reads as a story.

use proptest::prelude::*;

use super::{
    facts::{CLAIMED, EXITED, OVER, RUNS, WAITS},
    reference::{Model, ModelJob, Number},
};

/// A start reads back the end of the journal, which is this many events at least: of what ended
/// before them it may tell once more.
const TOLD_READ_BACK: usize = 16;

/// What a caller wants run: small numbers, so that the same wish comes twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) variant: u8,
    pub(super) priority: i32,
    /// Its time in the queue is over before anybody looks.
    pub(super) is_short: bool,
}

/// How a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Exit(i32),
    NotLaunched,
    Cancelled,
    QueueTimedOut,
    Lost,
}

/// A line of `state.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Claimed,
    Started,
    Stopping,
    Exited(i32),
    Ended(Ending),
}

/// What somebody who asked for something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    New(Number),
    Same(Number),
    Reused(Number),
    Full,
    Ended,
    Active,
    Impossible,
}

/// How a service ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Clean,
    Killed,
    /// Killed while it wrote an event.
    InTheMiddleOfALine,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Accept {
        request: Option<u8>,
        wish: Wish,
    },
    /// The service is killed with the folder made, or without its spec, and nobody told.
    AcceptCutShort {
        request: Option<u8>,
        wish: Wish,
        is_whole: bool,
    },
    QueueWorks,
    LauncherTakes,
    Write {
        job: Number,
        mark: Mark,
        more_bytes: u64,
    },
    SupervisorLeaves {
        job: Number,
    },
    Bury,
    Look {
        job: Number,
    },
    Sweep,
    Cancel {
        job: Number,
    },
    DropMarker {
        job: Number,
    },
    Label {
        job: Number,
    },
    /// The service is killed with the labels replaced and nobody told.
    LabelCutShort {
        job: Number,
    },
    /// The service is killed with the end told and the mark still there.
    MarkLeft {
        job: Number,
    },
    Limit {
        job: Number,
    },
    LimitAsked {
        job: Number,
    },
    LimitAnswered {
        job: Number,
    },
    KillAsked {
        job: Number,
    },
    KillAnswered {
        job: Number,
    },
    Delete {
        job: Number,
    },
    DeleteByForce {
        job: Number,
    },
    /// The service is killed with the folder out of sight and nobody told.
    DeleteCutShort {
        job: Number,
    },
    /// Somebody removes the folder.
    RemoveByHand {
        job: Number,
    },
    Hold {
        job: Number,
    },
    Free {
        job: Number,
    },
    Output {
        job: Number,
        more_bytes: u64,
    },
    Restart {
        stop: Stop,
        keeps_starts: bool,
        running_max: usize,
    },
}

/// A step that is not yet fitted to what there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    what: u8,
    which: u16,
    detail: u16,
}

/// Draws of steps.
pub(super) fn draws(count_max: usize) -> impl Strategy<Value = Vec<Draw>> {
    let draw = (0..100_u8, any::<u16>(), any::<u16>()).prop_map(|(what, which, detail)| Draw {
        what,
        which,
        detail,
    });
    proptest::collection::vec(draw, 1..count_max)
}

/// What a supervisor does next, if nothing goes wrong.
fn next_mark(job: &ModelJob, detail: u16) -> Mark {
    let exit = i32::from(detail % 2);
    match job.folder.step {
        WAITS => Mark::Claimed,
        CLAIMED if detail.is_multiple_of(5) => Mark::Ended(Ending::NotLaunched),
        CLAIMED => Mark::Started,
        RUNS if detail.is_multiple_of(5) => Mark::Stopping,
        RUNS => Mark::Exited(exit),
        _ => Mark::Ended(job.folder.exit.map_or(Ending::Lost, Ending::Exit)),
    }
}

fn any_mark(detail: u16) -> Mark {
    match detail % 9 {
        0 => Mark::Claimed,
        1 => Mark::Started,
        2 => Mark::Stopping,
        3 => Mark::Exited(0),
        4 => Mark::Ended(Ending::Exit(0)),
        5 => Mark::Ended(Ending::Exit(1)),
        6 => Mark::Ended(Ending::NotLaunched),
        7 => Mark::Ended(Ending::Cancelled),
        _ => Mark::Ended(Ending::Lost),
    }
}

impl Draw {
    /// The step that this draw means now; none if there is nothing to do it to.
    pub(super) fn fit(self, model: &Model) -> Option<Step> {
        let Self { what, which: _, detail } = self;
        let more_bytes = u64::from(detail / 16 % 3);
        match what {
            0..=17 => Some(self.acceptance(model)),
            18..=27 => Some(Step::QueueWorks),
            28..=35 => Some(Step::LauncherTakes),
            36..=50 => self.pick(model, ModelJob::is_supervised).map(|job| {
                let mark = next_mark(&model.jobs[job], detail);
                Step::Write { job, mark, more_bytes }
            }),
            51..=54 => self.pick(model, ModelJob::is_supervised).map(|job| Step::Write {
                job,
                mark: any_mark(detail),
                more_bytes,
            }),
            55..=58 => {
                self.pick(model, ModelJob::is_supervised).map(|job| Step::SupervisorLeaves { job })
            }
            59..=61 => Some(Step::Bury),
            62..=65 => self.pick(model, |job| !job.is_gone).map(|job| Step::Look { job }),
            66..=68 => Some(Step::Sweep),
            69..=75 => self.request(model),
            76..=80 => self.answer(model),
            81..=86 => self.removal(model),
            87..=90 => self.lock(model),
            91..=92 => {
                let runs = |job: &ModelJob| {
                    let seen = job.seen.map_or(WAITS, |seen| seen.step);
                    job.is_active() && seen >= RUNS && job.folder.step < OVER
                };
                let more_bytes = more_bytes + 1;
                self.pick(model, runs).map(|job| Step::Output { job, more_bytes })
            }
            _ => Some(self.restart(model)),
        }
    }

    fn pick(self, model: &Model, fits: impl Fn(&ModelJob) -> bool) -> Option<Number> {
        let fitting: Vec<Number> =
            (0..model.jobs.len()).filter(|number| fits(&model.jobs[*number])).collect();
        fitting.get(usize::from(self.which) % fitting.len().max(1)).copied()
    }

    fn acceptance(self, model: &Model) -> Step {
        let Self { which, detail, .. } = self;
        let request = (which % 3 > 0).then_some(u8::try_from(which / 3 % 4).unwrap_or(0));
        let known = request.and_then(|request| model.requested(request));
        let new = Wish {
            variant: u8::try_from(detail % 2).unwrap_or(0),
            priority: i32::from(detail / 2 % 3) - 1,
            is_short: detail / 6 % 4 == 3,
        };
        // A call that is repeated mostly is the same call.
        let wish = known.filter(|_| detail % 4 > 0).map_or(new, |known| model.jobs[known].wish);
        if known.is_none() && which % 13 == 12 {
            return Step::AcceptCutShort { request, wish, is_whole: detail % 3 > 0 };
        }
        Step::Accept { request, wish }
    }

    /// Somebody wants something of a job.
    fn request(self, model: &Model) -> Option<Step> {
        let at_rest = |job: &ModelJob| job.folder.step == WAITS && job.is_free();
        match self.detail % 7 {
            0 | 1 => self
                .pick(model, |job| {
                    // Not what would wait for a supervisor that is not there.
                    !job.is_gone && (at_rest(job) || job.folder.step >= RUNS)
                })
                .map(|job| Step::Cancel { job }),
            2 => self
                .pick(model, |job| job.is_active() && job.folder.step < OVER)
                .map(|job| Step::DropMarker { job }),
            3 => self.pick(model, |job| !job.is_gone).map(|job| Step::Label { job }),
            4 => self
                .pick(model, |job| !job.is_gone && (at_rest(job) || job.folder.step >= EXITED))
                .map(|job| Step::Limit { job }),
            5 => self
                .pick(model, |job| !job.is_gone && job.folder.step == RUNS)
                .map(|job| Step::LimitAsked { job }),
            _ => self
                .pick(model, |job| !job.is_gone && (CLAIMED..OVER).contains(&job.folder.step))
                .map(|job| Step::KillAsked { job }),
        }
    }

    /// A supervisor answers.
    fn answer(self, model: &Model) -> Option<Step> {
        let is_awake =
            |job: &ModelJob| job.is_supervised() && (RUNS..OVER).contains(&job.folder.step);
        let asked_limit =
            |job: &ModelJob| is_awake(job) && job.folder.limits_asked > job.folder.limit_answered;
        let asked_kill = |job: &ModelJob| is_awake(job) && job.kills_asked > job.folder.kills;
        self.pick(model, asked_kill)
            .filter(|_| self.detail.is_multiple_of(2))
            .map(|job| Step::KillAnswered { job })
            .or_else(|| self.pick(model, asked_limit).map(|job| Step::LimitAnswered { job }))
            .or_else(|| self.pick(model, asked_kill).map(|job| Step::KillAnswered { job }))
    }

    fn removal(self, model: &Model) -> Option<Step> {
        let at_rest = |job: &ModelJob| {
            !job.is_gone && job.is_free() && (job.folder.step == WAITS || job.is_seen_over())
        };
        match self.detail % 6 {
            0 => self.pick(model, |job| !job.is_gone).map(|job| Step::Delete { job }),
            1 => self.pick(model, at_rest).map(|job| Step::DeleteByForce { job }),
            2 => self.pick(model, ModelJob::is_seen_over).map(|job| Step::DeleteCutShort { job }),
            3 => self
                .pick(model, |job| !job.is_gone && job.is_free())
                .map(|job| Step::RemoveByHand { job }),
            4 => self.pick(model, ModelJob::is_seen_over).map(|job| Step::LabelCutShort { job }),
            _ => {
                let told: usize = model.jobs.iter().map(|job| job.told.len()).sum();
                self.pick(model, ModelJob::is_seen_over)
                    .filter(|_| told <= TOLD_READ_BACK)
                    .map(|job| Step::MarkLeft { job })
            }
        }
    }

    fn lock(self, model: &Model) -> Option<Step> {
        let held = |job: &ModelJob| !job.is_gone && !job.is_free() && !job.is_supervised();
        match self.pick(model, held) {
            Some(job) if self.detail.is_multiple_of(2) => Some(Step::Free { job }),
            Some(_) | None => {
                self.pick(model, |job| !job.is_gone && job.is_free()).map(|job| Step::Hold { job })
            }
        }
    }

    fn restart(self, model: &Model) -> Step {
        let stop = match self.detail % 5 {
            0 => Stop::Clean,
            1 => Stop::InTheMiddleOfALine,
            _ => Stop::Killed,
        };
        let running_max = match self.detail / 5 % 3 {
            0 => usize::from(self.which % 3) + 1,
            _ => model.running_max,
        };
        Step::Restart { stop, keeps_starts: self.which.is_multiple_of(2), running_max }
    }
}
