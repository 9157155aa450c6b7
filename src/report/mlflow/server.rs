//! Runs for a tracking server, through its REST interface. A server names runs itself, so that ours are found again by a tag:
//! a run that was sent is not sent twice, and one of which the sending broke off is completed.

use std::collections::BTreeMap;

use contract::artifact::Digest;
use serde_json::{Value, json};

use super::client::{Again, Client, Content, Refusal, Tracking};
use super::keys::artifact_path;
use super::{Attached, PARENT, Point, Tracked, attached, tracked};
use crate::cache::{CacheError, RunStatus};
use crate::report::selection::{copy_object, of_stage};
use crate::report::{History, ReportError, Selection};

/// The tag by which a run is found again.
const ID: &str = "runner.id";

/// The tag that comes last, with a digest of all that was sent.
const COMPLETE: &str = "runner.complete";

/// The tag that all runs of one of ours have.
const RUN: &str = "runner.run";

/// What goes into one request. MLflow takes 1000 things in all, 100 of them parameters and 100 tags, and a million bytes.
const MOST_METRICS: usize = 800;
const MOST_PARAMS: usize = 100;
const MOST_TAGS: usize = 100;
const MOST_BYTES: usize = 300_000;

/// Runs that a server lists at a time.
const PAGE: usize = 1000;

/// What became of a run that was to be sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Where it can be looked at.
    pub address: String,
    pub run_id: String,
    pub experiment_id: String,
    /// Runs on the server: that of the whole and those below it.
    pub runs: usize,
    /// Files that were put among its artifacts.
    pub artifacts: usize,
    /// Everything was there already.
    pub was_there: bool,
    /// Where the server keeps artifacts that cannot be sent through it.
    pub artifacts_elsewhere: Option<String>,
}

/// Sends a run. With `again`, what was sent of it before is deleted on the server.
///
/// # Errors
/// If the server cannot be reached or refuses something, or something cannot be read.
pub fn send_mlflow(
    history: &History<'_>,
    tracking: &Tracking,
    selection: &Selection,
    again: bool,
) -> Result<Sent, ReportError> {
    let runs = tracked(history)?;
    let attached = attached(history, selection)?;
    let mut sender = Sender {
        client: Client::new(tracking),
        experiment: String::new(),
    };
    sender.experiment = sender.experiment(&history.record.pipeline)?;
    let digest = digest_of(&runs, &attached);
    let mut all_known = sender.find(&history.record.run.0)?;
    let known = all_known.remove(&runs[0].id);
    let complete = known.as_ref().and_then(|known| known.complete.as_ref());
    let was_there = !again && complete == Some(&digest);
    let mut sent = Sent {
        address: String::new(),
        run_id: String::new(),
        experiment_id: sender.experiment.clone(),
        runs: runs.len(),
        artifacts: 0,
        was_there,
        artifacts_elsewhere: None,
    };
    let whole = match known {
        Some(known) if was_there => known,
        known => {
            let whole = sender.run(&runs[0], known, None, again)?;
            for run in &runs[1..] {
                let known = all_known.remove(&run.id);
                let child = sender.run(run, known, Some(&whole.id), again)?;
                sender.close(run, &child, None)?;
            }
            match whole.artifacts_below() {
                Some(below) => sent.artifacts = sender.artifacts(history, &attached, &below)?,
                None => sent.artifacts_elsewhere = Some(whole.artifact_uri.clone()),
            }
            sender.close(&runs[0], &whole, Some(&digest))?;
            whole
        }
    };
    sent.address = format!(
        "{}/#/experiments/{}/runs/{}",
        tracking.address(),
        sender.experiment,
        whole.id
    );
    sent.run_id = whole.id;
    Ok(sent)
}

/// A digest of all that is sent.
fn digest_of(runs: &[Tracked], attached: &[Attached]) -> String {
    let mut files = Vec::with_capacity(attached.len());
    for attached in attached {
        files.push(match attached {
            Attached::Bytes(path, bytes) => (path.clone(), Digest::of_bytes(bytes)),
            Attached::Object(_, object) => (object.path.clone(), object.object),
        });
    }
    let text = format!("{runs:?} {files:?}");
    Digest::of_bytes(text.as_bytes()).to_string()
}

/// A run as the server knows it.
struct Known {
    id: String,
    artifact_uri: String,
    /// The digest of what was sent, if all of it was.
    complete: Option<String>,
}

impl Known {
    fn read(run: &Value) -> Option<Self> {
        let info = run.get("info")?;
        Some(Self {
            id: text_at(info, "run_id").or_else(|| text_at(info, "run_uuid"))?,
            artifact_uri: text_at(info, "artifact_uri").unwrap_or_default(),
            complete: tag_of(run, COMPLETE),
        })
    }

    /// The path of its artifacts below all those that the server keeps; `None` if it hands them to others.
    fn artifacts_below(&self) -> Option<String> {
        let rest = self.artifact_uri.strip_prefix("mlflow-artifacts:")?;
        let path = match rest.strip_prefix("//") {
            Some(rest) => rest.split_once('/').map(|(_, path)| path)?,
            None => rest,
        };
        Some(path.trim_matches('/').to_owned())
    }
}

/// A tag of a run.
fn tag_of(run: &Value, name: &str) -> Option<String> {
    let mut tags = run["data"]["tags"].as_array()?.iter();
    text_at(tags.find(|tag| tag["key"] == name)?, "value")
}

struct Sender<'a> {
    client: Client<'a>,
    /// Its number.
    experiment: String,
}

impl Sender<'_> {
    /// The number of the experiment of this name, which is made if there is none.
    fn experiment(&self, name: &str) -> Result<String, ReportError> {
        if let Some(id) = self.experiment_called(name)? {
            return Ok(id);
        }
        const PATH: &str = "experiments/create";
        let refusal = match self.client.post(PATH, &json!({"name": name}), Again::No)? {
            Ok(answer) => {
                let id = text_at(&answer, "experiment_id");
                return id.ok_or_else(|| self.client.strange("experiment_id"));
            }
            Err(refusal) => refusal,
        };
        // Somebody else may have been faster.
        if refusal.code == "RESOURCE_ALREADY_EXISTS"
            && let Some(id) = self.experiment_called(name)?
        {
            return Ok(id);
        }
        Err(self.client.refused(PATH, refusal))
    }

    fn experiment_called(&self, name: &str) -> Result<Option<String>, ReportError> {
        const PATH: &str = "experiments/get-by-name";
        match self.client.get(PATH, &[("experiment_name", name)])? {
            Ok(answer) => {
                let experiment = &answer["experiment"];
                let id = text_at(experiment, "experiment_id")
                    .ok_or_else(|| self.client.strange("experiment"))?;
                if experiment["lifecycle_stage"] == "deleted" {
                    let message = format!(
                        "the experiment `{name}` was deleted; `mlflow experiments restore -x {id}`"
                    );
                    let refusal = Refusal {
                        status: 200,
                        code: String::new(),
                        message,
                    };
                    return Err(self.client.refused(PATH, refusal));
                }
                Ok(Some(id))
            }
            Err(refusal) if refusal.code == "RESOURCE_DOES_NOT_EXIST" => Ok(None),
            Err(refusal) => Err(self.client.refused(PATH, refusal)),
        }
    }

    /// What the server has of one of our runs, by our names for it.
    fn find(&self, run: &str) -> Result<BTreeMap<String, Known>, ReportError> {
        let mut found = BTreeMap::new();
        let mut page: Option<String> = None;
        loop {
            let mut body = json!({
                "experiment_ids": [self.experiment],
                "filter": format!("tags.`{RUN}` = '{run}'"),
                "run_view_type": "ACTIVE_ONLY",
                "max_results": PAGE,
            });
            if let Some(page) = &page {
                body["page_token"] = page.as_str().into();
            }
            let answer = self.client.tell("runs/search", &body, Again::Yes)?;
            for run in answer["runs"].as_array().into_iter().flatten() {
                let id = tag_of(run, ID);
                found.extend(id.and_then(|id| Some((id, Known::read(run)?))));
            }
            let next = text_at(&answer, "next_page_token").filter(|next| !next.is_empty());
            if next.is_none() || next == page {
                return Ok(found);
            }
            page = next;
        }
    }

    /// Makes a run, or continues with the one that is there, and fills it.
    fn run(
        &self,
        run: &Tracked,
        known: Option<Known>,
        parent: Option<&str>,
        again: bool,
    ) -> Result<Known, ReportError> {
        let known = match known {
            Some(known) if !again => known,
            Some(known) => {
                let body = json!({"run_id": known.id});
                self.client.tell("runs/delete", &body, Again::Yes)?;
                self.create(run, parent)?
            }
            None => self.create(run, parent)?,
        };
        self.log(run, &known.id)?;
        Ok(known)
    }

    fn create(&self, run: &Tracked, parent: Option<&str>) -> Result<Known, ReportError> {
        // The tags by which it is found and placed are there from the beginning.
        let mut tags = vec![json!({"key": ID, "value": run.id})];
        if let Some(name) = run.tags.get(RUN) {
            tags.push(json!({"key": RUN, "value": name}));
        }
        if let Some(parent) = parent {
            tags.push(json!({"key": PARENT, "value": parent}));
        }
        let body = json!({
            "experiment_id": self.experiment,
            "user_id": run.user,
            "run_name": run.name,
            "start_time": run.started,
            "tags": tags,
        });
        let answer = self.client.tell("runs/create", &body, Again::No)?;
        Known::read(&answer["run"]).ok_or_else(|| self.client.strange("run"))
    }

    /// Sends parameters, tags and metrics in as many requests as it takes.
    fn log(&self, run: &Tracked, id: &str) -> Result<(), ReportError> {
        let pair = |(name, value): (&String, &String)| json!({"key": name, "value": value});
        let mut points = Vec::new();
        for (name, of_metric) in &run.metrics {
            points.extend(of_metric.iter().map(|point| metric(name, point)));
        }
        let params = batches(run.params.iter().map(pair).collect(), MOST_PARAMS);
        let tags = batches(run.tags.iter().map(pair).collect(), MOST_TAGS);
        let metrics = batches(points, MOST_METRICS);
        for number in 0..params.len().max(tags.len()).max(metrics.len()) {
            let batch = |all: &[Vec<Value>]| all.get(number).cloned().unwrap_or_default();
            let (params, tags, metrics) = (batch(&params), batch(&tags), batch(&metrics));
            let body = json!({"run_id": id, "params": params, "tags": tags, "metrics": metrics});
            self.client.tell("runs/log-batch", &body, Again::Yes)?;
        }
        Ok(())
    }

    /// Says how the run ended, and that all of it is there.
    fn close(&self, run: &Tracked, known: &Known, digest: Option<&str>) -> Result<(), ReportError> {
        let status = match run.status {
            RunStatus::Running => "RUNNING",
            RunStatus::Done => "FINISHED",
            RunStatus::Failed => "FAILED",
            RunStatus::Interrupted => "KILLED",
        };
        let mut body = json!({"run_id": known.id, "status": status, "run_name": run.name});
        if let Some(ended) = run.ended {
            body["end_time"] = ended.into();
        }
        self.client.tell("runs/update", &body, Again::Yes)?;
        if let Some(digest) = digest {
            let body = json!({"run_id": known.id, "key": COMPLETE, "value": digest});
            self.client.tell("runs/set-tag", &body, Again::Yes)?;
        }
        Ok(())
    }

    /// Puts files among the artifacts of the run; returns how many.
    fn artifacts(
        &self,
        history: &History<'_>,
        all: &[Attached],
        below: &str,
    ) -> Result<usize, ReportError> {
        for attached in all {
            let path = format!("{below}/{}", artifact_path(&attached.path()));
            match attached {
                Attached::Bytes(_, bytes) => self.client.put(&path, Content::Bytes(bytes))?,
                Attached::Object(place, object) => {
                    let (store, name) = (history.store, &object.object);
                    let file = store.layout().object_named(name, object.extension);
                    // What is damaged goes nowhere.
                    let nowhere = &mut std::io::sink();
                    copy_object(store, name, object.extension, nowhere, &file)
                        .map_err(|error| of_stage(&history.stages[*place], error))?;
                    if !file.exists() {
                        return Err(CacheError::Missing { object: *name }.into());
                    }
                    self.client.put(&path, Content::File(&file))?;
                }
            }
        }
        Ok(all.len())
    }
}

fn metric(name: &str, point: &Point) -> Value {
    // JSON has no such numbers; MLflow reads these words.
    let value = match point.value {
        value if value.is_nan() => json!("NaN"),
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        value => json!(value),
    };
    json!({"key": name, "value": value, "timestamp": point.time, "step": point.step})
}

/// Divides items so that no request has more of them than it may, nor more bytes.
fn batches(items: Vec<Value>, most: usize) -> Vec<Vec<Value>> {
    let mut batches: Vec<Vec<Value>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let length = item.to_string().len() + 1;
        let is_full = |batch: &Vec<Value>| batch.len() == most || bytes + length > MOST_BYTES;
        if batches.last().is_none_or(is_full) {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += length;
        if let Some(batch) = batches.last_mut() {
            batch.push(item);
        }
    }
    batches
}

fn text_at(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_hold_no_more_than_they_may() {
        let sizes = |items: Vec<Value>, most| {
            batches(items, most)
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>()
        };
        assert_eq!(sizes(vec![json!(1); 2500], 1000), [1000, 1000, 500]);
        assert_eq!(sizes(vec![json!("x".repeat(140_000)); 5], 100), [2, 2, 1]);
        assert!(sizes(Vec::new(), 100).is_empty());
    }

    #[test]
    fn artifacts_go_where_the_server_keeps_them() {
        let below = |uri: &str| {
            Known {
                id: String::new(),
                artifact_uri: uri.to_owned(),
                complete: None,
            }
            .artifacts_below()
        };
        assert_eq!(
            below("mlflow-artifacts:/1/ab/artifacts").as_deref(),
            Some("1/ab/artifacts")
        );
        assert_eq!(
            below("mlflow-artifacts://h:5000/1/ab/artifacts").as_deref(),
            Some("1/ab/artifacts")
        );
        assert_eq!(below("s3://bucket/1/ab/artifacts"), None);
    }

    #[test]
    fn numbers_that_json_lacks_are_words() {
        let point = |value| {
            metric(
                "m",
                &Point {
                    time: 1,
                    value,
                    step: 2,
                },
            )["value"]
                .clone()
        };
        assert_eq!(
            [point(f64::NAN), point(f64::NEG_INFINITY), point(1.5)],
            [json!("NaN"), json!("-Infinity"), json!(1.5)]
        );
    }
}
