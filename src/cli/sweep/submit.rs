//! `runner sweep FILE --on BACKEND`: hands what is missing of a sweep to a cluster, and leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;

use clap::ValueEnum;

use super::super::session::shown;
use super::super::{CliError, Exit, Global};
use super::RunArguments;
use super::campaign::{Campaign, View};
use crate::diagnostic::counted;
use crate::engine::Failure;
use crate::graph::StageId;
use crate::sweep::{
    Backend, EngineOptions, Job, JobId, JobNeeds, Part, Sampler, Stand, Submission, TASK, Task,
    TaskState, UnitMember, Wave, backend, backends, label, overrides, plain_name, read_comment,
    shared_waves, sweep_folder, sweep_id, task_count,
};
use crate::ui::{Paint, out, outln, print_json};

/// The backend of a name on the command line.
pub(super) fn find_backend(name: &str) -> Result<Box<dyn Backend>, CliError> {
    backend(name).ok_or_else(|| {
        let known: Vec<&str> = backends().iter().map(|backend| backend.name()).collect();
        CliError::wrong(format!("there is no backend `{name}`"))
            .hint(format!("there are {}", known.join(" and ")))
    })
}

/// A sweep's submissions and the tasks of them that its backends know of.
pub(super) struct Queue {
    pub folder: PathBuf,
    pub submissions: Vec<Submission>,
    /// Oldest first.
    pub tasks: Vec<Task>,
    /// With what the sweep is asked for: members of other submissions are others, whatever their values.
    profile: Option<String>,
    overrides: Vec<(String, String)>,
}

impl Queue {
    /// Asks every backend to which something of the sweep was handed; one that cannot be asked is told of and left out.
    pub fn of(campaign: &Campaign) -> Self {
        let asked: Result<Self, std::convert::Infallible> =
            Self::ask(campaign, |backend, failure| {
                tracing::warn!("{backend} cannot be asked: {}", failure.message);
                Ok(())
            });
        asked.unwrap_or_else(|never| match never {})
    }

    /// The same for whoever would hand in twice what he does not see.
    ///
    /// # Errors
    /// If a backend cannot be asked.
    pub fn surely_of(campaign: &Campaign) -> Result<Self, CliError> {
        Self::ask(campaign, |backend, failure| {
            let message = format!(
                "{backend} cannot be asked what is queued or running: {}",
                failure.message
            );
            Err(CliError::failed(message).hint("nothing was submitted; try again when it answers"))
        })
    }

    fn ask<E>(
        campaign: &Campaign,
        troubled: impl Fn(&str, Failure) -> Result<(), E>,
    ) -> Result<Self, E> {
        let folder = submissions_of(campaign);
        let submissions = Submission::all(campaign.store.layout(), &folder);
        let scripts: Vec<PathBuf> = submissions
            .iter()
            .map(|submission| submission.folder(&folder))
            .collect();
        let names: BTreeSet<&str> = submissions
            .iter()
            .map(|submission| submission.backend.as_str())
            .collect();
        let mut tasks = Vec::new();
        for backend in names.into_iter().filter_map(backend) {
            match backend.tasks(&job_name(campaign), &scripts) {
                Ok(found) => tasks.extend(found),
                Err(failure) => troubled(backend.name(), failure)?,
            }
        }
        // Names of submissions begin with their time.
        tasks.sort_by(|left: &Task, right| {
            (&left.comment, left.number).cmp(&(&right.comment, right.number))
        });
        let overrides = campaign.choice.overrides().unwrap_or_default();
        Ok(Self {
            folder,
            submissions,
            tasks,
            profile: campaign.file.profile.clone(),
            overrides,
        })
    }

    /// Members in tasks of these states, by their values: numbers of trials may have changed with the file.
    pub fn members(&self, states: &[TaskState]) -> BTreeSet<Vec<(String, String)>> {
        let mut found = BTreeSet::new();
        for task in self
            .tasks
            .iter()
            .filter(|task| states.contains(&task.state))
        {
            found.extend(
                self.trials_of(task)
                    .iter()
                    .map(|member| member.overrides.clone()),
            );
        }
        found
    }

    /// How the last task of members ended that did not come to its end, by the members' values.
    pub fn lost(&self) -> BTreeMap<Vec<(String, String)>, String> {
        let mut lost = BTreeMap::new();
        for task in &self.tasks {
            let said = (task.state == TaskState::Failed)
                .then(|| format!("job {}, task {}: {}", task.job.0, task.number, task.detail));
            for member in self.trials_of(task) {
                match &said {
                    Some(said) => lost.insert(member.overrides.clone(), said.clone()),
                    None => lost.remove(&member.overrides),
                };
            }
        }
        lost
    }

    /// The members of a task of trials.
    fn trials_of(&self, task: &Task) -> &[UnitMember] {
        let Some((id, Part::Trials)) = read_comment(&task.comment) else {
            return &[];
        };
        let is_same = |submission: &&Submission| {
            submission.id == id
                && submission.profile == self.profile
                && submission.overrides == self.overrides
        };
        let submission = self.submissions.iter().find(is_same);
        let unit = submission.and_then(|submission| submission.trials.get(task.number));
        unit.map_or(&[], |unit| &unit.members)
    }

    pub fn count(&self, state: TaskState) -> usize {
        self.tasks.iter().filter(|task| task.state == state).count()
    }

    pub fn scripts(&self) -> Vec<PathBuf> {
        self.submissions
            .iter()
            .map(|submission| submission.folder(&self.folder))
            .collect()
    }
}

/// The folder of a sweep's submissions.
fn submissions_of(campaign: &Campaign) -> PathBuf {
    sweep_folder(campaign.store.layout(), &campaign.file.name, &campaign.name)
}

/// The name of all jobs of a sweep.
pub(super) fn job_name(campaign: &Campaign) -> String {
    format!("runner-{}", sweep_id(&campaign.file.name, &campaign.name))
}

/// Submits what is missing and not under way. `before` are the submissions that led here, all of whose tasks are over.
pub(super) fn submit(
    global: &Global,
    campaign: &mut Campaign,
    arguments: &RunArguments,
    backend: &dyn Backend,
    before: &[Submission],
) -> Result<Exit, CliError> {
    // One at a time: two who see the same queue would both hand in what is missing in it.
    let _turn = turn(campaign, arguments.dry_run)?;
    let queue = Queue::surely_of(campaign)?;
    let under_way = queue.members(&[TaskState::Waiting, TaskState::Running]);
    // By their values: numbers of trials may have changed with the file.
    let ended: BTreeSet<&Vec<(String, String)>> = before
        .iter()
        .flat_map(Submission::members)
        .map(|member| &member.overrides)
        .collect();
    let view = campaign.view_where(global, |values, _| {
        ended.contains(values) && !under_way.contains(values)
    })?;
    if view.progress.open.is_empty() {
        let board = campaign.board(&view, &queue)?;
        if global.json {
            print_json(
                &serde_json::json!({"submission": null, "jobs": {}, "members": [], "under_way": 0}),
            );
        } else {
            outln!(
                "nothing to submit: {}",
                super::board::summary(campaign, &board, &view)
            );
        }
        return Ok(Exit::Done);
    }
    let is_open = |place: &usize| {
        let member = &view.roster.members[*place];
        let values = || overrides(&campaign.file, &view.progress.points[member.trial], member);
        view.progress.open.contains(member) && !under_way.contains(&values())
    };
    let open: Vec<usize> = (0..view.roster.members.len()).filter(is_open).collect();
    if open.is_empty() {
        let count = view.progress.open.len();
        if global.json {
            print_json(
                &serde_json::json!({"submission": null, "jobs": {}, "members": [], "under_way": count}),
            );
        } else {
            outln!("nothing to submit: all {count} open members are queued or running");
        }
        return Ok(Exit::Done);
    }
    let options = EngineOptions::of(&campaign.file)
        .map_err(|(name, hint)| CliError::wrong(name).hint(hint))?;
    let tasks = task_count(open.len(), &options, backend.largest_array());
    let graph = &view.session.graph;
    let waves = shared_waves(&view.roster, graph, &view.plan, &open);
    let mut submission = Submission::new(
        &campaign.file,
        &campaign.name,
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
    submission.texts = campaign.texts(&view);
    submission.overrides = arguments.choice.overrides()?;
    submission.targets.clone_from(&arguments.choice.targets);
    submission.before = before.iter().map(|before| before.id.clone()).collect();
    let parts = parts_of(campaign, &view, &submission, &waves, &open);
    let jobs = jobs(
        global,
        campaign,
        arguments,
        &view,
        &submission,
        parts,
        &options,
    )?;
    submission.needs = jobs
        .iter()
        .map(|(part, job)| (part.name(), job.needs))
        .collect();
    submission.stage_needs = stage_needs(&view, &open, &options);
    let checked = jobs.iter().try_for_each(|(_, job)| backend.check(job));
    if !arguments.dry_run {
        checked?;
    } else if let Err(failure) = checked {
        tracing::warn!("it would be refused: {}", failure.message);
    }
    if arguments.dry_run {
        let mut earlier = Vec::new();
        for (part, mut job) in jobs {
            job.after.clone_from(&earlier);
            outln!("# {}: {}", part.name(), shown(&job.script));
            out!("{}\n", backend.script(&job));
            earlier.push(JobId(format!(
                "JOB_OF_{}",
                part.name().to_uppercase().replace('-', "_")
            )));
        }
        return Ok(Exit::Done);
    }
    let layout = campaign.store.layout();
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
                        failure.message
                    );
                }
                let _ = layout.remove(&submission.folder(&queue.folder));
                return Err(failure.into());
            }
        }
    }
    tell(
        global,
        campaign,
        &view,
        &submission,
        &submitted,
        &open,
        backend,
    );
    Ok(Exit::Done)
}

/// Waits until nobody else submits for this sweep, and keeps others waiting as long as the value lives.
fn turn(campaign: &Campaign, rehearse: bool) -> Result<Option<File>, CliError> {
    if rehearse {
        return Ok(None);
    }
    let path = submissions_of(campaign).join("lock");
    let file = campaign.store.layout().append(&path)?;
    let locked = rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive);
    let locked = locked
        .map_err(|error| CliError::failed(format!("cannot lock {}: {error}", path.display())));
    locked.map(|()| Some(file))
}

/// The parts of a submission with the number of their tasks and the stages that they run.
fn parts_of(
    campaign: &Campaign,
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
        campaign.file.stopping.is_some() || matches!(campaign.file.sampler, Sampler::Tpe { .. });
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
    global: &Global,
    campaign: &Campaign,
    arguments: &RunArguments,
    view: &View,
    submission: &Submission,
    parts: Vec<(Part, usize, Vec<StageId>)>,
    options: &EngineOptions,
) -> Result<Vec<(Part, Job)>, CliError> {
    let program = std::env::current_exe()
        .map_err(|error| CliError::failed(format!("where am I? {error}")))?;
    let folder = submission.folder(&submissions_of(campaign));
    let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let job = |(part, tasks, stages): (Part, usize, Vec<StageId>)| {
        let (needs, passed_on) =
            options.for_job(part, &stages, &view.session.graph, &view.declared);
        let mut words = vec![program.display().to_string(), "--store".to_owned()];
        let store = campaign
            .store
            .layout()
            .root()
            .parent()
            .map_or_else(PathBuf::new, PathBuf::from);
        words.push(store.display().to_string());
        words.extend(
            global
                .remote
                .iter()
                .flat_map(|url| ["--remote".to_owned(), url.clone()]),
        );
        if let Some(mode) = global.remote_mode.and_then(|mode| mode.to_possible_value()) {
            words.extend(["--remote-mode".to_owned(), mode.get_name().to_owned()]);
        }
        words.extend(["sweep", "work", "--folder"].map(str::to_owned));
        words.push(folder.display().to_string());
        words.extend(["--part".to_owned(), part.name()]);
        words.extend(["--device".to_owned(), arguments.choice.device.to_string()]);
        words.extend(["--threads".to_owned(), needs.cpus.max(1).to_string()]);
        words.extend(arguments.choice.offline.then(|| "--offline".to_owned()));
        words.push(TASK.to_owned());
        let job = Job {
            name: job_name(campaign),
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
fn stage_needs(view: &View, open: &[usize], options: &EngineOptions) -> BTreeMap<String, JobNeeds> {
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

fn tell(
    global: &Global,
    campaign: &Campaign,
    view: &View,
    submission: &Submission,
    submitted: &[(Part, JobId)],
    open: &[usize],
    backend: &dyn Backend,
) {
    let parts = submitted.iter();
    if global.json {
        let jobs: serde_json::Map<String, serde_json::Value> = parts
            .map(|(part, JobId(id))| (part.name(), id.clone().into()))
            .collect();
        let members: Vec<String> = open
            .iter()
            .map(|place| label(&campaign.file, &view.roster.members[*place]))
            .collect();
        print_json(
            &serde_json::json!({"submission": submission.id, "backend": backend.name(), "jobs": jobs, "members": members}),
        );
        return;
    }
    let jobs: Vec<String> = parts
        .map(|(part, JobId(id))| match part {
            Part::Next => format!("{id} ({})", part.name()),
            _ => format!(
                "{id} ({}, {})",
                part.name(),
                counted(submission.units(*part).len(), "task")
            ),
        })
        .collect();
    outln!(
        "{} {} members to {} as jobs {}",
        Paint::Good.on("submitted"),
        open.len(),
        backend.name(),
        jobs.join(", ")
    );
    let file = shown(&campaign.file.path);
    outln!("see how it goes: `runner sweep status {file}`; end it: `runner sweep cancel {file}`");
}
