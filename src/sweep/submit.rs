//! Submits what is missing of a sweep to a backend.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use super::opened::{Sweep, View};
use super::queue::{Queue, job_name, submissions_of};
use super::submission::task_count;
use super::waves::{Wave, plain_name, shared_waves};
use super::{
    ChosenBackend, Job, JobId, JobNeeds, JobOptions, Leaderboard, Part, Sampler, Submission, TASK,
    TaskState, label, overrides,
};
use crate::graph::StageId;
use crate::project::{Choice, Error, Project};

/// How a sweep is to be submitted.
pub struct Order {
    /// As for the sweep; its tasks get the device, and whether data may be downloaded.
    pub choice: Choice,
    /// Whether nothing is submitted, and the jobs are only given.
    pub rehearse: bool,
    /// The words of a command that does a task of a submission; its folder, part and number follow.
    pub command: Vec<String>,
}

/// The result of submitting.
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
    sweep: &mut Sweep,
    order: &Order,
    backend: &ChosenBackend,
    before: &[Submission],
) -> Result<Submitted, Error> {
    // One at a time: two who see the same queue would both submit what is missing in it.
    let _turn = turn(sweep, order.rehearse)?;
    let queue = Queue::surely_of(sweep)?;
    let under_way = queue.members(&[TaskState::Waiting, TaskState::Running]);
    // By their values: numbers of trials may have changed with the file.
    let mut ended = BTreeSet::new();
    for member in before.iter().flat_map(Submission::members) {
        ended.insert(&member.overrides);
    }
    let view =
        sweep.view_where(|values, _| ended.contains(values) && !under_way.contains(values))?;
    if view.progress.open.is_empty() {
        let board = sweep.board(&view, &queue)?;
        return Ok(Submitted::Complete(Box::new((board, view))));
    }
    let mut open = Vec::new();
    for (place, member) in view.trials.members.iter().enumerate() {
        let values = overrides(&sweep.file, &view.progress.points[member.trial], member);
        if view.progress.open.contains(member) && !under_way.contains(&values) {
            open.push(place);
        }
    }
    if open.is_empty() {
        return Ok(Submitted::UnderWay(view.progress.open.len()));
    }
    let options = sweep.file.slurm.clone();
    let tasks = task_count(open.len(), &options, backend.largest_array());
    let waves = shared_waves(&view, &open);
    let mut submission = Submission::new(sweep, backend.name(), &view, &open, &waves, tasks);
    submission.overrides = order.choice.overrides()?;
    submission.targets.clone_from(&order.choice.targets);
    submission.before = before.iter().map(|before| before.id.clone()).collect();
    let parts = parts_of(sweep, &view, &submission, &waves, &open);
    let jobs = jobs(sweep, order, &view, &submission, parts, &options);
    submission.needs = jobs
        .iter()
        .map(|(part, job)| (part.name(), job.needs))
        .collect();
    submission.stage_needs = stage_needs(&view, &open, &options);
    let checked = jobs.iter().try_for_each(|(_, job)| backend.check(job));
    if order.rehearse {
        if let Err(failure) = checked {
            let warning = format!("it would be refused: {}", failure.message());
            sweep.project.listener.warning(&warning);
        }
        return Ok(Submitted::Rehearsed(jobs));
    }
    checked?;
    let layout = sweep.store.layout();
    submission.save(layout, &queue.folder)?;
    let jobs = match submit_jobs(sweep, backend, jobs) {
        Ok(jobs) => jobs,
        Err(error) => {
            let _ = layout.remove(&submission.folder(&queue.folder));
            return Err(error);
        }
    };
    let members = open.iter().map(|place| &view.trials.members[*place]);
    Ok(Submitted::Handed(Box::new(Handed {
        labels: members.map(|member| label(&sweep.file, member)).collect(),
        submission,
        jobs,
    })))
}

/// Submits jobs, each to begin after those before it. If one is refused, all are withdrawn: half of them would wait for what
/// never comes.
fn submit_jobs(
    sweep: &Sweep,
    backend: &ChosenBackend,
    jobs: Vec<(Part, Job)>,
) -> Result<Vec<(Part, JobId)>, Error> {
    let mut submitted: Vec<JobId> = Vec::new();
    let mut parts = Vec::new();
    for (part, mut job) in jobs {
        job.after.clone_from(&submitted);
        match backend.submit(&job, sweep.store.layout()) {
            Ok(id) => {
                submitted.push(id.clone());
                parts.push((part, id));
            }
            Err(failure) => {
                if let Err(failure) = backend.withdraw(&submitted) {
                    let reason = failure.message();
                    let warning =
                        format!("jobs that were submitted could not be withdrawn: {reason}");
                    sweep.project.listener.warning(&warning);
                }
                return Err(failure.into());
            }
        }
    }
    Ok(parts)
}

/// Opens the sweep of a submission whose tasks are over, as it was submitted, to [`submit`] what comes next. Gives the
/// submissions that led there, too. `folder` is the submission's; `choice` says how its tasks are to run.
///
/// # Errors
/// If the sweep file or the store cannot be read.
pub fn open_next(
    project: &Project,
    submission: &Submission,
    folder: &Path,
    choice: Choice,
) -> Result<(Sweep, Vec<Submission>), Error> {
    let pairs = submission.overrides.iter();
    let choice = Choice {
        profile: submission.profile.clone(),
        overrides: pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        targets: submission.targets.clone(),
        ..choice
    };
    let file = &submission.file;
    let store = project.open_store(file.parent().unwrap_or(Path::new(".")))?;
    let sweep = Sweep::open_with(store, project, file, &choice, false, submission.sources())?;
    let siblings = folder.parent().unwrap_or(Path::new("."));
    let mut before = Vec::new();
    for id in &submission.before {
        before.extend(Submission::load(sweep.store.layout(), &siblings.join(id)));
    }
    before.push(submission.clone());
    Ok((sweep, before))
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

/// The parts of a submission that have tasks, with the number of them and the stages that they run.
fn parts_of(
    sweep: &Sweep,
    view: &View,
    submission: &Submission,
    waves: &[Wave],
    open: &[usize],
) -> Vec<(Part, usize, Vec<StageId>)> {
    let shared: Vec<StageId> = waves.iter().flat_map(Wave::stages).collect();
    let mut own = Vec::new();
    for place in open {
        for stage in view.trials.stages(*place) {
            if view.is_open(stage) && !shared.contains(stage) {
                own.push(*stage);
            }
        }
    }
    let is_adaptive =
        sweep.file.stopping.is_some() || matches!(sweep.file.sampler, Sampler::Tpe { .. });
    let mut parts = Vec::new();
    for part in submission.parts() {
        let (tasks, stages) = match part {
            Part::Shared(wave) => (submission.units(part).len(), waves[wave].stages().collect()),
            Part::Trials => (submission.units(part).len(), own.clone()),
            Part::Next => (usize::from(is_adaptive), own.clone()),
        };
        if tasks > 0 {
            parts.push((part, tasks, stages));
        }
    }
    parts
}

/// The jobs of a submission in their order; each comes after those before it.
fn jobs(
    sweep: &Sweep,
    order: &Order,
    view: &View,
    submission: &Submission,
    parts: Vec<(Part, usize, Vec<StageId>)>,
    options: &JobOptions,
) -> Vec<(Part, Job)> {
    let folder = submission.folder(&submissions_of(sweep));
    let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let mut jobs = Vec::with_capacity(parts.len());
    for (part, tasks, stages) in parts {
        let (needs, passed_on) =
            options.for_job(part, &stages, &view.session.graph, &view.declared);
        let mut words = order.command.clone();
        for (option, value) in [
            ("--folder", folder.display().to_string()),
            ("--part", part.name()),
            ("--device", order.choice.device.to_string()),
            ("--threads", needs.cpus.max(1).to_string()),
        ] {
            words.extend([option.to_owned(), value]);
        }
        if order.choice.offline {
            words.push("--offline".to_owned());
        }
        words.push(TASK.to_owned());
        let log = format!("{}-{TASK}.out", part.name());
        let job = Job {
            name: job_name(sweep),
            comment: submission.comment(part),
            tasks,
            cap: options.cap.or_else(|| local_cap(submission, needs.cpus)),
            after: Vec::new(),
            command: words,
            script: folder.join(format!("{}.sh", part.name())),
            log: folder.join("logs").join(log).display().to_string(),
            directory: directory.clone(),
            needs,
            setup: options.setup.clone(),
            options: passed_on,
            extra: options.extra.clone(),
        };
        jobs.push((part, job));
    }
    jobs
}

/// What each stage that is to run asks for; of variants of one stage, the largest.
fn stage_needs(view: &View, open: &[usize], options: &JobOptions) -> BTreeMap<String, JobNeeds> {
    let graph = &view.session.graph;
    let mut needs: BTreeMap<String, JobNeeds> = BTreeMap::new();
    let stages: BTreeSet<&StageId> = open
        .iter()
        .flat_map(|place| view.trials.stages(*place))
        .collect();
    for &stage in stages.into_iter().filter(|stage| view.is_open(stage)) {
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
