//! What was submitted to clusters: the submissions of a sweep, and the tasks of them that backends know of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

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
    /// What the sweep was opened with: members submitted with something else are others, whatever their values.
    profile: Option<String>,
    overrides: Vec<(String, String)>,
}

impl Queue {
    /// Asks every backend to which something of the sweep was submitted. One that does not answer is reported and left out.
    pub fn of(sweep: &Sweep) -> Self {
        let (queue, silent) = Self::ask(sweep);
        for (backend, reason) in silent {
            let warning = format!("{backend} cannot be asked: {reason}");
            sweep.project.listener.warning(&warning);
        }
        queue
    }

    /// [`Self::of`] before something is submitted: what cannot be seen in a queue might be submitted twice.
    ///
    /// # Errors
    /// If a backend does not answer.
    pub fn surely_of(sweep: &Sweep) -> Result<Self, Error> {
        let (queue, silent) = Self::ask(sweep);
        match silent.first() {
            None => Ok(queue),
            Some((backend, reason)) => {
                let message =
                    format!("{backend} cannot be asked what is queued or running: {reason}");
                Err(Error::failed(message).hint("nothing was submitted; try again when it answers"))
            }
        }
    }

    /// What backends know, and those that do not answer, with the reason.
    fn ask(sweep: &Sweep) -> (Self, Vec<(String, String)>) {
        let folder = submissions_of(sweep);
        let mut queue = Self {
            submissions: Submission::all(sweep.store.layout(), &folder),
            folder,
            tasks: Vec::new(),
            profile: sweep.file.profile.clone(),
            overrides: sweep.choice.overrides().unwrap_or_default(),
        };
        let (name, scripts) = (job_name(sweep), queue.scripts());
        let mut silent = Vec::new();
        for (backend_name, backend) in queue.backends() {
            match backend.tasks(&name, &scripts) {
                Ok(found) => queue.tasks.extend(found),
                Err(trouble) => silent.push((backend_name, trouble.message().to_owned())),
            }
        }
        for submission in &queue.submissions {
            if find_backend(&submission.backend).is_err() {
                let warning = format!(
                    "`{}` was submitted to `{}`, which this program does not know: its tasks are not seen",
                    submission.id, submission.backend
                );
                sweep.project.listener.warning(&warning);
            }
        }
        // Names of submissions begin with their time.
        queue.tasks.sort_by(|left, right| {
            (&left.comment, left.number).cmp(&(&right.comment, right.number))
        });
        (queue, silent)
    }

    /// The backends to which something of the sweep was submitted, by name. One that only another version of the program
    /// knows is left out: nobody here can ask it.
    fn backends(&self) -> BTreeMap<String, ChosenBackend> {
        let mut backends = BTreeMap::new();
        for submission in &self.submissions {
            if let Ok(backend) = find_backend(&submission.backend) {
                backends.insert(submission.backend.clone(), backend);
            }
        }
        backends
    }

    /// Members in tasks of these states, by their values: numbers of trials may have changed with the file.
    pub fn members(&self, states: &[TaskState]) -> BTreeSet<Vec<(String, String)>> {
        let mut found = BTreeSet::new();
        for task in &self.tasks {
            if states.contains(&task.state) {
                let members = self.trials_of(task).iter();
                found.extend(members.map(|member| member.overrides.clone()));
            }
        }
        found
    }

    /// How the last task of a member ended, if it did not finish, by the member's values.
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
pub(super) fn job_name(sweep: &Sweep) -> String {
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
        let mut ended = 0;
        for backend in self.backends().values() {
            ended += backend.cancel(&job_name(sweep), &self.scripts())?;
        }
        Ok(ended)
    }

    /// The logs that exist: of all tasks, or of those with a trial that has these values.
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
