//! A run as a Workflow Run RO-Crate (Provenance Run Crate 0.5 on RO-Crate 1.1): a folder with the pipeline, the record of the
//! run, its lock, the objects that are asked for, and `ro-crate-metadata.json`, which describes all of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use contract::artifact::{ArtifactKind, Digest, Direction, Metric};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::bundle::lock_of;
use super::crate_entities::{Entities, data_type, link, links, text_of};
use super::names::{encoded, encoded_path};
use super::pipeline_files::pipeline_files;
use super::selection::{NamedObject, extract, named_objects, of_stage};
use super::{History, RawFile, ReportError, Selection, StageHistory, Target};
use crate::cache::{Output, StageState, utc};
use crate::diagnostic::visible;

const CONTEXT: [&str; 2] = [
    "https://w3id.org/ro/crate/1.1/context",
    "https://w3id.org/ro/terms/workflow-run/context",
];
const CRATE: &str = "https://w3id.org/ro/crate/1.1";
const WORKFLOW_CRATE: &str = "https://w3id.org/workflowhub/workflow-ro-crate/1.0";
/// The profiles that the crate follows: address, name, version.
const PROFILES: [(&str, &str, &str); 4] = [
    (
        "https://w3id.org/ro/wfrun/process/0.5",
        "Process Run Crate",
        "0.5",
    ),
    (
        "https://w3id.org/ro/wfrun/workflow/0.5",
        "Workflow Run Crate",
        "0.5",
    ),
    (
        "https://w3id.org/ro/wfrun/provenance/0.5",
        "Provenance Run Crate",
        "0.5",
    ),
    (WORKFLOW_CRATE, "Workflow RO-Crate", "1.0"),
];
const METADATA: &str = "ro-crate-metadata.json";
const ENGINE: &str = "#runner";
const LANGUAGE: &str = "#runner-pipeline";
const RUN: &str = "#run";
const SEED: &str = "seed";
/// What stands before the digest of a content, which is not that of a file's bytes.
const CONTENT: &str = "blake3-content:";
const ORGANIZE: &str = "#organize";
const NO_LICENCE: &str = "No licence is stated; ask the author before reuse.";

/// What the run's record cannot know.
#[derive(Clone, Debug, Default)]
pub struct CrateOptions {
    /// Of the crate: an SPDX identifier, an address, or a sentence.
    pub licence: Option<String>,
}

/// Writes the crate into the folder that the target is.
///
/// # Errors
/// If something cannot be read from the store, or written.
pub fn write_ro_crate(
    history: &History<'_>,
    selection: &Selection,
    options: &CrateOptions,
    target: Target,
) -> Result<PathBuf, ReportError> {
    let entities = Entities::default();
    let mut writer = Writer {
        history,
        selection,
        target,
        entities,
        main: String::new(),
        made: BTreeMap::new(),
        agent: None,
        varied: history.record.varied(),
    };
    writer.root(options);
    writer.pipeline()?;
    writer.records()?;
    writer.run();
    for place in 0..history.stages.len() {
        writer.stage(place)?;
    }
    let Writer {
        target, entities, ..
    } = writer;
    let metadata = json!({"@context": CONTEXT, "@graph": entities.into_graph()});
    let text = serde_json::to_string_pretty(&metadata).unwrap_or_default();
    target.write(METADATA, (text + "\n").as_bytes())?;
    target.finish()
}

struct Writer<'a> {
    history: &'a History<'a>,
    selection: &'a Selection,
    target: Target,
    entities: Entities,
    /// The identifier of the pipeline's file.
    main: String,
    /// What stages made, by the stage's place and the port, and its identifier.
    made: BTreeMap<(usize, String), String>,
    /// Who started the run.
    agent: Option<String>,
    /// Names of what is not the same in all trials of a sweep.
    varied: Vec<String>,
}

impl<'a> Writer<'a> {
    fn root(&mut self, options: &CrateOptions) {
        let record = self.history.record;
        let descriptor = json!({
            "@type": "CreativeWork",
            "about": link("./"),
            "conformsTo": [link(CRATE), link(WORKFLOW_CRATE)],
        });
        self.entities.add(METADATA, descriptor);
        let ended = self.history.ended().unwrap_or(record.started);
        let root = json!({
            "@type": "Dataset",
            "name": format!("Run {} of the pipeline {}", record.run, record.pipeline),
            "description": format!(
                "What runner {} recorded about the run {} of the pipeline {}: its stages, their parameters, inputs and \
                 outputs by digest, times, metrics and the machine. The run ended as: {}.",
                self.history.runner_version(), record.run, record.pipeline, record.status.name()
            ),
            "datePublished": utc(ended),
            "license": self.licence(options.licence.as_deref()),
            "conformsTo": PROFILES.iter().map(|(address, ..)| link(address)).collect::<Vec<_>>(),
            "hasPart": [],
            "mentions": [link(RUN)],
        });
        self.entities.add("./", root);
        for (address, name, version) in PROFILES {
            self.entities.add(
                address,
                json!({"@type": "CreativeWork", "name": name, "version": version}),
            );
        }
    }

    /// An address or SPDX identifier becomes an entity; a sentence stays one.
    fn licence(&mut self, licence: Option<&str>) -> Value {
        let Some(text) = licence else {
            let none =
                json!({"@type": "CreativeWork", "name": "No licence", "description": NO_LICENCE});
            self.entities.add("#licence", none);
            return link("#licence");
        };
        let is_identifier = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.+".contains(&byte));
        let address = match text {
            _ if text.starts_with("http://") || text.starts_with("https://") => text.to_owned(),
            _ if is_identifier => format!("https://spdx.org/licenses/{text}"),
            _ => return text.into(),
        };
        self.entities.add(
            &address,
            json!({"@type": "CreativeWork", "name": text, "identifier": text, "url": address,
                "description": format!("The licence {text}")}),
        );
        link(&address)
    }

    /// A file that lies in the crate.
    fn file(&mut self, path: &str, bytes: &[u8], attributes: Value) -> Result<String, ReportError> {
        self.target.write(path, bytes)?;
        let id = encoded_path(path);
        self.describe(
            &id,
            bytes.len() as u64,
            &Digest::of_bytes(bytes),
            attributes,
        );
        let sum: [u8; 32] = Sha256::digest(bytes).into();
        self.entities
            .set(&id, "sha256", Digest(sum).to_string().into());
        self.entities.push("./", "hasPart", &id);
        Ok(id)
    }

    /// Size and digest of a file; `attributes` comes first.
    fn describe(&mut self, id: &str, bytes: u64, object: &Digest, attributes: Value) {
        self.entities.add(id, attributes);
        self.entities
            .set(id, "contentSize", bytes.to_string().into());
        self.entities
            .set(id, "identifier", format!("blake3:{object}").into());
    }

    fn pipeline(&mut self) -> Result<(), ReportError> {
        let language = json!({
            "@type": "ComputerLanguage",
            "name": "runner pipeline",
            "alternateName": "runner YAML",
            "version": self.history.runner_version(),
        });
        self.entities.add(LANGUAGE, language);
        let mut included = Vec::new();
        for (path, text) in pipeline_files(self.history.record)? {
            let is_main = self.main.is_empty();
            let attributes = if is_main {
                json!({
                    "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
                    "name": self.history.record.pipeline,
                    "programmingLanguage": link(LANGUAGE),
                    "encodingFormat": "application/yaml",
                    "version": format!("blake3:{}", Digest::of_bytes(text.as_bytes()).short()),
                    "hasPart": [], "step": [], "input": [], "output": [],
                })
            } else {
                json!({
                    "@type": ["File", "SoftwareSourceCode"],
                    "name": path,
                    "description": "A file that the pipeline includes",
                    "programmingLanguage": link(LANGUAGE),
                    "encodingFormat": "application/yaml",
                    "version": format!("blake3:{}", Digest::of_bytes(text.as_bytes()).short()),
                })
            };
            let id = self.file(&path, text.as_bytes(), attributes)?;
            if is_main {
                self.main = id;
            } else {
                included.push(id);
            }
        }
        let main = self.main.clone();
        for id in included {
            self.entities.push(&main, "isBasedOn", &id);
        }
        self.entities.set("./", "mainEntity", link(&main));
        Ok(())
    }

    /// The record and the lock, as traces of the engine.
    fn records(&mut self) -> Result<(), ReportError> {
        let path = self.history.store.run_path(&self.history.record.run);
        let bytes = self
            .history
            .store
            .layout()
            .read(&path)
            .map_err(ReportError::io("read", &path))?;
        let record = json!({
            "@type": "File",
            "name": "Record of the run",
            "description": "The run as runner recorded it, with the machine, and sealed",
            "encodingFormat": "application/json",
            "about": link(RUN),
        });
        self.file("runner/run.json", &bytes, record)?;
        let lock = json!({
            "@type": "File",
            "name": "Lock of the run",
            "description": "What determined each stage, and the digests of its outputs; `runner audit` reads it",
            "encodingFormat": "text/plain",
            "about": link(RUN),
        });
        let text = lock_of(self.history, &format!("../{}", self.main)).to_text();
        self.file("runner/run.lock", text.as_bytes(), lock)?;
        let readme = json!({
            "@type": "File", "name": "About this crate", "encodingFormat": "text/markdown", "about": link("./"),
        });
        let text = read_me(self.history);
        self.file("README.md", text.as_bytes(), readme)?;
        Ok(())
    }

    /// The run as a whole, the engine, and who started it.
    fn run(&mut self) {
        let (history, record) = (self.history, self.history.record);
        let version = history.runner_version();
        let engine = json!({
            "@type": "SoftwareApplication",
            "name": "runner",
            "softwareVersion": version,
            "description": "A declarative experiment runner for time-series machine learning",
        });
        self.entities.add(ENGINE, engine);
        self.agent = history.user().map(|user| {
            let id = format!("#person-{}", encoded(user));
            self.entities
                .add(&id, json!({"@type": "Person", "name": user}));
            self.entities.set("./", "author", link(&id));
            id
        });
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
            "actionStatus": status(record.status == crate::cache::RunStatus::Done),
        });
        self.entities.add(ORGANIZE, organize);
        self.entities.add(RUN, run);
        self.entities.push("./", "mentions", ORGANIZE);
        self.params();
        let variables = record
            .environment
            .get("variables")
            .and_then(Value::as_object);
        for (name, value) in variables.into_iter().flatten() {
            let id = format!("#variable/{}", encoded(name));
            let value = if value.is_string() {
                text_of(value)
            } else {
                "(set, its value is not kept)".to_owned()
            };
            self.entities.add(
                &id,
                json!({"@type": "PropertyValue", "name": name, "value": value}),
            );
            self.entities.push(RUN, "environment", &id);
        }
    }

    /// The pipeline's parameters and its seed; those that trials of a sweep have of their own, by trial.
    fn params(&mut self) {
        let record = self.history.record;
        let common = record.common_params().into_iter();
        let seed = record
            .common_seed()
            .map(|seed| (SEED.to_owned(), Value::from(seed)));
        for (name, value) in common.chain(seed) {
            let actual = format!("#param/{}", encoded(&name));
            self.param(&name, &actual, &value);
        }
        let varied = self.varied.clone();
        for trial in record.trials() {
            let values = varied
                .iter()
                .filter_map(|name| Some((name.as_str(), record.value_of_trial(trial, name)?)));
            let own = record
                .common_seed()
                .is_none()
                .then(|| (SEED, Value::from(record.seed_of_trial(trial))));
            for (name, value) in values.chain(own).collect::<Vec<_>>() {
                let actual = in_trial(&trial.label, name);
                self.param(name, &actual, &value);
                self.entities.set(
                    &actual,
                    "description",
                    format!("in the trial {}", trial.label).into(),
                );
            }
        }
    }

    /// A parameter of the pipeline and a value that the run gave it.
    fn param(&mut self, name: &str, actual: &str, value: &Value) {
        let main = self.main.clone();
        let formal = format!("{main}#param/{}", encoded(name));
        self.value(&formal, actual, name, value);
        self.entities.push(&main, "input", &formal);
        self.entities.push(RUN, "object", actual);
    }

    /// Values that all trials which stand on a stage have of their own.
    fn values_of_trials(&self, stage: &StageHistory) -> Vec<String> {
        let record = self.history.record;
        let trials = record.trials_of(&stage.record.name);
        let Some(first) = trials
            .first()
            .filter(|_| trials.len() < record.trials().len())
        else {
            return Vec::new();
        };
        let name = &stage.record.name;
        let varied = self
            .varied
            .iter()
            .filter(|value| record.value_at(name, value).is_some())
            .cloned();
        let seed = record.common_seed().is_none() && record.seed_at(name).is_some();
        let names = varied.chain(seed.then(|| SEED.to_owned()));
        names.map(|value| in_trial(&first.label, &value)).collect()
    }

    /// A formal parameter and the value that it had.
    fn value(&mut self, formal: &str, actual: &str, name: &str, value: &Value) {
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

    /// The tool that a stage kind is.
    fn tool(&mut self, stage: &StageHistory) -> String {
        let kind = &stage.record.kind;
        let version = stage.recorded.version;
        let id = format!("#kind/{}/{version}", encoded(kind));
        if !self.entities.has(&id) {
            let doc = self.history.kind(kind).map(|kind| kind.doc);
            let tool = json!({
                "@type": "SoftwareApplication",
                "name": kind,
                "softwareVersion": version.to_string(),
                "description": doc,
                "isPartOf": link(ENGINE),
                "input": [], "output": [],
            });
            self.entities.add(&id, tool);
            let main = self.main.clone();
            self.entities.push(&main, "hasPart", &id);
        }
        id
    }

    fn stage(&mut self, place: usize) -> Result<(), ReportError> {
        let stage = &self.history.stages[place];
        let record = &stage.record;
        let name = encoded(&record.name);
        let (action, control) = (format!("#action/{name}"), format!("#control/{name}"));
        let (step, tool, main) = (
            format!("{}#step/{name}", self.main),
            self.tool(stage),
            self.main.clone(),
        );
        let how = json!({
            "@type": "HowToStep", "name": record.name, "position": place.to_string(), "workExample": link(&tool),
        });
        self.entities.add(&step, how);
        self.entities.push(&main, "step", &step);
        let mut used = self.inputs(stage, &tool);
        used.extend(self.values_of_trials(stage));
        let made = self.outputs(place, &tool)?;
        let times = stage.times();
        let failed = record.state == StageState::Failed || record.state == StageState::Skipped;
        let key = record.key.map(|key| format!("blake3:{key}"));
        let execution = json!({
            "@type": if made.is_empty() { "ActivateAction" } else { "CreateAction" },
            "name": format!("Execution of the stage {}", record.name),
            "description": describe(stage),
            "agent": self.agent.as_deref().map(link),
            "identifier": key,
            "instrument": link(&tool),
            "object": links(&used),
            "result": links(&made),
            "startTime": times.map(|(start, _)| time(start)),
            "endTime": times.map(|(_, end)| time(end)),
            "actionStatus": status(!failed),
            "error": failed.then_some(record.reason.as_str()).filter(|reason| !reason.is_empty()),
        });
        self.entities.add(&action, execution);
        self.entities.push("./", "mentions", &action);
        let orchestrated = json!({
            "@type": "ControlAction",
            "name": format!("Orchestration of the stage {}", record.name),
            "instrument": link(&step),
            "object": link(&action),
        });
        self.entities.add(&control, orchestrated);
        self.entities.push(ORGANIZE, "object", &control);
        Ok(())
    }

    /// What a stage took in: artifacts, raw files, parameters.
    fn inputs(&mut self, stage: &'a StageHistory, tool: &str) -> Vec<String> {
        let mut used = Vec::new();
        for input in &stage.inputs {
            let known = input
                .maker
                .as_ref()
                .and_then(|maker| self.made.get(maker).cloned());
            let id = known.unwrap_or_else(|| self.content(&input.digest));
            let formal = format!("{tool}/input/{}", encoded(&input.port));
            self.port(&formal, &input.port, &id);
            self.entities.push(tool, "input", &formal);
            used.push(id);
        }
        for file in &stage.files {
            let id = self.raw_file(file);
            self.entities.push(RUN, "object", &id);
            used.push(id);
        }
        for (name, value) in stage.parameters() {
            let formal = format!("{tool}/with/{}", encoded(&name));
            let sum = Digest::of_bytes(value.to_string().as_bytes());
            let actual = format!("{formal}={sum}");
            self.value(&formal, &actual, &name, &value);
            self.entities.push(tool, "input", &formal);
            used.push(actual);
        }
        used
    }

    /// A port of a tool and what was on it.
    fn port(&mut self, formal: &str, name: &str, example: &str) {
        let parameter = json!({"@type": "FormalParameter", "additionalType": [], "name": name, "workExample": []});
        self.entities.add(formal, parameter);
        let kind = self.entities.kind(example).unwrap_or("File").to_owned();
        self.entities.note(formal, "additionalType", &kind);
        self.entities.push(formal, "workExample", example);
        self.entities.push(example, "exampleOfWork", formal);
    }

    /// An artifact of which the run knows the content and not the maker.
    fn content(&mut self, digest: &Digest) -> String {
        let id = format!("#content/{digest}");
        let value = format!("{CONTENT}{digest}");
        let name = format!("Artifact {}", digest.short());
        self.entities.add(
            &id,
            json!({"@type": "PropertyValue", "name": name, "value": value, "identifier": value}),
        );
        id
    }

    /// What a stage made: artifacts and metrics.
    fn outputs(&mut self, place: usize, tool: &str) -> Result<Vec<String>, ReportError> {
        let stage = &self.history.stages[place];
        let mut made = Vec::new();
        for output in stage.outputs() {
            let id = self.output(stage, output)?;
            self.made.insert((place, output.port.clone()), id.clone());
            let formal = format!("{tool}/output/{}", encoded(&output.port));
            self.port(&formal, &output.port, &id);
            self.entities.push(tool, "output", &formal);
            if self.history.is_final(&output.record.digest) {
                let main = self.main.clone();
                let of_run = format!(
                    "{main}#output/{}/{}",
                    encoded(&stage.record.name),
                    encoded(&output.port)
                );
                self.port(
                    &of_run,
                    &format!("{}.{}", stage.record.name, output.port),
                    &id,
                );
                self.entities.push(&main, "output", &of_run);
                self.entities.push(RUN, "result", &id);
            }
            made.push(id);
        }
        for metric in self
            .history
            .record
            .metrics
            .get(&stage.record.name)
            .into_iter()
            .flatten()
        {
            let id = format!(
                "#metric/{}/{}",
                encoded(&stage.record.name),
                encoded(&metric.name)
            );
            self.entities.add(&id, property_of(metric));
            self.entities.push(RUN, "result", &id);
            made.push(id);
        }
        Ok(made)
    }

    /// An output: the file or folder of the crate that it is, or, if it did not come along, its digests.
    fn output(&mut self, stage: &StageHistory, output: &Output) -> Result<String, ReportError> {
        let record = &output.record;
        let kind = record.kind.map_or("Artifact", ArtifactKind::name);
        let title = format!("{}.{} ({kind})", stage.record.name, output.port);
        let identifiers = json!([
            format!("{CONTENT}{}", record.digest),
            format!("blake3:{}", record.object)
        ]);
        if !self.selection.has(self.history, stage, output) {
            let id = format!(
                "#artifact/{}/{}",
                encoded(&stage.record.name),
                encoded(&output.port)
            );
            let property = json!({
                "@type": "PropertyValue",
                "name": title,
                "value": format!("{CONTENT}{}", record.digest),
                "description": "It did not come along; the digests tell it.",
                "identifier": identifiers,
            });
            self.entities.add(&id, property);
            return Ok(id);
        }
        let objects = named_objects(self.history, stage, output)?;
        if record.kind != Some(ArtifactKind::Files) {
            let mut ids = Vec::new();
            for object in &objects {
                let attributes = json!({"@type": "File", "name": title, "encodingFormat": format_of(record.kind)});
                ids.push(self.object(stage, object, attributes)?);
            }
            let id = ids
                .into_iter()
                .next()
                .unwrap_or_else(|| self.content(&record.digest));
            self.entities.set(&id, "identifier", identifiers);
            return Ok(id);
        }
        let folder = format!("objects/{}", self.history.output_path(stage, output));
        self.target.folder(&folder)?;
        let id = format!("{}/", encoded_path(&folder));
        let set =
            json!({"@type": "Dataset", "name": title, "identifier": identifiers, "hasPart": []});
        self.entities.add(&id, set);
        self.entities.push("./", "hasPart", &id);
        for object in &objects {
            let name = object.path.rsplit('/').next().unwrap_or(&object.path);
            let attributes = json!({"@type": "File", "name": format!("{title}: {name}"), "encodingFormat": format_of_name(name)});
            let file = self.object(stage, object, attributes)?;
            self.entities.push(&id, "hasPart", &file);
        }
        Ok(id)
    }

    /// A file of an output that lies in the crate.
    fn object(
        &mut self,
        stage: &StageHistory,
        object: &NamedObject,
        attributes: Value,
    ) -> Result<String, ReportError> {
        let path = format!("objects/{}", object.path);
        let to = self.target.below(&path)?;
        extract(self.history, object, &to).map_err(|error| of_stage(stage, error))?;
        let file = encoded_path(&path);
        self.describe(&file, object.bytes, &object.object, attributes);
        self.entities.push("./", "hasPart", &file);
        Ok(file)
    }

    /// A file from outside, at its address if it has one, with the data set that it belongs to.
    fn raw_file(&mut self, file: &RawFile) -> String {
        let name = if file.path.is_empty() {
            &file.name
        } else {
            &file.path
        };
        let id = match &file.url {
            Some(url) => url.clone(),
            None => format!("#file/{}/{}", file.blake3, encoded(name)),
        };
        let attributes = json!({
            "@type": if file.url.is_some() { "File" } else { "CreativeWork" },
            "name": name,
            "identifier": format!("blake3:{}", file.blake3),
            "sha256": file.sha256,
            "contentSize": file.bytes.map(|bytes| bytes.to_string()),
        });
        self.entities.add(&id, attributes);
        if file.url.is_some() {
            self.entities.push("./", "hasPart", &id);
        }
        let set = file
            .data_set
            .as_deref()
            .and_then(|name| Some((name, self.history.data_set(name)?)));
        if let Some((name, set)) = set {
            let of_set = format!("#dataset/{}", encoded(name));
            let work = json!({
                "@type": "CreativeWork",
                "name": set.title,
                "alternateName": name,
                "url": set.homepage,
                "license": set.licence,
                "citation": set.citation,
                "hasPart": [],
            });
            self.entities.add(&of_set, work);
            self.entities.push(&of_set, "hasPart", &id);
            self.entities.set(&id, "isPartOf", link(&of_set));
            self.entities.push("./", "mentions", &of_set);
        }
        id
    }
}

/// What the crate is, for people who open the folder.
fn read_me(history: &History<'_>) -> String {
    let record = history.record;
    let text = format!(
        "# Run {} of the pipeline {}\n\nThe run ended as: {}. `ro-crate-metadata.json` describes its stages, parameters, inputs, \
         outputs and metrics (Workflow Run RO-Crate).\n\n- `runner/run.json`: the record, with the machine\n\
         - `runner/run.lock`: what determined each stage, and the digests of its outputs\n\
         - `objects/`: outputs that came along, as `STAGE/OUTPUT`\n\n",
        record.run,
        record.pipeline,
        record.status.name()
    );
    let cell = |text: &str| visible(text).replace('|', "\\|");
    let mut table = "| stage | kind | state |\n|---|---|---|\n".to_owned();
    for stage in &record.stages {
        table += &format!(
            "| {} | {} | {} |\n",
            cell(&stage.name),
            stage.kind,
            stage.state.name()
        );
    }
    text + &table
}

/// A metric with what one must know to read it.
fn property_of(metric: &Metric) -> Value {
    let marks = [
        metric.oracle.then_some("oracle: knows the test labels"),
        metric.inflating.then_some("inflating"),
    ];
    let caveat = (!metric.caveat.is_empty()).then_some(metric.caveat.as_str());
    let direction = match metric.direction {
        Direction::Higher => "higher is better",
        Direction::Lower => "lower is better",
        Direction::Neither => "a description",
    };
    let notes: Vec<&str> = [direction]
        .into_iter()
        .chain(marks.into_iter().flatten())
        .chain(caveat)
        .collect();
    json!({
        "@type": "PropertyValue",
        "name": metric.name,
        "value": metric.value.map_or(Value::from("undefined"), Value::from),
        "description": notes.join("; "),
    })
}

/// The value of a parameter in a trial.
fn in_trial(label: &str, name: &str) -> String {
    format!("#trial/{}/param/{}", encoded(label), encoded(name))
}

/// A time as the profiles want it, with an offset in figures.
fn time(milliseconds: u64) -> String {
    let text = utc(milliseconds);
    text.strip_suffix('Z')
        .map_or_else(|| text.clone(), |text| format!("{text}+00:00"))
}

/// What a stage did, in a sentence.
fn describe(stage: &StageHistory) -> String {
    let record = &stage.record;
    let mut text = match record.state {
        StageState::Hit => {
            "Its outputs were there from an earlier execution, which the times are of".to_owned()
        }
        StageState::Ran => format!("Executed in this run, because: {}", record.reason),
        StageState::Failed => "It failed".to_owned(),
        StageState::Skipped => "It did not run".to_owned(),
    };
    if let Some(seed) = stage.recorded.seed {
        text += &format!("; seed {seed}");
    }
    if let Some(class) = &stage.recorded.numeric_class {
        text += &format!("; numeric class {class}");
    }
    text
}

fn status(good: bool) -> &'static str {
    if good {
        "http://schema.org/CompletedActionStatus"
    } else {
        "http://schema.org/FailedActionStatus"
    }
}

fn format_of(kind: Option<ArtifactKind>) -> &'static str {
    match kind {
        None => "application/octet-stream",
        Some(ArtifactKind::Model) => "application/vnd.safetensors",
        Some(_) => "application/vnd.apache.parquet",
    }
}

/// By the ending of a name.
fn format_of_name(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("png") => "image/png",
        Some("svg") => "image/svg+xml",
        Some("txt" | "log") => "text/plain",
        Some("csv") => "text/csv",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}
