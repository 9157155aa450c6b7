//! What a record says of its stages' names: the stage in the file, the axes, and, where the run is of a sweep, the trials that
//! stand on a stage with their own parameters. Everything that shows a run asks here, so that no trial is shown with the
//! values of another.

use indexmap::{IndexMap, IndexSet};
use serde_json::Value;

use super::run::{RunRecord, SweepMember};

impl RunRecord {
    /// The trials of a sweep that the run carried out; none for another run.
    pub fn trials(&self) -> &[SweepMember] {
        match &self.sweep {
            Some(sweep) => &sweep.members,
            None => &[],
        }
    }

    /// All parameters of a trial.
    pub fn params_of_trial(&self, trial: &SweepMember) -> IndexMap<String, Value> {
        let mut params = self.params.clone();
        if trial.seed.is_some() {
            params.extend(trial.params.clone());
        } else {
            // Earlier versions kept only what was set.
            for (name, text) in &trial.overrides {
                if let Some(value) = params.get_mut(plain(name)) {
                    *value = value_of(text);
                }
            }
        }
        params
    }

    /// The pipeline's seed in a trial.
    pub fn seed_of_trial(&self, trial: &SweepMember) -> u64 {
        if let Some(seed) = trial.seed {
            return seed;
        }
        // What was set last counts.
        let mut set = trial.overrides.iter().rev();
        let text = set.find(|(name, _)| name == "seed").map(|(_, text)| text);
        text.and_then(|text| text.parse().ok()).unwrap_or(self.seed)
    }

    /// What was set for a trial besides parameters of the pipeline, such as `model.with.batch`; and all parameters.
    fn values_of_trial(&self, trial: &SweepMember) -> IndexMap<String, Value> {
        let mut values = self.params_of_trial(trial);
        for (name, text) in trial.overrides.iter().filter(|(name, _)| name != "seed") {
            values
                .entry(plain(name).to_owned())
                .or_insert_with(|| value_of(text));
        }
        values
    }

    /// A parameter of a trial, or another value that the sweep set, by its name.
    pub fn value_of_trial(&self, trial: &SweepMember, name: &str) -> Option<Value> {
        // The short way for records that hold all parameters of a trial.
        if trial.seed.is_some()
            && let Some(value) = trial.params.get(name).or_else(|| self.params.get(name))
        {
            return Some(value.clone());
        }
        self.values_of_trial(trial).shift_remove(name)
    }

    /// Names of values in which trials of the run differ, those that the sweep set first. The seed is not among them.
    pub fn varied(&self) -> Vec<String> {
        let (mut all, mut names) = (Vec::new(), IndexSet::new());
        for trial in self.trials() {
            all.push(self.values_of_trial(trial));
            names.extend(
                trial
                    .overrides
                    .iter()
                    .map(|(name, _)| plain(name).to_owned()),
            );
        }
        for values in &all {
            names.extend(values.keys().cloned());
        }
        names.shift_remove("seed");
        names.retain(|name| {
            let mut pairs = all.windows(2);
            pairs.any(|pair| pair[0].get(name) != pair[1].get(name))
        });
        // A parameter that is a map differs where one of its entries was set: the entry says all.
        let mut varied: Vec<String> = names.iter().cloned().collect();
        varied.retain(|name| {
            let inside = format!("{name}.");
            !names.iter().any(|other| other.starts_with(&inside))
        });
        varied
    }

    /// Parameters that are the same in all trials; all of them for a run that is not of a sweep.
    pub fn common_params(&self) -> IndexMap<String, Value> {
        let mut common = self.params.clone();
        for trial in self.trials() {
            if trial.seed.is_some() {
                common.retain(|name, value| trial.params.get(name).is_none_or(|own| own == value));
            } else {
                let params = self.params_of_trial(trial);
                common.retain(|name, value| params.get(name) == Some(value));
            }
        }
        common
    }

    /// The seed, if all trials have the same.
    pub fn common_seed(&self) -> Option<u64> {
        if self.trials().is_empty() {
            return Some(self.seed);
        }
        agreed(self.trials().iter().map(|trial| self.seed_of_trial(trial)))
    }

    /// The trials that stand on a stage of the record.
    pub fn trials_of(&self, stage: &str) -> Vec<&SweepMember> {
        let trials = self.trials();
        match self.instances.get(stage) {
            Some(instance) if !instance.members.is_empty() => {
                let members = instance.members.iter();
                members.filter_map(|place| trials.get(*place)).collect()
            }
            Some(_) => trials.iter().collect(),
            // Earlier versions kept only names, which say the first trial.
            None => {
                let label = label_in(stage);
                let stands_on =
                    |trial: &&SweepMember| label.is_none_or(|label| trial.label == label);
                trials.iter().filter(stands_on).collect()
            }
        }
    }

    /// A value by its name, as all trials that stand on a stage have it: `None` if they do not agree, since then the stage does
    /// not depend on it, or if there is no such value.
    pub fn value_at(&self, stage: &str, name: &str) -> Option<Value> {
        let trials = self.trials_of(stage);
        if trials.is_empty() {
            return self.params.get(name).cloned();
        }
        let values = trials.into_iter();
        agreed(values.map(|trial| self.value_of_trial(trial, name))).flatten()
    }

    /// [`Self::value_at`] for the seed.
    pub fn seed_at(&self, stage: &str) -> Option<u64> {
        let trials = self.trials_of(stage);
        if trials.is_empty() {
            return Some(self.seed);
        }
        agreed(trials.into_iter().map(|trial| self.seed_of_trial(trial)))
    }

    /// The stage in the file that a name belongs to.
    pub fn stage_at<'a>(&'a self, stage: &'a str) -> &'a str {
        match self.instances.get(stage) {
            Some(instance) => &instance.stage,
            None => stage.split(['[', '#']).next().unwrap_or(stage),
        }
    }

    /// The values of the axes of an instance.
    pub fn axes_at(&self, stage: &str) -> IndexMap<String, Value> {
        match self.instances.get(stage) {
            Some(instance) => instance.axes.clone(),
            None => axes_in(stage).into_iter().collect(),
        }
    }

    /// The name of an instance within its trial: `model[a=1]` for `model[a=1]#7`.
    pub fn name_in_trial<'a>(&self, stage: &'a str) -> &'a str {
        if self.trials().is_empty() {
            return stage;
        }
        without_label(stage)
    }
}

/// The value that all of them are; `None` if they differ, or there are none.
fn agreed<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

/// The name of a parameter without the word that may stand before it.
fn plain(name: &str) -> &str {
    name.strip_prefix("params.").unwrap_or(name)
}

/// A value as it was set, which is JSON unless a person wrote it.
fn value_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// The label of a trial behind the name of a stage: `7,seed=2` in `model[v=#1]#7,seed=2`.
fn label_in(stage: &str) -> Option<&str> {
    let end = stage.rfind(']').map_or(0, |bracket| bracket + 1);
    stage[end..].split_once('#').map(|(_, label)| label)
}

/// The name of a stage without the label of a trial.
fn without_label(stage: &str) -> &str {
    match label_in(stage) {
        Some(label) => &stage[..stage.len() - label.len() - 1],
        None => stage,
    }
}

/// The axes in the name of an instance, as far as a name says: records of earlier versions have nothing else.
fn axes_in(stage: &str) -> Vec<(String, Value)> {
    let Some((_, rest)) = without_label(stage).split_once('[') else {
        return Vec::new();
    };
    let Some(inner) = rest.strip_suffix(']') else {
        return Vec::new();
    };
    let (mut parts, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0_usize, false);
    for (position, character) in inner.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth = depth.saturating_sub(1),
            ',' if depth == 0 && !quoted => {
                parts.push(&inner[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let mut axes = Vec::new();
    for (name, value) in parts.into_iter().filter_map(|part| part.split_once('=')) {
        axes.push((name.to_owned(), Value::from(value)));
    }
    axes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Instance, RunId, RunStatus, SweepPart};

    fn member(
        label: &str,
        overrides: &[(&str, &str)],
        params: &[(&str, Value)],
        seed: Option<u64>,
    ) -> SweepMember {
        SweepMember {
            label: label.to_owned(),
            overrides: overrides
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
            targets: Vec::new(),
            params: params
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            seed,
        }
    }

    fn record(members: Vec<SweepMember>, instances: &[(&str, Instance)]) -> RunRecord {
        RunRecord {
            run: RunId("r".into()),
            pipeline: "p".into(),
            file: "p.yaml".into(),
            status: RunStatus::Done,
            started: 0,
            seconds: 0.0,
            command: Vec::new(),
            profile: None,
            overrides: Vec::new(),
            targets: Vec::new(),
            sweep: Some(SweepPart {
                pipeline: "p.yaml".into(),
                members,
            }),
            params: IndexMap::from([
                ("x".into(), 5.into()),
                ("y".into(), 10.into()),
                ("z".into(), 1.into()),
            ]),
            seed: 3,
            environment: IndexMap::new(),
            pipeline_files: Vec::new(),
            instances: instances
                .iter()
                .map(|(name, instance)| ((*name).to_owned(), instance.clone()))
                .collect(),
            stages: Vec::new(),
            metrics: IndexMap::new(),
            previous: None,
            seal: None,
        }
    }

    #[test]
    fn every_trial_has_its_own_values() {
        let members = vec![
            member("1", &[("x", "5"), ("model.with.batch", "8")], &[], Some(3)),
            member(
                "2",
                &[("params.x", "7"), ("model.with.batch", "8")],
                &[("x", 7.into()), ("y", 14.into())],
                Some(3),
            ),
        ];
        let two = |places: &[usize]| Instance {
            stage: "it".into(),
            axes: IndexMap::new(),
            members: places.to_vec(),
        };
        let record = record(
            members,
            &[
                ("it#1", two(&[0])),
                ("it#2", two(&[1])),
                ("half", two(&[0, 1])),
            ],
        );
        assert_eq!(record.varied(), ["x", "y"]);
        assert_eq!(
            record.common_params(),
            IndexMap::from([("z".to_owned(), Value::from(1))])
        );
        let values = |stage: &str| {
            ["x", "y", "z", "model.with.batch"].map(|name| record.value_at(stage, name))
        };
        assert_eq!(
            values("it#1"),
            [5, 10, 1, 8].map(|value| Some(value.into()))
        );
        assert_eq!(
            values("it#2"),
            [7, 14, 1, 8].map(|value| Some(value.into()))
        );
        assert_eq!(values("half"), [None, None, Some(1.into()), Some(8.into())]);
        assert_eq!(
            (
                record.common_seed(),
                record.stage_at("it#2"),
                record.name_in_trial("it#2")
            ),
            (Some(3), "it", "it")
        );
    }

    #[test]
    fn records_of_earlier_versions_say_what_was_set() {
        let members = vec![
            member("1,seed=4", &[("x", "5"), ("seed", "4")], &[], None),
            member("1,seed=9", &[("x", "5"), ("seed", "9")], &[], None),
        ];
        let record = record(members, &[]);
        assert!(record.varied().is_empty());
        assert_eq!(
            (record.common_seed(), record.seed_at("it[v=#1]#1,seed=9")),
            (None, Some(9))
        );
        assert_eq!(record.value_at("it#1,seed=4", "x"), Some(5.into()));
        assert_eq!(record.name_in_trial("it[v=#1]#1,seed=9"), "it[v=#1]");
    }

    #[test]
    fn axes_are_read_from_names_where_nothing_else_says_them() {
        let pairs = |stage: &str| -> Vec<String> {
            axes_in(stage)
                .into_iter()
                .map(|(name, value)| format!("{name}:{}", value.as_str().unwrap()))
                .collect()
        };
        assert_eq!(
            pairs("model[method=zscore,lr=1.0e-2]#3"),
            ["method:zscore", "lr:1.0e-2"]
        );
        assert_eq!(
            pairs("m[kernels=[3, 5],x={a: 1, b: 2},s=\"a,b\"]"),
            ["kernels:[3, 5]", "x:{a: 1, b: 2}", "s:\"a,b\""]
        );
        assert!(pairs("model").is_empty() && pairs("model[").is_empty());
    }
}
