//! Runs what is missing of a sweep in this process, round by round: which trials come next may follow from the results of
//! those before.

use std::collections::BTreeSet;

use super::opened::{Sweep, View};
use super::{Leaderboard, LiveProgress, Member, Queue};
use crate::cache::RunStatus;
use crate::project::{Error, Limits, Reporting, carry_out};

/// A sweep in which nothing is left to run, or that was interrupted.
pub struct Finished {
    pub view: View,
    pub board: Leaderboard,
    pub status: RunStatus,
}

impl Sweep {
    /// Runs what is missing. `round_begins` sees every round before it runs, and `reporting` makes a reporter for each.
    ///
    /// # Errors
    /// If the pipeline is wrong for a trial, or the store cannot be used. A trial that fails is not an error of this call:
    /// the leaderboard says so.
    pub fn run(
        &mut self,
        limits: Limits,
        reporting: &Reporting<'_>,
        round_begins: &dyn Fn(&Self, &View),
    ) -> Result<Finished, Error> {
        self.store.prepare()?;
        // One trial that fails is no reason to leave the others.
        let limits = Limits {
            keep_going: true,
            ..limits
        };
        let mut failed = BTreeSet::new();
        let mut status = RunStatus::Done;
        let mut before: Vec<Member> = Vec::new();
        loop {
            let view = self.view(&failed)?;
            if view.progress.open.is_empty() {
                return self.finished(view, status);
            }
            if view.progress.open == before {
                let message = "results of the sweep are gone right after they were made";
                let hint = "look at them with `runner cache verify`";
                return Err(Error::failed(message).hint(hint));
            }
            before.clone_from(&view.progress.open);
            round_begins(self, &view);
            // What failed before is not tried again in every round.
            let view = if failed.is_empty() {
                view
            } else {
                self.without(view, &failed)?
            };
            match self.run_round(view, limits, reporting, &mut failed)? {
                RunStatus::Interrupted => {
                    let view = self.view(&failed)?;
                    return self.finished(view, RunStatus::Interrupted);
                }
                RunStatus::Done => {}
                other => status = other,
            }
            // Forced stages have run; from now on they are as any other.
            self.choice.force.clear();
        }
    }

    /// Runs what is open, and adds the members that did not finish to `failed`.
    fn run_round(
        &self,
        view: View,
        limits: Limits,
        reporting: &Reporting<'_>,
        failed: &mut BTreeSet<Member>,
    ) -> Result<RunStatus, Error> {
        let mut live = LiveProgress::new(self, &view);
        let (mut session, trials, open) = (view.session, view.trials, view.progress.open);
        let carried = carry_out(&mut session, view.plan, limits, reporting, &mut live)?;
        session.store.save_run(&carried.record)?;
        let is_there = |stage| carried.outcome.actions.contains_key(stage);
        for (number, member) in trials.members.iter().enumerate() {
            if open.contains(member) && !trials.stages(number).iter().all(is_there) {
                failed.insert(*member);
            }
        }
        Ok(carried.outcome.status)
    }

    fn finished(&self, view: View, status: RunStatus) -> Result<Finished, Error> {
        let board = self.board(&view, &Queue::of(self))?;
        // A trial without a value of the objective has failed, whatever its stages say.
        let has_failed = status == RunStatus::Done && board.count("failed") > 0;
        Ok(Finished {
            view,
            board,
            status: if has_failed {
                RunStatus::Failed
            } else {
                status
            },
        })
    }
}
