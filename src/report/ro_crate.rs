//! A run as a Workflow Run RO-Crate (Provenance Run Crate 0.5 on RO-Crate 1.1): a folder with the pipeline, the record of the
//! run, its lock, the objects that are asked for, and `ro-crate-metadata.json`, which describes all of it.

mod entities;
mod outputs;
mod run;
mod stages;

use std::collections::BTreeMap;
use std::path::PathBuf;

use contract::artifact::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::bundle::lock_of;
use super::names::encoded_path;
use super::pipeline_files::pipeline_files;
use super::{History, ReportError, Selection, Target};
use crate::cache::utc;
use crate::diagnostic::visible;
use entities::{Entities, link};

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
    let mut writer = Writer {
        history,
        selection,
        target,
        entities: Entities::default(),
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

impl Writer<'_> {
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
            let profile = json!({"@type": "CreativeWork", "name": name, "version": version});
            self.entities.add(address, profile);
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
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.+".contains(&byte);
        let address = match text {
            _ if text.starts_with("http://") || text.starts_with("https://") => text.to_owned(),
            _ if text.bytes().all(is_plain) => format!("https://spdx.org/licenses/{text}"),
            _ => return text.into(),
        };
        let description = format!("The licence {text}");
        self.entities.add(
            &address,
            json!({"@type": "CreativeWork", "name": text, "identifier": text, "url": address, "description": description}),
        );
        link(&address)
    }

    /// A file that lies in the crate.
    fn file(&mut self, path: &str, bytes: &[u8], attributes: Value) -> Result<String, ReportError> {
        self.target.write(path, bytes)?;
        let id = encoded_path(path);
        let digest = Digest::of_bytes(bytes);
        self.describe(&id, bytes.len() as u64, &digest, attributes);
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
            let version = format!("blake3:{}", Digest::of_bytes(text.as_bytes()).short());
            // The pipeline itself comes first.
            let is_main = self.main.is_empty();
            let attributes = if is_main {
                json!({
                    "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
                    "name": self.history.record.pipeline,
                    "programmingLanguage": link(LANGUAGE),
                    "encodingFormat": "application/yaml",
                    "version": version,
                    "hasPart": [], "step": [], "input": [], "output": [],
                })
            } else {
                json!({
                    "@type": ["File", "SoftwareSourceCode"],
                    "name": path,
                    "description": "A file that the pipeline includes",
                    "programmingLanguage": link(LANGUAGE),
                    "encodingFormat": "application/yaml",
                    "version": version,
                })
            };
            let id = self.file(&path, text.as_bytes(), attributes)?;
            if is_main {
                self.main = id;
            } else {
                included.push(id);
            }
        }
        for id in included {
            self.entities.push(&self.main, "isBasedOn", &id);
        }
        self.entities.set("./", "mainEntity", link(&self.main));
        Ok(())
    }

    /// The record and the lock, as traces of the engine.
    fn records(&mut self) -> Result<(), ReportError> {
        let path = self.history.store.run_path(&self.history.record.run);
        let bytes = self.history.store.layout().read(&path);
        let bytes = bytes.map_err(ReportError::io("read", &path))?;
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
}

/// What the crate is, for people who open the folder.
fn read_me(history: &History<'_>) -> String {
    let record = history.record;
    let text = format!(
        "# Run {} of the pipeline {}\n\nThe run ended as: {}. `ro-crate-metadata.json` describes its stages, parameters, inputs, \
         outputs and metrics (Workflow Run RO-Crate).\n\n- `runner/run.json`: the record, with the machine\n\
         - `runner/run.lock`: what determined each stage, and the digests of its outputs\n\
         - `objects/`: outputs that are in the crate, as `STAGE/OUTPUT`\n\n",
        record.run,
        record.pipeline,
        record.status.name()
    );
    let cell = |text: &str| visible(text).replace('|', "\\|");
    let mut table = "| stage | kind | state |\n|---|---|---|\n".to_owned();
    for stage in &record.stages {
        let (name, kind, state) = (cell(&stage.name), &stage.kind, stage.state.name());
        table += &format!("| {name} | {kind} | {state} |\n");
    }
    text + &table
}

/// A time as the profiles want it, with an offset in digits.
fn time(milliseconds: u64) -> String {
    utc(milliseconds).replace('Z', "+00:00")
}

fn status(good: bool) -> &'static str {
    if good {
        "http://schema.org/CompletedActionStatus"
    } else {
        "http://schema.org/FailedActionStatus"
    }
}
