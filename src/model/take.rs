//! What becomes of the reference with each step, and what whoever asked for it is told.

use super::{
    facts::{EXITED, WAITS},
    reference::{Holder, Model, Number},
    step::{Answer, Ending, Step},
};
use crate::{job::StateKind, store::EventKind};

impl Model {
    /// Takes a step; what whoever asked for it is told.
    pub(super) fn take(&mut self, step: Step) -> Answer {
        match step {
            Step::Accept { request, wish } => return self.accept(request, wish),
            Step::AcceptCutShort { request, wish, is_whole } => {
                if is_whole {
                    self.add(request, wish);
                }
                self.restart(true, self.running_max);
            }
            Step::QueueWorks => self.queue_works(),
            Step::LauncherTakes => self.launcher_takes(),
            Step::Write { job, mark, more_bytes } => return self.write(job, mark, more_bytes),
            Step::SupervisorLeaves { job } => self.supervisor_leaves(job),
            Step::Bury => self.bury(),
            Step::Look { job } => self.look(job),
            Step::Sweep => self.sweep(),
            Step::Restart { stop: _, keeps_starts, running_max } => {
                self.restart(keeps_starts, running_max);
            }
            Step::Output { job, more_bytes } => {
                let job = &mut self.jobs[job];
                job.logged += more_bytes;
                job.told.push(EventKind::Log);
            }
            Step::Cancel { job }
            | Step::DropMarker { job }
            | Step::Label { job }
            | Step::LabelCutShort { job }
            | Step::MarkLeft { job }
            | Step::Limit { job }
            | Step::LimitAsked { job }
            | Step::LimitAnswered { job }
            | Step::KillAsked { job }
            | Step::KillAnswered { job }
            | Step::Delete { job }
            | Step::DeleteByForce { job }
            | Step::DeleteCutShort { job }
            | Step::RemoveByHand { job }
            | Step::Hold { job }
            | Step::Free { job } => return self.ask(job, step),
        }
        Answer::Done
    }

    fn ask(&mut self, number: Number, step: Step) -> Answer {
        let job = &mut self.jobs[number];
        match step {
            Step::DropMarker { .. } => job.folder.is_cancelled = true,
            Step::LimitAsked { .. } => job.folder.limits_asked += 1,
            Step::LimitAnswered { .. } => job.folder.limit_answered = job.folder.limits_asked,
            Step::KillAsked { .. } => job.kills_asked += 1,
            Step::KillAnswered { .. } => job.folder.kills += 1,
            Step::Hold { .. } => job.holder = Holder::Somebody,
            Step::Free { .. } => job.holder = Holder::Nobody,
            Step::Cancel { .. } => return self.cancel(number),
            Step::Limit { .. } => return self.change_limit(number),
            Step::Label { .. } => {
                job.folder.label_changes += 1;
                if job.is_active() {
                    self.look(number);
                } else {
                    job.see();
                }
            }
            Step::LabelCutShort { .. } => {
                job.folder.label_changes += 1;
                self.restart(true, self.running_max);
            }
            Step::MarkLeft { .. } => self.restart(true, self.running_max),
            Step::Delete { .. } => {
                if !job.is_seen_over() {
                    return Answer::Active;
                }
                self.remove(number);
            }
            Step::DeleteByForce { .. } => {
                if job.folder.step == WAITS {
                    job.folder.is_cancelled = true;
                    self.end_unstarted(number, Ending::Cancelled);
                }
                self.remove(number);
            }
            Step::DeleteCutShort { .. } => {
                self.remove(number);
                self.restart(true, self.running_max);
            }
            Step::RemoveByHand { .. } => {
                job.has_stray_mark = job.is_active();
                self.remove(number);
                self.sweep();
            }
            other => unreachable!("{other:?} is about no job"),
        }
        Answer::Done
    }

    fn cancel(&mut self, number: Number) -> Answer {
        let job = &mut self.jobs[number];
        if job.is_seen_over() {
            let is_cancelled = job.folder.outcome == Some(StateKind::Cancelled);
            return if is_cancelled { Answer::Done } else { Answer::Ended };
        }
        if job.seen.is_some_and(|seen| seen.is_cancelled) {
            return Answer::Done;
        }
        job.folder.is_cancelled = true;
        if job.folder.step == WAITS {
            self.end_unstarted(number, Ending::Cancelled);
        } else {
            self.look(number);
        }
        Answer::Done
    }

    fn change_limit(&mut self, number: Number) -> Answer {
        self.look(number);
        let job = &mut self.jobs[number];
        if job.folder.is_cancelled || job.folder.step >= EXITED {
            return Answer::Ended;
        }
        job.folder.limits_asked += 1;
        self.look(number);
        Answer::Done
    }
}
