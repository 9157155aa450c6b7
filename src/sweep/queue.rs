//! What was handed to clusters: the submissions of a sweep, and the tasks of them that backends know of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use contract::Trouble;

use super::opened::Sweep;
use super::{
    BACKENDS, ChosenBackend, Part, Submission, Task, TaskState, UnitMember, read_comment,
    sweep_folder, sweep_id,
};
use crate::project::Error;

/// The backend of a name.
///
/// # Errors
/// If there is none; the hint lists those that there are.
pub fn find_backend(name: &str) -> Result<ChosenBackend, Error> {
    ChosenBackend::plain(name).map_err(|_| {
        let known: Vec<&str> = BACKENDS.entries().map(|entry| entry.name).collect();
        Error::wrong(format!("there is no backend `{name}`"))
            .hint(format!("there are {}", known.join(" and ")))
    })
}

/// A sweep's submissions and the tasks of them that its backends know of.
pub struct Queue {
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
    pub fn of(sweep: &Sweep) -> Self {
        let asked: Result<Self, std::convert::Infallible> = Self::ask(sweep, |backend, failure| {
            tracing::warn!("{backend} cannot be asked: {}", failure.message());
            Ok(())
        });
        asked.unwrap_or_else(|never| match never {})
    }

    /// The same for whoever would hand in twice what he does not see.
    ///
    /// # Errors
    /// If a backend cannot be asked.
    pub fn surely_of(sweep: &Sweep) -> Result<Self, Error> {
        Self::ask(sweep, |backend, failure| {
            let message = format!(
                "{backend} cannot be asked what is queued or running: {}",
                failure.message()
            );
            Err(Error::failed(message).hint("nothing was submitted; try again when it answers"))
        })
    }

    fn ask<E>(sweep: &Sweep, troubled: impl Fn(&str, Trouble) -> Result<(), E>) -> Result<Self, E> {
        let folder = submissions_of(sweep);
        let submissions = Submission::all(sweep.store.layout(), &folder);
        let scripts: Vec<PathBuf> = submissions
            .iter()
            .map(|submission| submission.folder(&folder))
            .collect();
        let names: BTreeSet<&str> = submissions
            .iter()
            .map(|submission| submission.backend.as_str())
            .collect();
        let mut tasks = Vec::new();
        for name in names {
            // A submission of a program that knew another backend: nobody here can ask for it.
            let Ok(backend) = find_backend(name) else {
                continue;
            };
            match backend.tasks(&job_name(sweep), &scripts) {
                Ok(found) => tasks.extend(found),
                Err(failure) => troubled(name, failure)?,
            }
        }
        // Names of submissions begin with their time.
        tasks.sort_by(|left: &Task, right| {
            (&left.comment, left.number).cmp(&(&right.comment, right.number))
        });
        let overrides = sweep.choice.overrides().unwrap_or_default();
        Ok(Self {
            folder,
            submissions,
            tasks,
            profile: sweep.file.profile.clone(),
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
pub(super) fn submissions_of(sweep: &Sweep) -> PathBuf {
    sweep_folder(sweep.store.layout(), &sweep.file.name, &sweep.name)
}

/// The name of all jobs of a sweep.
pub fn job_name(sweep: &Sweep) -> String {
    format!("runner-{}", sweep_id(&sweep.file.name, &sweep.name))
}

/// A log of a task, and the labels of the members in it.
pub type Log = (PathBuf, Vec<String>);

impl Queue {
    /// Ends all jobs of the sweep. Gives how many were ended.
    ///
    /// # Errors
    /// If a backend cannot be asked.
    pub fn cancel(&self, sweep: &Sweep) -> Result<usize, Error> {
        let mut names = BTreeSet::new();
        for submission in &self.submissions {
            names.insert(submission.backend.as_str());
        }
        let mut ended = 0;
        for name in names {
            // A submission of a program that knew another backend: nobody here can ask for it.
            let Ok(backend) = find_backend(name) else {
                continue;
            };
            ended += backend.cancel(&job_name(sweep), &self.scripts())?;
        }
        Ok(ended)
    }

    /// The logs that are there: of all tasks, or of those with a trial that has these values.
    pub fn logs(&self, sweep: &Sweep, point: Option<&[(String, String)]>) -> Vec<Log> {
        let mut found = Vec::new();
        for submission in &self.submissions {
            let folder = submission.folder(&self.folder).join("logs");
            for part in submission.parts() {
                let units = submission.units(part);
                let tasks = if part == Part::Next { 1 } else { units.len() };
                for number in 0..tasks {
                    let members = units.get(number).map_or(&[][..], |unit| &unit.members);
                    let is_meant = match point {
                        None => true,
                        Some(point) => {
                            part == Part::Trials && members.iter().any(|one| has_point(one, point))
                        }
                    };
                    let path = folder.join(format!("{}-{number}.out", part.name()));
                    if is_meant && sweep.store.layout().holds(&path) {
                        let labels = members.iter().map(|member| member.label.clone());
                        found.push((path, labels.collect()));
                    }
                }
            }
        }
        found
    }
}

/// Whether a member has these values; it may have a seed and a level besides.
fn has_point(member: &UnitMember, point: &[(String, String)]) -> bool {
    point.iter().all(|pair| member.overrides.contains(pair))
}
