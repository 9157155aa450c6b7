//! Is what is recorded still what was recorded? Seals of records and their order, actions against their manifests, objects
//! against their names. It reads and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use contract::artifact::Digest;
use rayon::prelude::*;
use serde::Serialize;

use super::metric_values::{metrics_of, misquoted};
use super::{Lock, LockedStage};
use crate::cache::{
    Action, CacheError, ChainHead, Key, Manifest, ObjectRecord, RecordSeal, RunId, RunRecord,
    StageRecord, StageState, Store,
};

/// One thing that is not as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// `run …`, `stage …`, `object …`.
    pub what: String,
    pub problem: String,
}

/// What a verification found.
#[derive(Debug, Default, Serialize)]
pub struct Verification {
    pub problems: Vec<Problem>,
    /// What could not be checked, and why that is no fault.
    pub notes: Vec<String>,
    pub records: usize,
    pub actions: usize,
    pub objects: usize,
    pub bytes: u64,
}

impl Verification {
    pub fn problem(&mut self, what: impl Into<String>, problem: impl Into<String>) {
        self.problems.push(Problem {
            what: what.into(),
            problem: problem.into(),
        });
    }
}

/// Called with the number of objects that were read, and of all.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Checks a run: the chain of records that it stands in, its actions and their objects.
///
/// # Errors
/// If the store cannot be read.
pub fn verify_run(
    store: &Store,
    run: &RunId,
    progress: Progress<'_>,
) -> Result<Verification, CacheError> {
    let mut found = Verification::default();
    verify_chain(store, &mut found)?;
    let Ok(record) = store.load_run(run) else {
        return Ok(found);
    };
    let mut lock = Lock::of_run(&record, store);
    // A stage without outputs has nothing to be checked.
    lock.stages.retain(|_, stage| !stage.outputs.is_empty());
    // A bundle may have left results out.
    verify_stages(
        &lock,
        store,
        !is_elsewhere(store, &record),
        &mut found,
        progress,
    )?;
    Ok(found)
}

/// Checks a lock whose seals were found right: keys against manifests, inputs against outputs, and whatever this store has
/// of it.
///
/// # Errors
/// If the store cannot be read.
pub fn verify_lock(
    lock: &Lock,
    store: &Store,
    progress: Progress<'_>,
) -> Result<Verification, CacheError> {
    let mut found = Verification {
        records: 1,
        ..Verification::default()
    };
    for (name, stage) in &lock.stages {
        for need in &stage.needs {
            if !lock.stages.contains_key(need) {
                let problem = format!("it needs {need}, which is not in the lock");
                found.problem(format!("stage {name}"), problem);
            }
        }
    }
    verify_stages(lock, store, false, &mut found, progress)?;
    Ok(found)
}

/// The seals of all records of a store, and their order.
fn verify_chain(store: &Store, found: &mut Verification) -> Result<(), CacheError> {
    // The end comes first: what is recorded while this looks at records is behind it.
    let head = store.chain_head();
    let (mut seals, mut records) = (BTreeMap::new(), Vec::new());
    let mut unsealed = Vec::new();
    for run in store.runs()? {
        if store.layout().look_at(&store.run_path(&run)).is_none() {
            // Its process was killed before it wrote one, or it was taken away: then what followed says so.
            continue;
        }
        found.records += 1;
        let what = format!("run {run}");
        // What cannot be read is reported below.
        match store.record_seal(&run).unwrap_or(RecordSeal::Broken) {
            RecordSeal::Intact(seal) => drop(seals.insert(run.clone(), seal)),
            RecordSeal::None => unsealed.push(run.clone()),
            RecordSeal::Broken => {
                found.problem(&what, "its record was changed after it was written")
            }
        }
        match store.load_run(&run) {
            Ok(record) if record.run == run => records.push(record),
            Ok(record) => found.problem(
                &what,
                format!("what lies here is the record of the run {}", record.run),
            ),
            Err(error) => found.problem(&what, error.to_string()),
        }
    }
    // Names of runs sort by time.
    let first = seals.keys().find(|run| !store.is_imported(run));
    let mut early = 0;
    for run in unsealed {
        if first.is_some_and(|first| run > *first) {
            let problem = "it has no seal, though records before it have";
            found.problem(format!("run {run}"), problem);
        } else {
            early += 1;
        }
    }
    if early > 0 {
        found.notes.push(format!(
            "{early} records were written before records were sealed"
        ));
    }
    verify_links(store, head, &records, &seals, found);
    Ok(())
}

fn verify_links(
    store: &Store,
    head: Option<ChainHead>,
    records: &[RunRecord],
    seals: &BTreeMap<RunId, Digest>,
    found: &mut Verification,
) {
    let (imported, own): (Vec<&RunRecord>, Vec<&RunRecord>) = records
        .iter()
        .partition(|record| is_elsewhere(store, record));
    let Some(head) = head else {
        note_imported(imported.len(), found);
        if store.chain_head_is_broken() {
            found.problem("runs.head", "it was changed after it was written");
        } else if own.iter().any(|record| record.previous.is_some()) {
            found.problem(
                "runs.head",
                "it is gone, and with it the end of the chain of records",
            );
        }
        return;
    };
    let mut links = Links {
        store,
        seals,
        forgotten: store.forgotten_runs(),
        collected: 0,
    };
    let mut elsewhere = imported.len();
    let mut broken = Vec::new();
    for record in own {
        let Some(link) = &record.previous else {
            continue;
        };
        if link.store != head.store {
            elsewhere += 1;
            continue;
        }
        if let (Some(run), Some(seal)) = (&link.run, link.seal) {
            let after = format!("as the run {} says, which came after it", record.run);
            links.check(run, seal, &after, found);
        }
        if link.after_break {
            broken.push(&record.run);
        }
    }
    links.check(&head.run, head.seal, "as runs.head says", found);
    for run in broken {
        let problem =
            "runs.head was gone or broken when it was recorded: records before it may be missing";
        found.problem(format!("run {run}"), problem);
    }
    let collected = links.collected;
    if collected > 0 {
        found.notes.push(format!(
            "{collected} records are gone that were collected, as runs.forgotten says"
        ));
    }
    note_imported(elsewhere, found);
}

/// What is known of the records that others name.
struct Links<'a> {
    store: &'a Store,
    /// Of the records that were there at the beginning.
    seals: &'a BTreeMap<RunId, Digest>,
    /// Of records that were collected.
    forgotten: BTreeMap<RunId, Digest>,
    /// Named records that are gone because they were collected.
    collected: usize,
}

impl Links<'_> {
    /// A record that something names is there with this seal, or was collected with it. `after` is who says so.
    fn check(&mut self, run: &RunId, seal: Digest, after: &str, found: &mut Verification) {
        let mut is_there = self.is_there(run);
        let mut known = self.seals.get(run).copied();
        // That a record was collected says nothing of one that is there.
        if known.is_none() && !is_there {
            known = self.forgotten.get(run).copied();
        }
        if known != Some(seal) {
            // It may have been written or collected since this began to look.
            if let Ok(RecordSeal::Intact(seal)) = self.store.record_seal(run) {
                known = Some(seal);
            }
            is_there = self.is_there(run);
            if known.is_none() && !is_there {
                known = self.store.forgotten_runs().get(run).copied();
            }
        }
        if known == Some(seal) {
            self.collected += usize::from(!is_there);
            return;
        }
        let problem = if is_there {
            "its record was changed or replaced"
        } else {
            "its record is gone or was changed"
        };
        found.problem(format!("run {run}"), format!("{problem}, {after}"));
    }

    fn is_there(&self, run: &RunId) -> bool {
        let path = self.store.run_path(run);
        self.store.layout().look_at(&path).is_some()
    }
}

/// What was imported has its place in the chain of another store. A record that was imported and claims a place in the chain
/// of this one is checked like this store's own.
fn is_elsewhere(store: &Store, record: &RunRecord) -> bool {
    if !store.is_imported(&record.run) {
        return false;
    }
    match (&record.previous, store.chain_head()) {
        (Some(link), Some(head)) => link.store != head.store,
        _ => true,
    }
}

fn note_imported(count: usize, found: &mut Verification) {
    if count > 0 {
        found.notes.push(format!(
            "{count} records come from another store, where their order can be checked"
        ));
    }
}

/// Stages against their actions, and these against their objects.
fn verify_stages(
    lock: &Lock,
    store: &Store,
    all_must_be_there: bool,
    found: &mut Verification,
    progress: Progress<'_>,
) -> Result<(), CacheError> {
    let mut known: BTreeSet<Digest> = BTreeSet::new();
    for stage in lock.stages.values() {
        known.extend(stage.outputs.values());
    }
    let mut objects: BTreeMap<(Digest, Digest), (ObjectRecord, String)> = BTreeMap::new();
    let mut absent = 0;
    for (name, stage) in &lock.stages {
        let what = format!("stage {name}");
        let action = store.action(&stage.key)?;
        let path = store.layout().action(&stage.key);
        match &action {
            None if store.layout().look_at(&path).is_some() => {
                found.problem(&what, "its action was changed after it was written");
            }
            None if all_must_be_there => found.problem(&what, "its action is gone from the store"),
            None => absent += 1,
            Some(action) => {
                found.actions += 1;
                if verify_action(name, stage, action, store, found)? {
                    for output in &action.outputs {
                        let id = (output.record.object, output.record.digest);
                        objects
                            .entry(id)
                            .or_insert_with(|| (output.record.clone(), name.clone()));
                    }
                }
            }
        }
        let manifest = match &action {
            Some(action) => &action.manifest,
            None => &stage.manifest,
        };
        if !manifest.is_empty() {
            verify_manifest(&what, manifest, stage.key.0, &known, found);
        }
    }
    if absent > 0 {
        found.notes.push(format!(
            "of {absent} stages this store has no results that could be checked"
        ));
    }
    verify_objects(objects.into_values().collect(), store, found, progress);
    Ok(())
}

/// What is recorded of a stage against the action in the store. Says whether the action is that of the record, so that its
/// objects are.
fn verify_action(
    name: &str,
    stage: &LockedStage,
    action: &Action,
    store: &Store,
    found: &mut Verification,
) -> Result<bool, CacheError> {
    let what = format!("stage {name}");
    if !stage.manifest.is_empty() && action.manifest != stage.manifest {
        found.problem(&what, "the store says that something else determined it");
    }
    let outputs = action.digests();
    if outputs != stage.outputs {
        if let Some(run) = superseding(store, &stage.key, &stage.outputs, &outputs)? {
            found.notes.push(format!(
                "{what} is not deterministic: the run {run} executed it again with other outputs, which replaced \
                 these; what the record says of it can no longer be checked"
            ));
            return Ok(false);
        }
        found.problem(&what, "the store has other outputs for it");
    }
    match metrics_of(action, store) {
        Ok(metrics) => {
            for problem in misquoted(&stage.metrics, &metrics) {
                found.problem(&what, format!("it misquotes its outputs: {problem}"));
            }
        }
        // What is missing or damaged is reported below, with the objects.
        Err(error) if error.is_loss() => {}
        Err(error) => return Err(error),
    }
    Ok(true)
}

/// The run of this store that executed a stage again, with the outputs that the store has now, and was recorded after one
/// with the outputs in question. Only records whose seals hold count.
fn superseding(
    store: &Store,
    key: &Key,
    then: &BTreeMap<String, Digest>,
    now: &BTreeMap<String, Digest>,
) -> Result<Option<RunId>, CacheError> {
    let mut known_before = false;
    let mut records: Vec<RunRecord> = store.newest_first()?.collect();
    records.reverse();
    for record in records {
        let run = record.run.clone();
        if !matches!(store.record_seal(&run), Ok(RecordSeal::Intact(_))) {
            continue;
        }
        for stage in record.stages.iter().filter(|stage| stage.key == Some(*key)) {
            let is_own = !store.is_imported(&run) && stage.state == StageState::Ran;
            if known_before && is_own && has_outputs(stage, now) {
                return Ok(Some(run));
            }
            known_before |= has_outputs(stage, then);
        }
    }
    Ok(None)
}

fn has_outputs(stage: &StageRecord, outputs: &BTreeMap<String, Digest>) -> bool {
    let digests = &stage.digests;
    digests.len() == outputs.len()
        && digests
            .iter()
            .all(|(port, digest)| outputs.get(port) == Some(digest))
}

/// The key is that of the manifest, and every input came out of a stage.
fn verify_manifest(
    what: &str,
    manifest: &str,
    key: Digest,
    known: &BTreeSet<Digest>,
    found: &mut Verification,
) {
    let Some(recorded) = Manifest::parse(manifest) else {
        return found.problem(what, "its manifest cannot be read");
    };
    if recorded.key().0 != key {
        let (key, other) = (key.short(), recorded.key().short());
        found.problem(
            what,
            format!("its key is {key}, but that of its manifest {other}"),
        );
    }
    for (port, _, digest) in &recorded.inputs {
        if !known.contains(digest) {
            let digest = digest.short();
            found.problem(
                what,
                format!("no stage has the output that its input {port} names, {digest}"),
            );
        }
    }
}

fn verify_objects(
    objects: Vec<(ObjectRecord, String)>,
    store: &Store,
    found: &mut Verification,
    progress: Progress<'_>,
) {
    for (record, _) in &objects {
        let all = record.all();
        found.objects += all.len();
        found.bytes += all.iter().map(|record| record.bytes).sum::<u64>();
    }
    let (done, total) = (AtomicUsize::new(0), objects.len());
    let problems: Vec<Option<Problem>> = objects
        .into_par_iter()
        .map(|(record, stage)| {
            let result = store.inspect(&record);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            Some(Problem {
                what: format!("object {} of {stage}", record.object.short()),
                problem: result.err()?.to_string(),
            })
        })
        .collect();
    found.problems.extend(problems.into_iter().flatten());
}
