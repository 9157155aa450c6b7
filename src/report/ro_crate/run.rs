//! The run as a whole: the engine, who started it, its machine, and the parameters of the pipeline with their values.

use serde_json::{Value, json};

use super::entities::{data_type, link};
use super::{ENGINE, ORGANIZE, RUN, Writer, status, time};
use crate::cache::RunStatus;
use crate::report::StageHistory;
use crate::report::names::{encoded, text_of};

const SEED: &str = "seed";

impl Writer<'_> {
    /// The run as a whole, the engine, and who started it.
    pub fn run(&mut self) {
        let (history, record) = (self.history, self.history.record);
        let version = history.runner_version();
        let engine = json!({
            "@type": "SoftwareApplication",
            "name": "runner",
            "softwareVersion": version,
            "description": "A declarative experiment runner for time-series machine learning",
        });
        self.entities.add(ENGINE, engine);
        if let Some(user) = history.user() {
            let id = format!("#person-{}", encoded(user));
            let person = json!({"@type": "Person", "name": user});
            self.entities.add(&id, person);
            self.entities.set("./", "author", link(&id));
            self.agent = Some(id);
        }
        let agent = self.agent.as_deref().map(link);
        let ended = history.ended().map(time);
        let organize = json!({
            "@type": "OrganizeAction",
            "name": format!("Execution of runner {version}"),
            "agent": agent,
            "instrument": link(ENGINE),
            "object": [],
            "result": link(RUN),
            "startTime": time(record.started),
            "endTime": ended,
        });
        let environment = |name: &str| history.environment(name).unwrap_or("unknown");
        let run = json!({
            "@type": "CreateAction",
            "name": format!("Run {} of {}", record.run, record.pipeline),
            "description": format!(
                "{} (on {}, {} {}, device {}, numeric class {})",
                record.command.join(" "), environment("processor"), environment("system"), environment("release"),
                environment("device"), environment("numeric_class"),
            ),
            "identifier": record.run.0,
            "agent": agent,
            "instrument": link(&self.main),
            "object": [], "result": [], "environment": [],
            "startTime": time(record.started),
            "endTime": ended,
            "actionStatus": status(record.status == RunStatus::Done),
        });
        self.entities.add(ORGANIZE, organize);
        self.entities.add(RUN, run);
        self.entities.push("./", "mentions", ORGANIZE);
        self.params();
        let variables = record.environment.get("variables");
        for (name, value) in variables.and_then(Value::as_object).into_iter().flatten() {
            let id = format!("#variable/{}", encoded(name));
            let value = if value.is_string() {
                text_of(value)
            } else {
                "(set, its value is not kept)".to_owned()
            };
            let variable = json!({"@type": "PropertyValue", "name": name, "value": value});
            self.entities.add(&id, variable);
            self.entities.push(RUN, "environment", &id);
        }
    }

    /// The pipeline's parameters and its seed; those that trials of a sweep have of their own, by trial.
    fn params(&mut self) {
        let record = self.history.record;
        for (name, value) in record.common_params() {
            self.common_param(&name, &value);
        }
        if let Some(seed) = record.common_seed() {
            self.common_param(SEED, &seed.into());
        }
        let varied = self.varied.clone();
        for trial in record.trials() {
            for name in &varied {
                if let Some(value) = record.value_of_trial(trial, name) {
                    self.param_of_trial(&trial.label, name, &value);
                }
            }
            if record.common_seed().is_none() {
                self.param_of_trial(&trial.label, SEED, &record.seed_of_trial(trial).into());
            }
        }
    }

    fn common_param(&mut self, name: &str, value: &Value) {
        self.param(name, &format!("#param/{}", encoded(name)), value);
    }

    fn param_of_trial(&mut self, label: &str, name: &str, value: &Value) {
        let actual = in_trial(label, name);
        self.param(name, &actual, value);
        let description = format!("in the trial {label}");
        self.entities
            .set(&actual, "description", description.into());
    }

    /// A parameter of the pipeline and a value that the run gave it.
    fn param(&mut self, name: &str, actual: &str, value: &Value) {
        let formal = format!("{}#param/{}", self.main, encoded(name));
        self.value(&formal, actual, name, value);
        self.entities.push(&self.main, "input", &formal);
        self.entities.push(RUN, "object", actual);
    }

    /// Values that all trials which stand on a stage have of their own.
    pub fn values_of_trials(&self, stage: &StageHistory) -> Vec<String> {
        let record = self.history.record;
        let name = &stage.record.name;
        let trials = record.trials_of(name);
        let mut values = Vec::new();
        if let Some(first) = trials.first()
            && trials.len() < record.trials().len()
        {
            for value in &self.varied {
                if record.value_at(name, value).is_some() {
                    values.push(in_trial(&first.label, value));
                }
            }
            if record.common_seed().is_none() && record.seed_at(name).is_some() {
                values.push(in_trial(&first.label, SEED));
            }
        }
        values
    }

    /// A formal parameter and the value that it had.
    pub fn value(&mut self, formal: &str, actual: &str, name: &str, value: &Value) {
        let parameter = json!({"@type": "FormalParameter", "additionalType": [], "name": name, "workExample": []});
        self.entities.add(formal, parameter);
        self.entities
            .note(formal, "additionalType", data_type(value));
        self.entities.push(formal, "workExample", actual);
        let property = json!({
            "@type": "PropertyValue", "exampleOfWork": link(formal), "name": name, "value": text_of(value),
        });
        self.entities.add(actual, property);
    }
}

/// The value of a parameter in a trial.
fn in_trial(label: &str, name: &str) -> String {
    format!("#trial/{}/param/{}", encoded(label), encoded(name))
}
