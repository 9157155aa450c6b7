//! Garbage collection: what goes, in which order, and why. What a run's record refers to is kept, and what somebody
//! fetched lately, unless a limit on age or size says otherwise; then what is cheapest to recompute per byte goes first.
//! The newest run of each pipeline has no age. What somebody is working on stays: leases, what runs that are under
//! way build upon and have made, and whatever is younger than an hour. Ages are read off the file system's own clock.
//!
//! Runs go on meanwhile, and nobody waits for anybody:
//! - Actions and objects go to the trash first (`trash.rs`). Then the collection looks once more for actions and for runs
//!   that have appeared since it began, gives back what they need, and only then empties the trash.
//! - Whoever publishes an action holds its objects until the action is there, and then sees to it that they still are
//!   (`hold.rs`). Whoever builds upon hits writes so into the record of the run, and then looks at them again.
//! - Each of the two first says what it does and looks afterwards, so that one of them sees the other.
//! - One collection at a time, under a lease. What a killed one had in its trash goes back first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::artifact::Digest;

use super::checkpoint::Chain;
use super::lease::remove_if_stale;
use super::trash::Trash;
use super::tree::{Found, Seen};
use super::{Action, CacheError, Key, LeaseAttempt, RunId, RunRecord, RunStatus, Store};

/// Files without an action may belong to a stage that is being published.
const GRACE: Duration = Duration::from_secs(3600);

/// What somebody fetched stays for so long, unless `max_age` is less; so do checkpoints that no recorded run needs, such as those
/// of a training that was killed.
const FETCHED: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long a collection waits for another one, and how often it looks.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(50);

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
    pub kept_checkpoints: usize,
    pub kept_checkpoint_bytes: u64,
    /// Actions that stay, by who needs them; one may be needed by several.
    pub kept_for: BTreeMap<String, usize>,
}

struct Collection<'a> {
    store: &'a Store,
    options: &'a GcOptions,
    /// By the clock of the file system.
    now: SystemTime,
    trash: Trash<'a>,
    /// What there was when the collection began.
    before: Sight,
    leased: BTreeSet<String>,
    /// Objects of actions that go: they need no grace.
    freed: BTreeSet<PathBuf>,
    removed_keys: BTreeSet<Key>,
    /// Runs that are too old. They go last, when it is known that nothing has come of them meanwhile.
    expired: Vec<RunRecord>,
    report: GcReport,
}

/// What the store's actions and records of runs looked like.
#[derive(Debug, Default)]
struct Sight {
    actions: BTreeMap<PathBuf, Seen>,
    records: BTreeMap<RunId, Seen>,
}

impl Sight {
    fn of(store: &Store) -> Result<Self, CacheError> {
        let layout = store.layout();
        let actions = layout
            .walk(&layout.actions())?
            .into_iter()
            .map(|found| (found.path, found.seen))
            .collect();
        let mut records = BTreeMap::new();
        for run in store.runs()? {
            let own = layout.entries(&store.run_folder(&run))?;
            let record = own
                .into_iter()
                .find(|found| found.path == store.run_path(&run));
            records.extend(record.map(|record| (run, record.seen)));
        }
        Ok(Self { actions, records })
    }
}

impl Store {
    /// Collects garbage.
    ///
    /// # Errors
    /// If the store cannot be listed or changed, a record that says what is needed cannot be read, or another collection
    /// does not come to its end.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport, CacheError> {
        if !self.layout().root().is_dir() {
            return Ok(GcReport::default());
        }
        let _turn = if options.dry_run {
            None
        } else {
            Some(self.turn_to_collect()?)
        };
        if !options.dry_run {
            self.take_back()?;
        }
        let now = self.clock();
        let collection = Collection {
            store: self,
            options,
            now,
            trash: Trash::new(self.layout()),
            before: Sight::of(self)?,
            leased: self.held_leases(now)?,
            freed: BTreeSet::new(),
            removed_keys: BTreeSet::new(),
            expired: Vec::new(),
            report: GcReport::default(),
        };
        collection.run()
    }

    /// Waits for the right to be the only one who collects.
    pub(super) fn turn_to_collect(&self) -> Result<LeaseAttempt, CacheError> {
        let begun = std::time::Instant::now();
        loop {
            match self.lease_collection()? {
                LeaseAttempt::Held if begun.elapsed() > LONGEST_WAIT => {
                    return Err(CacheError::Collecting);
                }
                LeaseAttempt::Held => std::thread::sleep(POLL),
                taken @ LeaseAttempt::Taken(_) => return Ok(taken),
            }
        }
    }
}

impl Collection<'_> {
    fn run(mut self) -> Result<GcReport, CacheError> {
        let collected = self.collect().and_then(|kept| {
            self.give_back_what_is_needed()?;
            Ok(kept)
        });
        let kept = match collected {
            Ok(kept) => kept,
            Err(error) => {
                // What is needed is not known: then nothing goes.
                let _ = self.trash.give_all_back();
                return Err(error);
            }
        };
        if !self.options.dry_run {
            self.trash.empty()?;
        }
        self.remove_expired()?;
        self.sweep_checkpoints(&kept)?;
        self.sweep_leftovers()?;
        Ok(self.report)
    }

    /// Puts into the trash what goes. Gives the keys whose results stay.
    fn collect(&mut self) -> Result<BTreeSet<Key>, CacheError> {
        let mut in_flight: BTreeSet<Key> = self
            .leased
            .iter()
            .filter_map(|name| name.parse().ok().map(Key))
            .collect();
        let (actions, _) = self.store.actions()?;
        let records = self.records()?;
        let under_way: Vec<&RunId> = records
            .iter()
            .filter(|(_, record)| self.is_under_way(record))
            .map(|(run, _)| run)
            .collect();
        if let Some(since) = under_way
            .iter()
            .filter_map(|run| Some(self.before.records.get(*run)?.modified))
            .min()
        {
            // What a run under way stands on is in its record, what it has made is in none yet.
            in_flight.extend(
                under_way
                    .iter()
                    .flat_map(|run| &records[*run].stages)
                    .filter_map(|stage| stage.key),
            );
            let is_young = |action: &&Action| {
                let seen = self
                    .before
                    .actions
                    .get(&self.store.layout().action(&action.key));
                seen.is_none_or(|seen| seen.modified >= since || self.age(seen) < GRACE)
            };
            in_flight.extend(actions.iter().filter(is_young).map(|action| action.key));
        }
        let recorded: BTreeSet<Key> = records
            .values()
            .flat_map(|record| &record.stages)
            .filter_map(|stage| stage.key)
            .collect();
        let reachable = self.find_old_runs(records)?;
        let mut roots = self.options.roots.clone();
        roots.push(Root {
            name: "runs".into(),
            keys: reachable,
        });
        roots.push(Root {
            name: "pulls".into(),
            keys: self.drop_old_pulls()?,
        });
        roots.push(Root {
            name: "work under way".into(),
            keys: in_flight.clone(),
        });
        let is_needed = |action: &Action| roots.iter().any(|root| root.keys.contains(&action.key));
        let (kept, unreachable): (Vec<Action>, Vec<Action>) =
            actions.into_iter().partition(is_needed);
        for action in unreachable {
            self.remove_action(&action, "no run, lock or sweep refers to it")?;
        }
        let kept = self.shrink(kept, &in_flight)?;
        for root in &roots {
            let count = kept
                .iter()
                .filter(|action| root.keys.contains(&action.key))
                .count();
            self.report
                .kept_for
                .extend((count > 0).then(|| (root.name.clone(), count)));
        }
        self.sweep_objects(&kept)?;
        // A training that was interrupted has a key in the record of its run, and no action.
        let unfinished = recorded
            .into_iter()
            .filter(|key| roots.iter().any(|root| root.keys.contains(key)));
        let unfinished = unfinished.filter(|key| !self.removed_keys.contains(key));
        Ok(kept
            .iter()
            .map(|action| action.key)
            .chain(unfinished)
            .collect())
    }

    /// What has appeared since the collection began is not lost by it: neither what new actions name nor what new runs
    /// build upon.
    fn give_back_what_is_needed(&mut self) -> Result<(), CacheError> {
        if self.options.dry_run {
            return Ok(());
        }
        let (layout, now) = (self.store.layout(), Sight::of(self.store)?);
        let mut needed: Vec<Action> = Vec::new();
        let (actions, _) = self.store.actions()?;
        for action in actions {
            let path = layout.action(&action.key);
            if self.before.actions.get(&path) != now.actions.get(&path)
                || !now.actions.contains_key(&path)
            {
                needed.push(action);
            }
        }
        let is_news = |run: &&RunId| self.before.records.get(*run) != now.records.get(*run);
        let news: Vec<&RunId> = now.records.keys().filter(is_news).collect();
        for run in news {
            let record = match self.store.load_run_as_written(run) {
                // It went again.
                Err(error) if error.is_absence() => continue,
                other => other?,
            };
            for key in record.stages.iter().filter_map(|stage| stage.key) {
                self.give_back(&layout.action(&key))?;
                needed.extend(self.store.action(&key)?);
            }
        }
        for record in needed.iter().flat_map(Action::objects) {
            self.give_back(&layout.object(record))?;
        }
        Ok(())
    }

    fn give_back(&mut self, place: &Path) -> Result<(), CacheError> {
        if self.trash.holds(place) {
            self.trash.give_back(place)?;
            if let Some(at) = self
                .report
                .removed
                .iter()
                .position(|removal| removal.path == place)
            {
                self.report.freed -= self.report.removed.remove(at).bytes;
            }
        }
        Ok(())
    }

    /// The records of all runs, by the folders that they lie in. One that cannot be read ends the collection: what it
    /// needs is not known.
    fn records(&self) -> Result<BTreeMap<RunId, RunRecord>, CacheError> {
        // A process that was killed early may leave a folder without a record.
        let runs = self.before.records.keys();
        runs.map(|run| Ok((run.clone(), self.store.load_run_as_written(run)?)))
            .collect()
    }

    /// Whether a run is under way: its record says so, and its process is not known to be gone.
    fn is_under_way(&self, record: &RunRecord) -> bool {
        self.store.standing_at(record, self.now) == RunStatus::Running
    }

    /// Finds the runs that are too old; the keys of all others are reachable.
    fn find_old_runs(
        &mut self,
        records: BTreeMap<RunId, RunRecord>,
    ) -> Result<BTreeSet<Key>, CacheError> {
        let mut reachable = BTreeSet::new();
        let newest = self.newest_of_each_pipeline(&records);
        for (run, record) in records {
            // A record was written when its run ended.
            let age = self
                .before
                .records
                .get(&run)
                .map_or(Duration::ZERO, |seen| self.age(seen));
            let old = self.options.max_age.is_some_and(|limit| age > limit);
            if old && !self.is_under_way(&record) && !newest.contains(&run) {
                self.expired.push(record);
            } else {
                reachable.extend(record.stages.iter().filter_map(|stage| stage.key));
            }
        }
        Ok(reachable)
    }

    /// Removes the runs that are too old. One whose record was written meanwhile stays.
    fn remove_expired(&mut self) -> Result<(), CacheError> {
        for record in std::mem::take(&mut self.expired) {
            let folder = self.store.run_folder(&record.run);
            let path = self.store.run_path(&record.run);
            let now = self
                .store
                .layout()
                .entries(&folder)?
                .into_iter()
                .find(|found| found.path == path);
            if now.map(|found| found.seen) != self.before.records.get(&record.run).copied() {
                continue;
            }
            if !self.options.dry_run {
                self.store.note_forgotten(&record)?;
            }
            self.remove(&folder, "a run older than the limit")?;
        }
        Ok(())
    }

    fn newest_of_each_pipeline(&self, records: &BTreeMap<RunId, RunRecord>) -> BTreeSet<RunId> {
        let mut newest: BTreeMap<&str, (Option<SystemTime>, &RunId)> = BTreeMap::new();
        for (run, record) in records {
            let this = (self.before.records.get(run).map(|seen| seen.modified), run);
            let known = newest.entry(&record.file).or_insert(this);
            *known = this.max(*known);
        }
        newest.into_values().map(|(_, run)| run.clone()).collect()
    }

    /// Removes notes of what was fetched long ago; the keys of all others are needed.
    fn drop_old_pulls(&mut self) -> Result<BTreeSet<Key>, CacheError> {
        let limit = self
            .options
            .max_age
            .map_or(FETCHED, |limit| limit.min(FETCHED));
        let mut fetched = BTreeSet::new();
        for (note, keys) in self.store.pulls()? {
            if self.age(&note.seen) > limit {
                self.remove_found(
                    &note,
                    "a note of what was fetched longer ago than the limit",
                )?;
            } else {
                fetched.extend(keys);
            }
        }
        Ok(fetched)
    }

    /// Removes what is cheapest to have again until the rest fits. Checkpoints, which only save time, go first; then what
    /// the remote holds; what somebody besides a run asks to keep goes last.
    fn shrink(
        &mut self,
        kept: Vec<Action>,
        in_flight: &BTreeSet<Key>,
    ) -> Result<Vec<Action>, CacheError> {
        let Some(limit) = self.options.max_bytes else {
            return Ok(kept);
        };
        let (mut at_work, mut kept): (Vec<Action>, Vec<Action>) = kept
            .into_iter()
            .partition(|action| in_flight.contains(&action.key));
        // Objects of both kinds count once.
        let total_of = |kept: &[Action]| bytes_of(at_work.iter().chain(kept));
        let mut total = total_of(&kept);
        let mut checkpoints = self
            .store
            .layout()
            .walk(&self.store.layout().checkpoints())?;
        // Young ones stay, and no result goes for what they take.
        checkpoints.retain(|found| self.age(&found.seen) > GRACE);
        let mut checkpoint_bytes: u64 = checkpoints.iter().map(|found| found.seen.bytes).sum();
        checkpoints.sort_by_key(|found| std::cmp::Reverse(self.age(&found.seen)));
        for found in checkpoints {
            if total + checkpoint_bytes <= limit {
                break;
            }
            checkpoint_bytes -= found.seen.bytes;
            self.remove_found(&found, "a checkpoint, to keep within the size")?;
        }
        let held = |action: &Action| self.options.held.contains(&action.key);
        let asked_for = |action: &Action| {
            self.options
                .roots
                .iter()
                .any(|root| root.keys.contains(&action.key))
        };
        let order = |action: &Action| (!held(action), asked_for(action));
        kept.sort_by(|left, right| {
            order(left)
                .cmp(&order(right))
                .then(value(left).total_cmp(&value(right)))
        });
        let mut evicted = 0;
        while total + checkpoint_bytes > limit && evicted < kept.len() {
            let action = &kept[evicted];
            evicted += 1;
            let reason = if held(action) {
                "the remote holds it, to keep within the size".to_owned()
            } else {
                format!(
                    "{:.3} s to recompute, to keep within the size",
                    action.seconds
                )
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
        let needed: BTreeSet<PathBuf> = kept
            .iter()
            .flat_map(Action::objects)
            .map(|record| layout.object(record))
            .collect();
        for found in layout.walk(&layout.objects())? {
            // A young object may be on its way to its action, unless its action went just now.
            if needed.contains(&found.path) {
                self.report.kept_objects += 1;
                self.report.kept_bytes += found.seen.bytes;
            } else if self.age(&found.seen) > GRACE || self.freed.contains(&found.path) {
                self.discard(&found.path, found.seen.bytes, "no action needs it")?;
            }
        }
        Ok(())
    }

    fn remove_action(&mut self, action: &Action, reason: &str) -> Result<(), CacheError> {
        let layout = self.store.layout();
        self.freed
            .extend(action.objects().map(|record| layout.object(record)));
        self.removed_keys.insert(action.key);
        let path = layout.action(&action.key);
        let bytes = self.before.actions.get(&path).map_or(0, |seen| seen.bytes);
        self.discard(&path, bytes, reason)
    }

    /// Removes states of trainings: of those that have ended all but their last and their best, and all that nobody needs.
    fn sweep_checkpoints(&mut self, kept: &BTreeSet<Key>) -> Result<(), CacheError> {
        for folder in self.store.chains()? {
            let chain = Chain::open(self.store.layout(), &folder)?;
            let goes = self.outdated(&chain, kept);
            let gone: BTreeSet<&Path> = goes.iter().map(|(file, _)| file.path.as_path()).collect();
            for state in chain
                .states
                .iter()
                .filter(|state| !gone.contains(state.file.path.as_path()))
            {
                self.report.kept_checkpoints += 1;
                self.report.kept_checkpoint_bytes += state.file.seen.bytes;
            }
            for (file, reason) in goes {
                self.remove_found(file, reason)?;
            }
        }
        Ok(())
    }

    /// The files of a chain that go, and why. `kept` are the keys of which somebody needs the results.
    fn outdated<'c>(
        &self,
        chain: &'c Chain,
        kept: &BTreeSet<Key>,
    ) -> Vec<(&'c Found, &'static str)> {
        let keys = || chain.notes.keys();
        if keys().any(|key| self.leased.contains(&key.to_string())) {
            return Vec::new();
        }
        let files = || {
            chain
                .states
                .iter()
                .map(|state| &state.file)
                .chain(&chain.note_files)
        };
        let all = |reason: &'static str| files().map(|file| (file, reason)).collect();
        let age = files()
            .map(|file| self.age(&file.seen))
            .min()
            .unwrap_or_default();
        let is_noted = !chain.notes.is_empty();
        let went = is_noted && keys().all(|key| self.removed_keys.contains(key));
        let limit = self
            .options
            .max_age
            .map_or(FETCHED, |limit| limit.min(FETCHED));
        if !keys().any(|key| kept.contains(key)) && (went || age > limit) {
            return all("a checkpoint that no run needs");
        }
        if self.options.max_age.is_some_and(|limit| age > limit) {
            return all("a checkpoint older than the limit");
        }
        if !is_noted || !keys().all(|key| self.store.action_file(key).is_some()) {
            return Vec::new();
        }
        let ends = chain.kept_after();
        let between = chain
            .states
            .iter()
            .filter(|state| !ends.contains(&state.step));
        between
            .map(|state| (&state.file, "a checkpoint of a training that has ended"))
            .collect()
    }

    fn sweep_leftovers(&mut self) -> Result<(), CacheError> {
        let layout = self.store.layout();
        // Everything in `tmp/` belongs to a process, folders as a whole: what a stage copies there may look old at once.
        let at_work = self.store.processes_at_work(self.now)?;
        for found in layout.entries(&layout.tmp())? {
            let name = found
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let is_at_work = name
                .rsplit_once('-')
                .is_some_and(|(process, _)| at_work.contains(process));
            if !is_at_work && self.untouched_for(&found)? > GRACE {
                self.remove(&found.path, "left behind by a crash")?;
            }
        }
        for found in layout.entries(&layout.quarantine())? {
            if self.since(found.seen.changed) > self.options.max_age.unwrap_or(GRACE) {
                self.remove(&found.path, "was set aside as damaged")?;
            }
        }
        for found in layout.entries(&layout.leases())? {
            let name = found
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if !self.options.dry_run
                && !self.leased.contains(&name)
                && self.age(&found.seen) > GRACE
            {
                remove_if_stale(layout, &found.path)?;
            }
        }
        Ok(())
    }

    /// Since something in it last changed, by the clock that programs cannot set back.
    fn untouched_for(&self, found: &Found) -> Result<Duration, CacheError> {
        let below = self.store.layout().walk_with_folders(&found.path)?;
        let all = below
            .iter()
            .chain([found])
            .map(|each| self.since(each.seen.changed));
        Ok(all.min().unwrap_or_default())
    }

    fn age(&self, seen: &Seen) -> Duration {
        self.since(seen.modified)
    }

    fn since(&self, time: SystemTime) -> Duration {
        // A time of zero is that of no file of ours.
        if time == UNIX_EPOCH {
            Duration::ZERO
        } else {
            self.now.duration_since(time).unwrap_or_default()
        }
    }

    /// Puts an action or an object into the trash.
    fn discard(&mut self, path: &Path, bytes: u64, reason: &str) -> Result<(), CacheError> {
        if !self.options.dry_run {
            self.trash.take(path)?;
        }
        self.note(path, bytes, reason);
        Ok(())
    }

    /// Removes something that is no action and no object: a link as a link, a folder with all that is in it.
    fn remove(&mut self, path: &Path, reason: &str) -> Result<(), CacheError> {
        let layout = self.store.layout();
        let below = layout.walk(path)?;
        for found in &below {
            self.note(&found.path, found.seen.bytes, reason);
        }
        if below.is_empty() {
            let bytes = layout
                .look_at(path)
                .filter(|metadata| metadata.is_file())
                .map_or(0, |metadata| metadata.len());
            self.note(path, bytes, reason);
        }
        if self.options.dry_run {
            Ok(())
        } else {
            layout.remove(path)
        }
    }

    fn remove_found(&mut self, found: &Found, reason: &str) -> Result<(), CacheError> {
        self.note(&found.path, found.seen.bytes, reason);
        if self.options.dry_run {
            Ok(())
        } else {
            self.store.layout().remove(&found.path)
        }
    }

    fn note(&mut self, path: &Path, bytes: u64, reason: &str) {
        self.report.freed += bytes;
        self.report.removed.push(Removal {
            path: path.to_owned(),
            bytes,
            reason: reason.to_owned(),
        });
    }
}

/// Bytes of all objects that these actions name, each counted once.
fn bytes_of<'a>(actions: impl IntoIterator<Item = &'a Action>) -> u64 {
    let objects: BTreeMap<Digest, u64> = actions
        .into_iter()
        .flat_map(Action::objects)
        .map(|record| (record.object, record.bytes))
        .collect();
    objects
        .values()
        .fold(0, |sum, bytes| sum.saturating_add(*bytes))
}

/// Seconds that a byte saves.
fn value(action: &Action) -> f64 {
    action.seconds / action.bytes().max(1) as f64
}
