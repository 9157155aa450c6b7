//! Garbage collection: what goes, in which order, and why. What a run's record refers to is kept, and what somebody
//! fetched lately, unless a limit on age or size says otherwise; then what is cheapest to recompute per byte goes first.
//! The newest run of each pipeline has no age. What somebody is working on stays: leases, the hits of runs that are under
//! way, and whatever is younger than an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stages::artifact::Digest;

use super::verify::files_below;
use super::{Action, CacheError, Key, RunId, RunRecord, RunStatus, Store};

/// Files without an action may belong to a stage that is being published.
const GRACE: Duration = Duration::from_secs(3600);

/// A record that says for longer that its run is under way is that of a run that was killed.
const LONGEST_RUN: Duration = Duration::from_secs(7 * 24 * 3600);

/// What somebody fetched stays for so long, unless `max_age` is less.
const FETCHED: Duration = Duration::from_secs(7 * 24 * 3600);

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
        let records = self.records()?;
        let under_way: Vec<&RunRecord> = records.values().filter(|record| self.is_under_way(record)).collect();
        if !under_way.is_empty() {
            // What a run under way stands on is in its record, what it has made is in none yet.
            in_flight.extend(under_way.iter().flat_map(|record| &record.stages).filter_map(|stage| stage.key));
            let young = |action: &&Action| self.age(&self.store.layout().action(&action.key)) < GRACE;
            in_flight.extend(actions.iter().filter(young).map(|action| action.key));
        }
        let reachable = self.drop_old_runs(records)?;
        let mut roots = self.options.roots.clone();
        roots.push(Root { name: "runs".into(), keys: reachable });
        roots.push(Root { name: "pulls".into(), keys: self.drop_old_pulls()? });
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

    /// The records of all runs, by the folders that they lie in. One that cannot be read ends the collection: what it
    /// needs is not known.
    fn records(&self) -> Result<BTreeMap<RunId, RunRecord>, CacheError> {
        let mut records = BTreeMap::new();
        // A process that was killed early may leave a folder without a record.
        for run in self.store.runs()?.into_iter().filter(|run| self.store.run_path(run).is_file()) {
            let record = self.store.load_run_as_written(&run)?;
            records.insert(run, record);
        }
        Ok(records)
    }

    /// Whether a record says that its run is under way. A killed run says so too, and is believed for a week.
    fn is_under_way(&self, record: &RunRecord) -> bool {
        let started = UNIX_EPOCH.checked_add(Duration::from_millis(record.started)).unwrap_or(self.now);
        record.status == RunStatus::Running && self.now.duration_since(started).unwrap_or_default() < LONGEST_RUN
    }

    /// Removes records of runs that are too old; the keys of all others are reachable.
    fn drop_old_runs(&mut self, records: BTreeMap<RunId, RunRecord>) -> Result<BTreeSet<Key>, CacheError> {
        let mut reachable = BTreeSet::new();
        let mut newest: BTreeMap<&str, &RunId> = BTreeMap::new();
        for (run, record) in &records {
            newest.insert(&record.file, run);
        }
        let newest: BTreeSet<RunId> = newest.into_values().cloned().collect();
        for (run, record) in records {
            // A record from elsewhere may say anything; what makes no sense counts as just ended.
            let lasted = Duration::try_from_secs_f64(record.seconds).ok();
            let ended = Duration::from_millis(record.started).checked_add(lasted.unwrap_or_default());
            let ended = ended.and_then(|since| UNIX_EPOCH.checked_add(since)).unwrap_or(self.now);
            let age = self.now.duration_since(ended).unwrap_or_default();
            let old = self.options.max_age.is_some_and(|limit| age > limit);
            if old && !self.is_under_way(&record) && !newest.contains(&run) {
                if !self.options.dry_run {
                    self.store.note_forgotten(&record)?;
                }
                self.remove_folder(&self.store.run_folder(&run), "a run older than the limit")?;
            } else {
                reachable.extend(record.stages.iter().filter_map(|stage| stage.key));
            }
        }
        Ok(reachable)
    }

    /// Removes notes of what was fetched long ago; the keys of all others are needed.
    fn drop_old_pulls(&mut self) -> Result<BTreeSet<Key>, CacheError> {
        let limit = self.options.max_age.map_or(FETCHED, |limit| limit.min(FETCHED));
        let mut fetched = BTreeSet::new();
        for (path, keys) in self.store.pulls()? {
            if self.age(&path) > limit {
                self.remove(&path, "a note of what was fetched longer ago than the limit")?;
            } else {
                fetched.extend(keys);
            }
        }
        Ok(fetched)
    }

    /// Removes what is cheapest to have again until the rest fits. Checkpoints, which only save time, go first; then what
    /// the remote holds; what somebody besides a run asks to keep goes last.
    fn shrink(&mut self, kept: Vec<Action>, in_flight: &BTreeSet<Key>) -> Result<Vec<Action>, CacheError> {
        let Some(limit) = self.options.max_bytes else { return Ok(kept) };
        let (mut at_work, mut kept): (Vec<Action>, Vec<Action>) =
            kept.into_iter().partition(|action| in_flight.contains(&action.key));
        // Objects of both kinds count once.
        let total_of = |kept: &[Action]| bytes_of(at_work.iter().chain(kept));
        let mut total = total_of(&kept);
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
            let reason = if held(action) {
                "the remote holds it, to keep within the size".to_owned()
            } else {
                format!("{:.3} s to recompute, to keep within the size", action.seconds)
            };
            self.remove_action(action, &reason)?;
            total = total_of(&kept[evicted..]);
        }
        at_work.extend(kept.split_off(evicted));
        Ok(at_work)
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
        // Everything in `tmp/` belongs to a process, folders as a whole: what a stage copies there may look old at once.
        let at_work = self.store.processes_at_work()?;
        for path in entries_of(&self.store.layout().tmp())? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_at_work = name.rsplit_once('-').is_some_and(|(process, _)| at_work.contains(process));
            if is_at_work || self.untouched_for(&path) <= GRACE {
                continue;
            }
            if path.is_dir() {
                self.remove_folder(&path, "left behind by a crash")?;
            } else {
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

    /// Since something in it last changed, by the clock that programs cannot set back.
    fn untouched_for(&self, path: &Path) -> Duration {
        let Ok(metadata) = path.symlink_metadata() else { return Duration::ZERO };
        let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or_default());
        let own = self.now.duration_since(changed).unwrap_or_default();
        let below = if metadata.is_dir() { entries_of(path).unwrap_or_default() } else { Vec::new() };
        below.iter().map(|path| self.untouched_for(path)).fold(own, Duration::min)
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

/// What lies in a folder that may not be there.
fn entries_of(folder: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(CacheError::io("list", folder))?,
    };
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
}

/// Bytes of all objects that these actions name, each counted once.
fn bytes_of<'a>(actions: impl IntoIterator<Item = &'a Action>) -> u64 {
    let objects: BTreeMap<Digest, u64> =
        actions.into_iter().flat_map(Action::objects).map(|record| (record.object, record.bytes)).collect();
    objects.values().sum()
}

/// Seconds that a byte saves.
fn value(action: &Action) -> f64 {
    action.seconds / action.bytes().max(1) as f64
}
