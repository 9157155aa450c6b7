//! Hands what is missing of a sweep to a backend.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;

use super::opened::{Sweep, View};
use super::queue::{Queue, job_name, submissions_of};
use super::{
    ChosenBackend, Job, JobId, JobNeeds, JobOptions, Leaderboard, Part, Sampler, Stand, Submission,
    TASK, TaskState, Wave, label, overrides, plain_name, shared_waves, task_count,
};
use crate::graph::StageId;
use crate::project::{Choice, Error, Project};

/// How a sweep is to be submitted.
pub struct Order {
    /// As for the sweep; the device and whether data may be downloaded go on to its tasks.
    pub choice: Choice,
    /// Whether nothing is submitted, and the jobs are only given.
    pub rehearse: bool,
    /// The words of a command that does a task of a submission; its folder, part and number follow.
    pub command: Vec<String>,
}

/// What came of submitting.
pub enum Submitted {
    /// Nothing is missing.
    Complete(Box<(Leaderboard, View)>),
    /// So many members are missing, all of which are queued or running.
    UnderWay(usize),
    /// A rehearsal: the jobs, each after those before it.
    Rehearsed(Vec<(Part, Job)>),
    Handed(Box<Handed>),
}

/// A submission with its jobs, and the labels of its members.
pub struct Handed {
    pub submission: Submission,
    pub jobs: Vec<(Part, JobId)>,
    pub labels: Vec<String>,
}

/// Submits what is missing and not under way. `before` are the submissions that led here, all of whose tasks are over.
///
/// # Errors
/// If the queue cannot be seen, or the backend refuses a job; then nothing is submitted.
pub fn submit(
    project: &Project,
    sweep: &mut Sweep,
    order: &Order,
    backend: &ChosenBackend,
    before: &[Submission],
) -> Result<Submitted, Error> {
    // One at a time: two who see the same queue would both hand in what is missing in it.
    let _turn = turn(sweep, order.rehearse)?;
    let queue = Queue::surely_of(sweep)?;
    let under_way = queue.members(&[TaskState::Waiting, TaskState::Running]);
    // By their values: numbers of trials may have changed with the file.
    let ended: BTreeSet<&Vec<(String, String)>> = before
        .iter()
        .flat_map(Submission::members)
        .map(|member| &member.overrides)
        .collect();
    let view = sweep.view_where(project, |values, _| {
        ended.contains(values) && !under_way.contains(values)
    })?;
    if view.progress.open.is_empty() {
        let board = sweep.board(&view, &queue)?;
        return Ok(Submitted::Complete(Box::new((board, view))));
    }
    let is_open = |place: &usize| {
        let member = &view.roster.members[*place];
        let values = || overrides(&sweep.file, &view.progress.points[member.trial], member);
        view.progress.open.contains(member) && !under_way.contains(&values())
    };
    let open: Vec<usize> = (0..view.roster.members.len()).filter(is_open).collect();
    if open.is_empty() {
        return Ok(Submitted::UnderWay(view.progress.open.len()));
    }
    let options = sweep.file.slurm.clone();
    let tasks = task_count(open.len(), &options, backend.largest_array());
    let graph = &view.session.graph;
    let waves = shared_waves(&view.roster, graph, &view.plan, &open);
    let mut submission = Submission::new(
        &sweep.file,
        &sweep.name,
        backend.name(),
        &Stand {
            points: &view.progress.points,
            roster: &view.roster,
            graph,
            plan: &view.plan,
        },
        &open,
        &waves,
        tasks,
    );
    submission.texts = sweep.texts(&view);
    submission.overrides = order.choice.overrides()?;
    submission.targets.clone_from(&order.choice.targets);
    submission.before = before.iter().map(|before| before.id.clone()).collect();
    let parts = parts_of(sweep, &view, &submission, &waves, &open);
    let jobs = jobs(sweep, order, &view, &submission, parts, &options)?;
    submission.needs = jobs
        .iter()
        .map(|(part, job)| (part.name(), job.needs))
        .collect();
    submission.stage_needs = stage_needs(&view, &open, &options);
    let checked = jobs.iter().try_for_each(|(_, job)| backend.check(job));
    if !order.rehearse {
        checked?;
    } else if let Err(failure) = checked {
        tracing::warn!("it would be refused: {}", failure.message());
    }
    if order.rehearse {
        return Ok(Submitted::Rehearsed(jobs));
    }
    let layout = sweep.store.layout();
    submission.save(layout, &queue.folder)?;
    let mut submitted: Vec<(Part, JobId)> = Vec::new();
    for (part, mut job) in jobs {
        job.after = submitted.iter().map(|(_, id)| id.clone()).collect();
        match backend.submit(&job, layout) {
            Ok(id) => submitted.push((part, id)),
            Err(failure) => {
                // Half of it would wait for what never comes.
                let jobs: Vec<JobId> = submitted.into_iter().map(|(_, id)| id).collect();
                if let Err(failure) = backend.withdraw(&jobs) {
                    tracing::warn!(
                        "jobs that were submitted could not be withdrawn: {}",
                        failure.message()
                    );
                }
                let _ = layout.remove(&submission.folder(&queue.folder));
                return Err(failure.into());
            }
        }
    }
    let labels = open
        .iter()
        .map(|place| label(&sweep.file, &view.roster.members[*place]));
    Ok(Submitted::Handed(Box::new(Handed {
        labels: labels.collect(),
        submission,
        jobs: submitted,
    })))
}

/// Waits until nobody else submits for this sweep, and keeps others waiting as long as the value lives.
fn turn(sweep: &Sweep, rehearse: bool) -> Result<Option<File>, Error> {
    if rehearse {
        return Ok(None);
    }
    let path = submissions_of(sweep).join("lock");
    let file = sweep.store.layout().append(&path)?;
    let locked = rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive);
    let locked =
        locked.map_err(|error| Error::failed(format!("cannot lock {}: {error}", path.display())));
    locked.map(|()| Some(file))
}

/// The parts of a submission with the number of their tasks and the stages that they run.
fn parts_of(
    sweep: &Sweep,
    view: &View,
    submission: &Submission,
    waves: &[Wave],
    open: &[usize],
) -> Vec<(Part, usize, Vec<StageId>)> {
    let shared: Vec<StageId> = waves.iter().flat_map(Wave::stages).collect();
    let own = open
        .iter()
        .flat_map(|place| view.roster.stages(*place))
        .copied();
    let is_own =
        |stage: &StageId| view.plan.stage(*stage).hit().is_none() && !shared.contains(stage);
    let own: Vec<StageId> = own.filter(is_own).collect();
    let is_adaptive =
        sweep.file.stopping.is_some() || matches!(sweep.file.sampler, Sampler::Tpe { .. });
    let part = |part| match part {
        Part::Shared(wave) => (
            part,
            submission.units(part).len(),
            waves[wave].stages().collect(),
        ),
        Part::Trials => (part, submission.units(part).len(), own.clone()),
        Part::Next => (part, usize::from(is_adaptive), own.clone()),
    };
    submission.parts().map(part).collect()
}

/// The jobs of a submission in their order; each comes after those before it.
fn jobs(
    sweep: &Sweep,
    order: &Order,
    view: &View,
    submission: &Submission,
    parts: Vec<(Part, usize, Vec<StageId>)>,
    options: &JobOptions,
) -> Result<Vec<(Part, Job)>, Error> {
    let folder = submission.folder(&submissions_of(sweep));
    let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let job = |(part, tasks, stages): (Part, usize, Vec<StageId>)| {
        let (needs, passed_on) =
            options.for_job(part, &stages, &view.session.graph, &view.declared);
        let mut words = order.command.clone();
        words.push("--folder".to_owned());
        words.push(folder.display().to_string());
        words.extend(["--part".to_owned(), part.name()]);
        words.extend(["--device".to_owned(), order.choice.device.to_string()]);
        words.extend(["--threads".to_owned(), needs.cpus.max(1).to_string()]);
        words.extend(order.choice.offline.then(|| "--offline".to_owned()));
        words.push(TASK.to_owned());
        let job = Job {
            name: job_name(sweep),
            comment: submission.comment(part),
            tasks,
            cap: options.cap.or_else(|| local_cap(submission, needs.cpus)),
            after: Vec::new(),
            command: words,
            script: folder.join(format!("{}.sh", part.name())),
            log: folder
                .join("logs")
                .join(format!("{}-{TASK}.out", part.name()))
                .display()
                .to_string(),
            directory: directory.clone(),
            needs,
            setup: options.setup.clone(),
            options: passed_on,
            extra: options.extra.clone(),
        };
        (part, job)
    };
    Ok(parts
        .into_iter()
        .filter(|(_, tasks, _)| *tasks > 0)
        .map(job)
        .collect())
}

/// What each stage that is to run asks for; of variants of one stage, the largest.
fn stage_needs(view: &View, open: &[usize], options: &JobOptions) -> BTreeMap<String, JobNeeds> {
    let graph = &view.session.graph;
    let mut needs: BTreeMap<String, JobNeeds> = BTreeMap::new();
    let stages: BTreeSet<StageId> = open
        .iter()
        .flat_map(|place| view.roster.stages(*place))
        .copied()
        .collect();
    for stage in stages
        .into_iter()
        .filter(|stage| view.plan.stage(*stage).hit().is_none())
    {
        let (own, _) = options.for_job(Part::Trials, &[stage], graph, &view.declared);
        let known = needs
            .entry(plain_name(graph, stage).to_owned())
            .or_insert(own);
        known.cpus = known.cpus.max(own.cpus);
        known.gpus = known.gpus.max(own.gpus);
        known.memory = known.memory.max(own.memory);
    }
    needs
}

/// Processes of one machine share its processors.
fn local_cap(submission: &Submission, cpus: usize) -> Option<usize> {
    let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (submission.backend == "local").then(|| (all / cpus.max(1)).max(1))
}
