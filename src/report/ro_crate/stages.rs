//! Each stage of the run: the tool that its kind is, the action that its execution was, and what it took in.

use contract::artifact::Digest;
use serde_json::json;

use super::entities::{link, links};
use super::{CONTENT, ENGINE, ORGANIZE, RUN, Writer, status, time};
use crate::cache::StageState;
use crate::report::names::encoded;
use crate::report::{RawFile, ReportError, StageHistory};

impl<'a> Writer<'a> {
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
            self.entities.push(&self.main, "hasPart", &id);
        }
        id
    }

    /// One execution of a stage: the step of the pipeline, the action that it was, and who ordered it.
    pub fn stage(&mut self, place: usize) -> Result<(), ReportError> {
        let stage = &self.history.stages[place];
        let record = &stage.record;
        let name = encoded(&record.name);
        let (action, control) = (format!("#action/{name}"), format!("#control/{name}"));
        let (step, tool) = (format!("{}#step/{name}", self.main), self.tool(stage));
        let how = json!({
            "@type": "HowToStep", "name": record.name, "position": place.to_string(), "workExample": link(&tool),
        });
        self.entities.add(&step, how);
        self.entities.push(&self.main, "step", &step);
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
            let made = input.maker.as_ref().and_then(|maker| self.made.get(maker));
            let id = match made {
                Some(id) => id.clone(),
                None => self.content(&input.digest),
            };
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
    pub fn port(&mut self, formal: &str, name: &str, example: &str) {
        let parameter = json!({"@type": "FormalParameter", "additionalType": [], "name": name, "workExample": []});
        self.entities.add(formal, parameter);
        let kind = self.entities.kind(example).unwrap_or("File").to_owned();
        self.entities.note(formal, "additionalType", &kind);
        self.entities.push(formal, "workExample", example);
        self.entities.push(example, "exampleOfWork", formal);
    }

    /// An artifact of which the run knows the content and not the maker.
    pub fn content(&mut self, digest: &Digest) -> String {
        let id = format!("#content/{digest}");
        let value = format!("{CONTENT}{digest}");
        let name = format!("Artifact {}", digest.short());
        let property =
            json!({"@type": "PropertyValue", "name": name, "value": value, "identifier": value});
        self.entities.add(&id, property);
        id
    }

    /// A file from outside, at its address if it has one, with the data set that it belongs to.
    fn raw_file(&mut self, file: &RawFile) -> String {
        let name = file.shown_name();
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
        if let Some(name) = &file.data_set
            && let Some(set) = self.history.data_set(name)
        {
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
