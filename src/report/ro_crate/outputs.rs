//! What the stages made: files and folders of the crate, artifacts that are not in it, and metrics.

use contract::artifact::{ArtifactKind, Direction, Metric};
use serde_json::{Value, json};

use super::{CONTENT, RUN, Writer};
use crate::cache::Output;
use crate::report::names::{encoded, encoded_path};
use crate::report::selection::{NamedObject, extract, named_objects, of_stage};
use crate::report::{ReportError, StageHistory};

impl Writer<'_> {
    /// What a stage made: artifacts and metrics.
    pub fn outputs(&mut self, place: usize, tool: &str) -> Result<Vec<String>, ReportError> {
        let stage = &self.history.stages[place];
        let name = encoded(&stage.record.name);
        let mut made = Vec::new();
        for output in stage.outputs() {
            let id = self.output(stage, output)?;
            self.made.insert((place, output.port.clone()), id.clone());
            let formal = format!("{tool}/output/{}", encoded(&output.port));
            self.port(&formal, &output.port, &id);
            self.entities.push(tool, "output", &formal);
            if self.history.is_final(&output.record.digest) {
                let of_run = format!("{}#output/{name}/{}", self.main, encoded(&output.port));
                let title = format!("{}.{}", stage.record.name, output.port);
                self.port(&of_run, &title, &id);
                self.entities.push(&self.main, "output", &of_run);
                self.entities.push(RUN, "result", &id);
            }
            made.push(id);
        }
        let metrics = self.history.record.metrics.get(&stage.record.name);
        for metric in metrics.into_iter().flatten() {
            let id = format!("#metric/{name}/{}", encoded(&metric.name));
            self.entities.add(&id, property_of(metric));
            self.entities.push(RUN, "result", &id);
            made.push(id);
        }
        Ok(made)
    }

    /// An output: the file or folder of the crate that it is, or, if it is not in the crate, its digests.
    fn output(&mut self, stage: &StageHistory, output: &Output) -> Result<String, ReportError> {
        let record = &output.record;
        let kind = record.kind.map_or("Artifact", ArtifactKind::name);
        let title = format!("{}.{} ({kind})", stage.record.name, output.port);
        let identifiers = json!([
            format!("{CONTENT}{}", record.digest),
            format!("blake3:{}", record.object)
        ]);
        if !self.selection.has(self.history, stage, output) {
            let (stage, port) = (encoded(&stage.record.name), encoded(&output.port));
            let id = format!("#artifact/{stage}/{port}");
            let property = json!({
                "@type": "PropertyValue",
                "name": title,
                "value": format!("{CONTENT}{}", record.digest),
                "description": "It is not in the crate; the digests identify it.",
                "identifier": identifiers,
            });
            self.entities.add(&id, property);
            return Ok(id);
        }
        let objects = named_objects(self.history, stage, output)?;
        if record.kind != Some(ArtifactKind::Files) {
            let id = match objects.first() {
                Some(object) => {
                    let format = format_of(record.kind);
                    let file = json!({"@type": "File", "name": title, "encodingFormat": format});
                    self.object(stage, object, file)?
                }
                None => self.content(&record.digest),
            };
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
            let (name, format) = (format!("{title}: {name}"), format_of_name(name));
            let file = json!({"@type": "File", "name": name, "encodingFormat": format});
            let file = self.object(stage, object, file)?;
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
}

/// A metric with what one must know to read it.
fn property_of(metric: &Metric) -> Value {
    let mut notes = vec![match metric.direction {
        Direction::Higher => "higher is better",
        Direction::Lower => "lower is better",
        Direction::Neither => "a description",
    }];
    if metric.oracle {
        notes.push("oracle: knows the test labels");
    }
    if metric.inflating {
        notes.push("inflating");
    }
    if !metric.caveat.is_empty() {
        notes.push(&metric.caveat);
    }
    json!({
        "@type": "PropertyValue",
        "name": metric.name,
        "value": metric.value.map_or(Value::from("undefined"), Value::from),
        "description": notes.join("; "),
    })
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
