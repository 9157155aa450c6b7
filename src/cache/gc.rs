//! Garbage collection: what goes, in which order, and why. What a run's record refers to is kept,
//! unless a limit on age or size says otherwise; then what is cheapest to recompute per byte goes first. The newest run
//! of each pipeline has no age. What somebody is working on stays: leases, the hits of runs that are under way, and
//! whatever is younger than an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stages::artifact::Digest;

use super::verify::files_below;
use super::{Action, CacheError, Key, RunId, RunRecord, RunStatus, Store};

/// Files without an action may belong to a stage that is being published.
const GRACE: Duration = Duration::from_secs(3600);

/// What to keep.
#[derive(Clone, Debug, Default)]
pub struct GcOptions {
    /// Bytes that objects and checkpoints may take in all.
    pub max_bytes: Option<u64>,
    /// Runs older than this no longer keep anything, and their records go.
    pub max_age: Option<Duration>,
    /// Keys that somebody besides the recorded runs needs.
    pub roots: Vec<Root>,
    /// Keys whose results the remote holds: to fetch them again costs less than to compute them.
    pub held: BTreeSet<Key>,
    /// Say what would go, remove nothing.
    pub dry_run: bool,
}

/// Somebody who needs results.
#[derive(Clone, Debug, Default)]
pub struct Root {
    /// Who, for the report: `locks`, `sweeps`.
    pub name: String,
    pub keys: BTreeSet<Key>,
}

/// One thing that goes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Removal {
    pub path: PathBuf,
    pub bytes: u64,
    pub reason: String,
}

/// What a collection removed, or would remove.
#[derive(Debug, Default, serde::Serialize)]
pub struct GcReport {
    pub removed: Vec<Removal>,
    pub freed: u64,
    pub kept_objects: usize,
    pub kept_bytes: u64,
    /// Actions that stay, by who needs them; one may be needed by several.
    pub kept_for: BTreeMap<String, usize>,
}

struct Collection<'a> {
    store: &'a Store,
    options: &'a GcOptions,
    now: SystemTime,
    /// Objects of actions that go: they need no grace.
    freed: BTreeSet<PathBuf>,
    report: GcReport,
}

impl Store {
    /// Collects garbage.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport, CacheError> {
        let collection = Collection {
            store: self,
            options,
            now: SystemTime::now(),
            freed: BTreeSet::new(),
            report: GcReport::default(),
        };
        collection.run()
    }
}

impl Collection<'_> {
    fn run(mut self) -> Result<GcReport, CacheError> {
        let mut in_flight = self.in_flight();
        let (actions, _) = self.store.actions()?;
        if self.somebody_runs()? {
            // What a run under way has made is in no record yet.
            let young = |action: &&Action| self.age(&self.store.layout().action(&action.key)) < GRACE;
            in_flight.extend(actions.iter().filter(young).map(|action| action.key));
        }
        let reachable = self.drop_old_runs()?;
        let mut roots = self.options.roots.clone();
        roots.push(Root { name: "runs".into(), keys: reachable });
        roots.push(Root { name: "work under way".into(), keys: in_flight.clone() });
        let is_needed = |action: &Action| roots.iter().any(|root| root.keys.contains(&action.key));
        let (kept, unreachable): (Vec<Action>, Vec<Action>) = actions.into_iter().partition(is_needed);
        for action in unreachable {
            self.remove_action(&action, "no run, lock or sweep refers to it")?;
        }
        let kept = self.shrink(kept, &in_flight)?;
        for root in roots {
            let count = kept.iter().filter(|action| root.keys.contains(&action.key)).count();
            self.report.kept_for.extend((count > 0).then_some((root.name, count)));
        }
        self.sweep_objects(&kept)?;
        self.sweep_leftovers()?;
        Ok(self.report)
    }

    /// Keys that somebody holds a lease on.
    fn in_flight(&self) -> BTreeSet<Key> {
        self.store.leased().unwrap_or_default().into_iter().collect()
    }

    /// Whether the record of some run says that it is under way. A killed run says so too; its results get an hour.
    fn somebody_runs(&self) -> Result<bool, CacheError> {
        let is_running = |run: &RunId| self.store.load_run(run).is_ok_and(|run| run.status == RunStatus::Running);
        Ok(self.store.runs()?.iter().any(is_running))
    }

    /// Removes records of runs that are too old; the keys of all others are reachable.
    fn drop_old_runs(&mut self) -> Result<BTreeSet<Key>, CacheError> {
        let mut reachable = BTreeSet::new();
        let runs = self.store.runs()?;
        let records: Vec<RunRecord> = runs.iter().filter_map(|run| self.store.load_run(run).ok()).collect();
        let mut newest: BTreeMap<&str, &RunRecord> = BTreeMap::new();
        for record in &records {
            newest.insert(&record.file, record);
        }
        let newest: BTreeSet<RunId> = newest.into_values().map(|record| record.run.clone()).collect();
        for record in records {
            // A record from elsewhere may say anything; what makes no sense counts as just ended.
            let lasted = Duration::try_from_secs_f64(record.seconds).ok();
            let ended = Duration::from_millis(record.started).checked_add(lasted.unwrap_or_default());
            let ended = ended.and_then(|since| UNIX_EPOCH.checked_add(since)).unwrap_or(self.now);
            let age = self.now.duration_since(ended).unwrap_or_default();
            let old = self.options.max_age.is_some_and(|limit| age > limit);
            if old && record.status != RunStatus::Running && !newest.contains(&record.run) {
                if !self.options.dry_run {
                    self.store.note_forgotten(&record)?;
                }
                self.remove_folder(&self.store.run_folder(&record.run), "a run older than the limit")?;
            } else {
                reachable.extend(record.stages.iter().filter_map(|stage| stage.key));
            }
        }
        Ok(reachable)
    }

    /// Removes what is cheapest to have again until the rest fits. Checkpoints, which only save time, go first; then what
    /// the remote holds; what somebody besides a run asks to keep goes last.
    fn shrink(&mut self, mut kept: Vec<Action>, in_flight: &BTreeSet<Key>) -> Result<Vec<Action>, CacheError> {
        let Some(limit) = self.options.max_bytes else { return Ok(kept) };
        let mut total = bytes_of(&kept);
        let mut checkpoints = files_below(&self.store.layout().checkpoints())?;
        checkpoints.retain(|path| self.age(path) > GRACE);
        checkpoints.sort_by_key(|path| std::cmp::Reverse(self.age(path)));
        let mut checkpoint_bytes: u64 = checkpoints.iter().map(|path| size(path)).sum();
        for path in checkpoints {
            if total + checkpoint_bytes <= limit {
                break;
            }
            checkpoint_bytes -= size(&path);
            self.remove(&path, "a checkpoint, to keep within the size")?;
        }
        let held = |action: &Action| self.options.held.contains(&action.key);
        let asked_for = |action: &Action| self.options.roots.iter().any(|root| root.keys.contains(&action.key));
        let order = |action: &Action| (!held(action), asked_for(action));
        kept.sort_by(|left, right| order(left).cmp(&order(right)).then(value(left).total_cmp(&value(right))));
        let mut evicted = 0;
        while total + checkpoint_bytes > limit && evicted < kept.len() {
            let action = &kept[evicted];
            evicted += 1;
            if !in_flight.contains(&action.key) {
                let reason = if held(action) {
                    "the remote holds it, to keep within the size".to_owned()
                } else {
                    format!("{:.3} s to recompute, to keep within the size", action.seconds)
                };
                self.remove_action(action, &reason)?;
            }
            total = bytes_of(&kept[evicted..]);
        }
        Ok(kept.split_off(evicted))
    }

    /// Removes objects that no kept action names.
    fn sweep_objects(&mut self, kept: &[Action]) -> Result<(), CacheError> {
        let layout = self.store.layout();
        let needed: BTreeSet<PathBuf> =
            kept.iter().flat_map(Action::objects).map(|record| layout.object(record)).collect();
        for path in files_below(&layout.objects())? {
            // A young object may be on its way to its action, unless its action went just now.
            if needed.contains(&path) {
                self.report.kept_objects += 1;
                self.report.kept_bytes += size(&path);
            } else if self.age(&path) > GRACE || self.freed.contains(&path) {
                self.remove(&path, "no action needs it")?;
            }
        }
        Ok(())
    }

    fn remove_action(&mut self, action: &Action, reason: &str) -> Result<(), CacheError> {
        let layout = self.store.layout();
        self.freed.extend(action.objects().map(|record| layout.object(record)));
        self.remove(&layout.action(&action.key), reason)
    }

    fn sweep_leftovers(&mut self) -> Result<(), CacheError> {
        for path in files_below(&self.store.layout().tmp())? {
            if self.age(&path) > GRACE {
                self.remove(&path, "left behind by a crash")?;
            }
        }
        for path in files_below(&self.store.layout().quarantine())? {
            if self.age(&path) > self.options.max_age.unwrap_or(GRACE) {
                self.remove(&path, "was set aside as damaged")?;
            }
        }
        if let Some(limit) = self.options.max_age {
            for path in files_below(&self.store.layout().checkpoints())? {
                if self.age(&path) > limit {
                    self.remove(&path, "a checkpoint older than the limit")?;
                }
            }
        }
        Ok(())
    }

    fn age(&self, path: &Path) -> Duration {
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
        modified.ok().and_then(|modified| self.now.duration_since(modified).ok()).unwrap_or_default()
    }

    fn remove(&mut self, path: &Path, reason: &str) -> Result<(), CacheError> {
        let bytes = size(path);
        if !self.options.dry_run {
            match fs::remove_file(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.map_err(CacheError::io("remove", path))?,
            }
        }
        self.report.freed += bytes;
        self.report.removed.push(Removal { path: path.to_owned(), bytes, reason: reason.to_owned() });
        Ok(())
    }

    fn remove_folder(&mut self, folder: &Path, reason: &str) -> Result<(), CacheError> {
        for path in files_below(folder)? {
            self.remove(&path, reason)?;
        }
        if !self.options.dry_run {
            fs::remove_dir_all(folder).map_err(CacheError::io("remove", folder))?;
        }
        Ok(())
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Bytes of all objects that these actions name, each counted once.
fn bytes_of(actions: &[Action]) -> u64 {
    let objects: BTreeMap<Digest, u64> =
        actions.iter().flat_map(Action::objects).map(|record| (record.object, record.bytes)).collect();
    objects.values().sum()
}

/// Seconds that a byte saves.
fn value(action: &Action) -> f64 {
    action.seconds / action.bytes().max(1) as f64
}
