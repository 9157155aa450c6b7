//! A run as PROV-JSON (W3C member submission of 2013): artifacts and files are entities by their digests, executions of stages
//! are activities by their keys, the program and the person are agents.

use std::collections::BTreeSet;

use contract::artifact::Digest;
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::names::{encoded, text_of};
use super::pipeline_files::pipeline_files;
use super::{History, ReportError, StageHistory};
use crate::cache::{Output, StageState, utc};

/// The namespaces. Digests and keys name the same thing in every document, so two documents can be merged.
const PREFIXES: [(&str, &str); 7] = [
    ("content", "urn:runner:content:blake3:"),
    ("file", "urn:runner:file:blake3:"),
    ("action", "urn:runner:action:blake3:"),
    ("run", "urn:runner:run:"),
    ("dataset", "urn:runner:dataset:"),
    ("agent", "urn:runner:agent:"),
    ("runner", "urn:runner:term:"),
];

/// The document of a run.
///
/// # Errors
/// If the record holds no pipeline and its file is gone.
pub fn write_prov(history: &History<'_>) -> Result<Value, ReportError> {
    let mut document = Document::new(history);
    document.agents();
    document.run()?;
    for stage in &history.stages {
        document.stage(stage);
    }
    Ok(document.sections.into())
}

struct Document<'a> {
    history: &'a History<'a>,
    /// Section to identifier to attributes, in the order in which they come.
    sections: Map<String, Value>,
    relations: usize,
    /// Contents that have a generation already.
    generated: BTreeSet<Digest>,
    done: BTreeSet<String>,
    /// Names of what is not the same in all trials of a sweep.
    varied: Vec<String>,
}

impl<'a> Document<'a> {
    fn new(history: &'a History<'a>) -> Self {
        let mut document = Self {
            history,
            sections: Map::new(),
            relations: 0,
            generated: BTreeSet::new(),
            done: BTreeSet::new(),
            varied: history.record.varied(),
        };
        for (prefix, uri) in PREFIXES {
            document.put("prefix", prefix, uri.into());
        }
        document
    }

    fn put(&mut self, section: &str, id: &str, attributes: Value) {
        let entry = self
            .sections
            .entry(section)
            .or_insert_with(|| Map::new().into());
        if let Some(section) = entry.as_object_mut() {
            section.entry(id).or_insert(attributes);
        }
    }

    /// A relation, which has a blank identifier.
    fn relate(&mut self, relation: &str, attributes: Value) {
        self.relations += 1;
        let id = format!("_:r{}", self.relations);
        self.put(relation, &id, attributes);
    }

    fn software(&self) -> String {
        format!("agent:runner-{}", encoded(self.history.runner_version()))
    }

    fn run_id(&self) -> String {
        format!("run:{}", encoded(&self.history.record.run.0))
    }

    fn agents(&mut self) {
        let (software, version) = (self.software(), self.history.runner_version());
        let attributes = json!({
            "prov:type": qualified("prov:SoftwareAgent"),
            "prov:label": format!("runner {version}"),
            "runner:version": version,
        });
        self.put("agent", &software, attributes);
        if let Some(user) = self.history.user() {
            let person = format!("agent:{}", encoded(user));
            let attributes = json!({"prov:type": qualified("prov:Person"), "prov:label": user});
            self.put("agent", &person, attributes);
            let delegation = json!({"prov:delegate": software, "prov:responsible": person});
            self.relate("actedOnBehalfOf", delegation);
        }
    }

    /// The run as an activity, and its pipeline as the plan.
    fn run(&mut self) -> Result<(), ReportError> {
        let record = self.history.record;
        let run = self.run_id();
        let mut attributes = json!({
            "prov:type": qualified("runner:Run"),
            "prov:label": format!("run {} of {}", record.run, record.pipeline),
            "prov:startTime": utc(record.started),
            "runner:pipeline": record.pipeline,
            "runner:status": record.status.name(),
            "runner:command": record.command.join(" "),
            "runner:parameters": object(record.common_params()).to_string(),
        });
        if let Some(seed) = record.common_seed() {
            attributes["runner:seed"] = seed.to_string().into();
        }
        if !record.trials().is_empty() {
            let mut trials = Vec::new();
            for trial in record.trials() {
                let params = object(record.params_of_trial(trial));
                let seed = record.seed_of_trial(trial);
                trials.push(json!({"trial": trial.label, "seed": seed, "parameters": params}));
            }
            attributes["runner:trials"] = Value::from(trials).to_string().into();
        }
        if let Some(ended) = self.history.ended() {
            attributes["prov:endTime"] = utc(ended).into();
        }
        for (name, value) in &record.environment {
            let name = format!("runner:environment.{}", encoded(name));
            attributes[name] = text_of(value).into();
        }
        self.put("activity", &run, attributes);
        let mut plan = None;
        for (path, text) in pipeline_files(record)? {
            let id = format!("file:{}", Digest::of_bytes(text.as_bytes()));
            let kind = if plan.is_none() {
                "prov:Plan"
            } else {
                "runner:PipelineFile"
            };
            let attributes = json!({"prov:type": qualified(kind), "prov:label": path, "runner:bytes": text.len()});
            self.put("entity", &id, attributes);
            self.used(&run, &id, "pipeline");
            plan.get_or_insert(id);
        }
        let mut association = json!({"prov:activity": run, "prov:agent": self.software()});
        if let Some(plan) = plan {
            association["prov:plan"] = plan.into();
        }
        self.relate("wasAssociatedWith", association);
        if let Some(user) = self.history.user() {
            let person = format!("agent:{}", encoded(user));
            let association =
                json!({"prov:activity": run, "prov:agent": person, "prov:role": "user"});
            self.relate("wasAssociatedWith", association);
        }
        Ok(())
    }

    fn stage(&mut self, stage: &'a StageHistory) {
        let record = &stage.record;
        let activity = match record.key {
            Some(key) => format!("action:{key}"),
            None => format!("{}/{}", self.run_id(), encoded(&record.name)),
        };
        let run = self.run_id();
        // Two stages of one key are one execution, which has both names.
        if !self.done.insert(activity.clone()) {
            self.call_too(&activity, &record.name);
            return;
        }
        let mut attributes = json!({
            "prov:type": qualified("runner:Execution"),
            "prov:label": record.name,
            "runner:kind": record.kind,
            "runner:state": record.state.name(),
        });
        if let Some((start, end)) = stage.times() {
            attributes["prov:startTime"] = utc(start).into();
            attributes["prov:endTime"] = utc(end).into();
        }
        if stage.action.is_some() {
            attributes["runner:version"] = stage.recorded.version.into();
            attributes["runner:parameters"] = stage.recorded.parameters.to_string().into();
            if let Some(seed) = stage.recorded.seed {
                attributes["runner:seed"] = seed.to_string().into();
            }
            if let Some(class) = &stage.recorded.numeric_class {
                attributes["runner:numericClass"] = class.as_str().into();
            }
        }
        self.trials(&record.name, &mut attributes);
        if record.state == StageState::Failed {
            attributes["runner:error"] = record.reason.as_str().into();
        }
        self.put("activity", &activity, attributes);
        let association = json!({"prov:activity": activity, "prov:agent": self.software()});
        self.relate("wasAssociatedWith", association);
        if record.state != StageState::Hit {
            let information = json!({"prov:informed": activity, "prov:informant": run});
            self.relate("wasInformedBy", information);
        }
        let used = self.inputs(stage, &activity);
        for output in stage.outputs() {
            let entity = self.output(stage, output, &activity);
            for source in &used {
                let derivation = json!({"prov:generatedEntity": entity, "prov:usedEntity": source, "prov:activity": activity});
                self.relate("wasDerivedFrom", derivation);
            }
        }
    }

    /// Another name of an activity.
    fn call_too(&mut self, activity: &str, name: &str) {
        match &mut self.sections["activity"][activity]["prov:label"] {
            Value::Array(labels) => labels.push(name.into()),
            first => *first = json!([first, name]),
        }
    }

    /// The trials of a sweep that stand on a stage, and what they all have of their own.
    fn trials(&self, stage: &str, attributes: &mut Value) {
        let record = self.history.record;
        let trials = record.trials_of(stage);
        if trials.is_empty() || trials.len() == record.trials().len() {
            return;
        }
        let labels: Vec<&str> = trials.iter().map(|trial| trial.label.as_str()).collect();
        attributes["runner:trials"] = labels.join(" ").into();
        let mut values = Map::new();
        for name in &self.varied {
            values.extend(
                record
                    .value_at(stage, name)
                    .map(|value| (name.clone(), value)),
            );
        }
        attributes["runner:trialParameters"] = Value::from(values).to_string().into();
    }

    fn used(&mut self, activity: &str, entity: &str, role: &str) {
        let usage = json!({"prov:activity": activity, "prov:entity": entity, "prov:role": role});
        self.relate("used", usage);
    }

    /// What a stage took in; returns the entities.
    fn inputs(&mut self, stage: &'a StageHistory, activity: &str) -> Vec<String> {
        let mut used = Vec::new();
        for input in &stage.inputs {
            let id = format!("content:{}", input.digest);
            let attributes = json!({"prov:type": qualified("runner:Artifact")});
            self.put("entity", &id, attributes);
            match &input.item {
                Some(item) => self.used(activity, &id, &format!("{}.{item}", input.port)),
                None => self.used(activity, &id, &input.port),
            }
            used.push(id);
        }
        for file in &stage.files {
            let id = format!("file:{}", file.blake3);
            let mut attributes = json!({"prov:type": qualified("runner:RawFile")});
            attributes["prov:label"] = file.shown_name().into();
            if let Some(sum) = &file.sha256 {
                attributes["runner:sha256"] = sum.as_str().into();
            }
            if let Some(bytes) = file.bytes {
                attributes["runner:bytes"] = bytes.into();
            }
            if let Some(url) = &file.url {
                attributes["prov:location"] = url.as_str().into();
            }
            self.put("entity", &id, attributes);
            self.used(activity, &id, &file.name);
            if let Some(name) = &file.data_set {
                self.data_set(name, &id);
            }
            used.push(id);
        }
        used.sort();
        used.dedup();
        used
    }

    fn data_set(&mut self, name: &str, file: &str) {
        let Some(set) = self.history.data_set(name) else {
            return;
        };
        let id = format!("dataset:{}", encoded(name));
        let attributes = json!({
            "prov:type": qualified("prov:Collection"),
            "prov:label": set.title,
            "prov:location": set.homepage,
            "runner:licence": set.licence,
            "runner:citation": set.citation,
        });
        self.put("entity", &id, attributes);
        if self.done.insert(format!("{id} has {file}")) {
            let membership = json!({"prov:collection": id, "prov:entity": file});
            self.relate("hadMember", membership);
        }
    }

    /// What a stage made; returns the entity. A content that another execution made before has one generation only, and
    /// what this one made is another entity with the same content.
    fn output(&mut self, stage: &StageHistory, output: &Output, activity: &str) -> String {
        let content = format!("content:{}", output.record.digest);
        let kind = output.record.kind.map_or("Artifact", |kind| kind.name());
        let attributes = json!({
            "prov:type": qualified(&format!("runner:{kind}")),
            "prov:label": format!("{}.{}", stage.record.name, output.port),
            "runner:bytes": output.record.bytes,
            "runner:object": format!("blake3:{}", output.record.object),
        });
        let first = self.generated.insert(output.record.digest);
        let id = if first {
            content.clone()
        } else {
            format!("{}/{}", activity, encoded(&output.port))
        };
        self.put("entity", &id, attributes);
        if !first {
            let alternate = json!({"prov:alternate1": id, "prov:alternate2": content});
            self.relate("alternateOf", alternate);
        }
        let mut generation =
            json!({"prov:entity": id, "prov:activity": activity, "prov:role": output.port});
        if let Some((_, end)) = stage.times() {
            generation["prov:time"] = utc(end).into();
        }
        self.relate("wasGeneratedBy", generation);
        id
    }
}

fn object(values: IndexMap<String, Value>) -> Value {
    Value::Object(values.into_iter().collect())
}

/// A qualified name as a value.
fn qualified(name: &str) -> Value {
    json!({"$": name, "type": "prov:QUALIFIED_NAME"})
}
