//! Is what is recorded still what was recorded? Seals of records and their order, actions against their manifests, objects
//! against their names. It reads and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use contract::artifact::Digest;
use rayon::prelude::*;
use serde::Serialize;

use super::figures::{metrics_of, misquoted, outputs_of};
use super::{Lock, LockedStage};
use crate::cache::{
    Action, CacheError, ChainHead, Key, Link, ObjectRecord, RecordSeal, Recorded, RunId, RunRecord,
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
    // A stage that came to nothing has nothing to be checked.
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
        let needs = stage
            .needs
            .iter()
            .filter(|need| !lock.stages.contains_key(*need));
        needs.for_each(|need| {
            found.problem(
                format!("stage {name}"),
                format!("it needs {need}, which is not in the lock"),
            )
        });
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
        // What cannot be read is told below.
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
    let first = seals.keys().find(|run| !store.is_imported(run)).cloned();
    let (late, early): (Vec<RunId>, Vec<RunId>) = unsealed
        .into_iter()
        .partition(|run| first.as_ref().is_some_and(|first| run > first));
    for run in late {
        found.problem(
            format!("run {run}"),
            "it has no seal, though records before it have",
        );
    }
    if !early.is_empty() {
        found.notes.push(format!(
            "{} records were written before records were sealed",
            early.len()
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
    let forgotten = store.forgotten_runs();
    let (mut elsewhere, mut collected) = (imported.len(), 0);
    let mut check = |run: &RunId, seal: Digest, after: &str| {
        let mut is_there = store.layout().look_at(&store.run_path(run)).is_some();
        // That a record was collected says nothing of one that is there.
        let mut known = seals
            .get(run)
            .or_else(|| forgotten.get(run).filter(|_| !is_there))
            .copied();
        if known != Some(seal) {
            // It may have been written or collected since this began to look.
            known = match store.record_seal(run) {
                Ok(RecordSeal::Intact(seal)) => Some(seal),
                _ => known,
            };
            is_there = store.layout().look_at(&store.run_path(run)).is_some();
            known = known.or_else(|| {
                store
                    .forgotten_runs()
                    .get(run)
                    .filter(|_| !is_there)
                    .copied()
            });
        }
        match known {
            Some(known) if known == seal => collected += usize::from(!is_there),
            _ if is_there => found.problem(
                format!("run {run}"),
                format!("its record was changed or replaced, {after}"),
            ),
            _ => found.problem(
                format!("run {run}"),
                format!("its record is gone or was changed, {after}"),
            ),
        }
    };
    let mut broken = Vec::new();
    for record in own {
        match &record.previous {
            Some(link) if link.store != head.store => elsewhere += 1,
            Some(link) => {
                if let (Some(run), Some(seal)) = (&link.run, link.seal) {
                    check(
                        run,
                        seal,
                        &format!("as the run {} says, which came after it", record.run),
                    );
                }
                broken.extend(link.after_break.then(|| record.run.clone()));
            }
            None => {}
        }
    }
    check(&head.run, head.seal, "as runs.head says");
    for run in broken {
        let problem =
            "runs.head was gone or broken when it was recorded: records before it may be missing";
        found.problem(format!("run {run}"), problem);
    }
    if collected > 0 {
        found.notes.push(format!(
            "{collected} records are gone that were collected, as runs.forgotten says"
        ));
    }
    note_imported(elsewhere, found);
}

/// What was imported has its place in the chain of another store; whoever says so of a record of this one lies.
fn is_elsewhere(store: &Store, record: &RunRecord) -> bool {
    let is_ours = |link: &Link| {
        store
            .chain_head()
            .is_some_and(|head| link.store == head.store)
    };
    store.is_imported(&record.run) && !record.previous.as_ref().is_some_and(is_ours)
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
    let known: BTreeSet<Digest> = lock
        .stages
        .values()
        .flat_map(|stage| stage.outputs.values().copied())
        .collect();
    let mut objects: BTreeMap<(Digest, Digest), (ObjectRecord, String)> = BTreeMap::new();
    let mut absent = 0;
    for (name, stage) in &lock.stages {
        let what = format!("stage {name}");
        let action = store.action(&stage.key)?;
        match &action {
            None if store
                .layout()
                .look_at(&store.layout().action(&stage.key))
                .is_some() =>
            {
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
        let manifest = action
            .as_ref()
            .map_or(stage.manifest.as_str(), |action: &Action| {
                action.manifest.as_str()
            });
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
    let outputs = outputs_of(action);
    if outputs != stage.outputs {
        if let Some(run) = superseding(store, &stage.key, &stage.outputs, &outputs)? {
            found.notes.push(format!(
                "{what} is not deterministic: the run {run} executed it again with other outputs, which replaced \
                 these; what the record says of it cannot be checked any more"
            ));
            return Ok(false);
        }
        found.problem(&what, "the store has other outputs for it");
    }
    match metrics_of(action, store) {
        Ok(figures) => misquoted(&stage.metrics, &figures)
            .into_iter()
            .for_each(|problem| {
                found.problem(&what, format!("it misquotes its outputs: {problem}"));
            }),
        // What is not there or damaged is told below, with the objects.
        Err(error) if error.is_loss() => {}
        Err(error) => return Err(error),
    }
    Ok(true)
}

/// The run of this store that did a stage anew, came to what the store has now, and was recorded after one which came to
/// what is asked about. Only records whose seals hold are heard.
fn superseding(
    store: &Store,
    key: &Key,
    then: &BTreeMap<String, Digest>,
    now: &BTreeMap<String, Digest>,
) -> Result<Option<RunId>, CacheError> {
    let came_to = |stage: &StageRecord, outputs: &BTreeMap<String, Digest>| {
        stage.digests.len() == outputs.len()
            && stage
                .digests
                .iter()
                .all(|(port, digest)| outputs.get(port) == Some(digest))
    };
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
            if known_before && is_own && came_to(stage, now) {
                return Ok(Some(run));
            }
            known_before |= came_to(stage, then);
        }
    }
    Ok(None)
}

/// The key is that of the manifest, and every input came out of a stage.
fn verify_manifest(
    what: &str,
    manifest: &str,
    key: Digest,
    known: &BTreeSet<Digest>,
    found: &mut Verification,
) {
    let Some(recorded) = Recorded::parse(manifest) else {
        return found.problem(what, "its manifest cannot be read");
    };
    if recorded.key().0 != key {
        found.problem(
            what,
            format!(
                "its key is {}, but that of its manifest {}",
                key.short(),
                recorded.key().short()
            ),
        );
    }
    for (port, _, digest) in recorded
        .inputs
        .iter()
        .filter(|(.., digest)| !known.contains(digest))
    {
        found.problem(
            what,
            format!(
                "no stage has the output that its input {port} names, {}",
                digest.short()
            ),
        );
    }
}

fn verify_objects(
    objects: Vec<(ObjectRecord, String)>,
    store: &Store,
    found: &mut Verification,
    progress: Progress<'_>,
) {
    found.objects = objects.iter().map(|(record, _)| record.all().len()).sum();
    found.bytes = objects
        .iter()
        .flat_map(|(record, _)| record.all())
        .map(|record| record.bytes)
        .sum();
    let (done, total) = (AtomicUsize::new(0), objects.len());
    let inspect = |(record, stage): (ObjectRecord, String)| {
        let result = store.inspect(&record);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        let problem = result.err()?.to_string();
        Some(Problem {
            what: format!("object {} of {stage}", record.object.short()),
            problem,
        })
    };
    found.problems.extend(
        objects
            .into_par_iter()
            .filter_map(inspect)
            .collect::<Vec<_>>(),
    );
}
