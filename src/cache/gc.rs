//! Garbage collection: what goes, in which order, and why. What a run's record refers to is kept, and what somebody
//! fetched lately, unless a limit on age or size says otherwise; then what is cheapest to recompute per byte goes first.
//! The newest run of each pipeline has no age. What somebody is working on stays: leases, what runs that are under
//! way build upon and have made, and whatever is younger than an hour. Ages are read off the file system's own clock.
//!
//! Runs go on meanwhile, and nobody waits for anybody:
//! - Actions and objects go to the trash first (`trash.rs`). Then the collection looks once more for actions and for runs
//!   that have appeared since it began, gives back what they need, and only then empties the trash.
//! - A publisher holds the objects of its action until the action is there, and then sees to it that they still are
//!   (`hold.rs`). A run that builds upon hits writes so into its record, and then looks at them again.
//! - Each of the two first says what it does and looks afterwards, so that one of them sees the other.
//! - One collection at a time, under a lease. What a killed one had in its trash goes back first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::artifact::Digest;

use super::checkpoint::Chain;
use super::lease::remove_if_stale;
use super::shared::is_complete;
use super::trash::Trash;
use super::tree::{Found, Seen};
use super::{Action, CacheError, Key, LeaseAttempt, RunId, RunRecord, RunStatus, Store};

/// Files without an action may belong to a stage that is being published.
const GRACE: Duration = Duration::from_secs(3600);

/// What somebody fetched stays for so long, unless `max_age` is less; so do checkpoints that no recorded run needs, such as those
/// of a training that was killed.
const FETCHED: Duration = Duration::from_secs(7 * 24 * 3600);

/// An environment of packages stays for so long after something used it last, unless `max_age` says otherwise.
const USED: Duration = Duration::from_secs(90 * 24 * 3600);

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
        let mut actions = BTreeMap::new();
        for found in layout.walk(&layout.actions())? {
            actions.insert(found.path, found.seen);
        }
        let mut records = BTreeMap::new();
        for run in store.runs()? {
            if let Some(seen) = record_as_seen(store, &run)? {
                records.insert(run, seen);
            }
        }
        Ok(Self { actions, records })
    }
}

/// How the record of a run looks in a listing of its folder, which a network file system shows as it is at this moment.
fn record_as_seen(store: &Store, run: &RunId) -> Result<Option<Seen>, CacheError> {
    let path = store.run_path(run);
    let mut own = store.layout().entries(&store.run_folder(run))?.into_iter();
    Ok(own.find(|found| found.path == path).map(|found| found.seen))
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
        // Until the trash is emptied, everything can still be given back: whatever fails before that undoes the collection,
        // since what is needed is not known then.
        let collected = self.collect();
        let looked = collected.and_then(|kept| self.give_back_what_is_needed().map(|()| kept));
        let kept = match looked {
            Ok(kept) => kept,
            Err(error) => {
                let _ = self.trash.give_all_back();
                return Err(error);
            }
        };
        if !self.options.dry_run {
            self.trash.empty()?;
        }
        // The records of old runs go after what they needed: a crash in between leaves a record too many, never one too few.
        self.remove_expired()?;
        self.sweep_checkpoints(&kept)?;
        self.sweep_leftovers()?;
        Ok(self.report)
    }

    /// Puts into the trash what goes. Gives the keys whose results stay.
    fn collect(&mut self) -> Result<BTreeSet<Key>, CacheError> {
        let (actions, _) = self.store.actions()?;
        let records = self.records()?;
        let in_flight = self.in_flight(&actions, &records);
        let mut recorded: BTreeSet<Key> = BTreeSet::new();
        for record in records.values() {
            recorded.extend(record.keys());
        }
        let own = [
            ("runs", self.find_old_runs(records)?),
            ("pulls", self.drop_old_pulls()?),
            ("work under way", in_flight.clone()),
        ];
        let mut roots = self.options.roots.clone();
        for (name, keys) in own {
            let name = name.to_owned();
            roots.push(Root { name, keys });
        }
        let is_needed = |key: &Key| roots.iter().any(|root| root.keys.contains(key));
        let (kept, unreachable): (Vec<Action>, Vec<Action>) = actions
            .into_iter()
            .partition(|action| is_needed(&action.key));
        // Actions before objects: at no moment does an action name what is gone.
        for action in unreachable {
            self.remove_action(&action, "no run, lock or sweep refers to it")?;
        }
        let kept = self.shrink(kept, &in_flight)?;
        self.sweep_objects(&kept)?;
        let mut kept: BTreeSet<Key> = kept.iter().map(|action| action.key).collect();
        for Root { name, keys } in &roots {
            let count = kept.intersection(keys).count();
            if count > 0 {
                self.report.kept_for.insert(name.clone(), count);
            }
        }
        // A training that was interrupted has a key in the record of its run, and no action.
        for key in recorded {
            if is_needed(&key) && !self.removed_keys.contains(&key) {
                kept.insert(key);
            }
        }
        Ok(kept)
    }

    /// Keys that somebody works on or builds upon at the moment.
    fn in_flight(&self, actions: &[Action], records: &BTreeMap<RunId, RunRecord>) -> BTreeSet<Key> {
        let leased = self.leased.iter();
        let mut keys: BTreeSet<Key> = leased
            .filter_map(|name| name.parse().ok().map(Key))
            .collect();
        // What a run under way stands on is in its record, what it has made is in none yet.
        let mut since: Option<SystemTime> = None;
        for (run, record) in records {
            if self.is_under_way(record) {
                keys.extend(record.keys());
                if let Some(seen) = self.before.records.get(run) {
                    since = Some(since.map_or(seen.modified, |since| since.min(seen.modified)));
                }
            }
        }
        if let Some(since) = since {
            for action in actions {
                let path = self.store.layout().action(&action.key);
                let seen = self.before.actions.get(&path);
                if seen.is_none_or(|seen| seen.modified >= since || self.age(seen) < GRACE) {
                    keys.insert(action.key);
                }
            }
        }
        keys
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
        for (run, seen) in &now.records {
            if self.before.records.get(run) == Some(seen) {
                continue;
            }
            let record = match self.store.load_run_as_written(run) {
                // It went again.
                Err(error) if error.is_absence() => continue,
                other => other?,
            };
            for key in record.keys() {
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
        if !self.trash.holds(place) {
            return Ok(());
        }
        self.trash.give_back(place)?;
        let mut removed = self.report.removed.iter();
        if let Some(at) = removed.position(|removal| removal.path == place) {
            self.report.freed -= self.report.removed.remove(at).bytes;
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
            let seen = self.before.records.get(&run);
            let age = seen.map_or(Duration::ZERO, |seen| self.age(seen));
            let old = self.options.max_age.is_some_and(|limit| age > limit);
            if old && !self.is_under_way(&record) && !newest.contains(&run) {
                self.expired.push(record);
            } else {
                reachable.extend(record.keys());
            }
        }
        Ok(reachable)
    }

    /// Removes the runs that are too old. One whose record was written meanwhile stays.
    fn remove_expired(&mut self) -> Result<(), CacheError> {
        for record in std::mem::take(&mut self.expired) {
            let before = self.before.records.get(&record.run).copied();
            if record_as_seen(self.store, &record.run)? != before {
                continue;
            }
            // The note first: a record that is gone without one looks as if it had been taken away.
            if !self.options.dry_run {
                self.store.note_forgotten(&record)?;
            }
            let folder = self.store.run_folder(&record.run);
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
        let reason = "a note of what was fetched longer ago than the limit";
        let mut fetched = BTreeSet::new();
        for (note, keys) in self.store.pulls()? {
            if self.age(&note.seen) > self.longest_unneeded() {
                self.remove_found(&note, reason)?;
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
        let mut total = bytes_of(at_work.iter().chain(&kept));
        let layout = self.store.layout();
        let mut checkpoints = layout.walk(&layout.checkpoints())?;
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
        kept.sort_by(|left, right| {
            let (first, second) = (self.cost(left), self.cost(right));
            first
                .cmp(&second)
                .then(value(left).total_cmp(&value(right)))
        });
        let mut evicted = 0;
        while total + checkpoint_bytes > limit && evicted < kept.len() {
            let action = &kept[evicted];
            evicted += 1;
            let why = if self.options.held.contains(&action.key) {
                "the remote holds it".to_owned()
            } else {
                format!("{:.3} s to recompute", action.seconds)
            };
            self.remove_action(action, &format!("{why}, to keep within the size"))?;
            total = bytes_of(at_work.iter().chain(&kept[evicted..]));
        }
        at_work.extend(kept.split_off(evicted));
        Ok(at_work)
    }

    /// What it costs to lose an action, compared before its seconds: least if a remote holds it, most if somebody asked for it by
    /// name.
    fn cost(&self, action: &Action) -> (bool, bool) {
        let mut roots = self.options.roots.iter();
        let is_asked_for = roots.any(|root| root.keys.contains(&action.key));
        (!self.options.held.contains(&action.key), is_asked_for)
    }

    /// How long something stays that is not known to be needed.
    fn longest_unneeded(&self) -> Duration {
        self.options.max_age.unwrap_or(FETCHED).min(FETCHED)
    }

    /// Removes objects that no kept action names.
    fn sweep_objects(&mut self, kept: &[Action]) -> Result<(), CacheError> {
        let layout = self.store.layout();
        let mut needed = BTreeSet::new();
        for action in kept {
            needed.extend(action.objects().map(|record| layout.object(record)));
        }
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
            for state in &chain.states {
                if !gone.contains(state.file.path.as_path()) {
                    self.report.kept_checkpoints += 1;
                    self.report.kept_checkpoint_bytes += state.file.seen.bytes;
                }
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
        let mut goes = Vec::new();
        let keys: Vec<&Key> = chain.notes.keys().collect();
        if keys
            .iter()
            .any(|key| self.leased.contains(&key.to_string()))
        {
            return goes;
        }
        let states = chain.states.iter().map(|state| &state.file);
        let files: Vec<&Found> = states.chain(&chain.note_files).collect();
        let ages = files.iter().map(|file| self.age(&file.seen));
        let age = ages.min().unwrap_or_default();
        let is_noted = !keys.is_empty();
        let went = is_noted && keys.iter().all(|key| self.removed_keys.contains(key));
        let is_needed = keys.iter().any(|key| kept.contains(key));
        if !is_needed && (went || age > self.longest_unneeded()) {
            let reason = "a checkpoint that no run needs";
            goes.extend(files.into_iter().map(|file| (file, reason)));
        } else if self.options.max_age.is_some_and(|limit| age > limit) {
            let reason = "a checkpoint older than the limit";
            goes.extend(files.into_iter().map(|file| (file, reason)));
        } else if is_noted && keys.iter().all(|key| self.store.action_file(key).is_some()) {
            let ends = chain.kept_after();
            for state in &chain.states {
                if !ends.contains(&state.step) {
                    goes.push((&state.file, "a checkpoint of a training that has ended"));
                }
            }
        }
        goes
    }

    fn sweep_leftovers(&mut self) -> Result<(), CacheError> {
        let layout = self.store.layout();
        // Everything in `tmp/` belongs to a process, folders as a whole: what a stage copies there may look old at once.
        let at_work = self.store.processes_at_work(self.now)?;
        for found in layout.entries(&layout.tmp())? {
            let name = found.name();
            let process = name.rsplit_once('-').map_or("", |(process, _)| process);
            let is_at_work = at_work.contains(process);
            if !is_at_work && self.untouched_for(&found)? > GRACE {
                self.remove(&found.path, "left behind by a crash")?;
            }
        }
        // A stage that is under way may have begun to use one long ago, or makes one.
        let is_at_work = self
            .leased
            .iter()
            .any(|name| name.parse::<Digest>().is_ok());
        let unused = self.options.max_age.unwrap_or(USED).max(GRACE);
        for found in layout.entries(&layout.environments())? {
            if is_at_work {
                continue;
            }
            // What a collection had renamed has an ending.
            if found.path.extension().is_some() || !is_complete(&found.path) {
                if self.untouched_for(&found)? > GRACE {
                    self.remove(&found.path, "left behind by a crash")?;
                }
            } else if self.age(&found.seen) > unused {
                self.remove_environment(&found)?;
            }
        }
        for found in layout.entries(&layout.quarantine())? {
            if self.since(found.seen.changed) > self.options.max_age.unwrap_or(GRACE) {
                self.remove(&found.path, "was set aside as damaged")?;
            }
        }
        for found in layout.entries(&layout.leases())? {
            let is_held = self.leased.contains(&*found.name());
            if !self.options.dry_run && !is_held && self.age(&found.seen) > GRACE {
                remove_if_stale(layout, &found.path)?;
            }
        }
        Ok(())
    }

    /// Renames an environment and then removes it: if this process is killed halfway, nothing takes the rest for an environment.
    fn remove_environment(&mut self, found: &Found) -> Result<(), CacheError> {
        let reason = "nothing has used this environment for longer than the limit";
        if self.options.dry_run {
            return self.remove(&found.path, reason);
        }
        let going = found.path.with_extension("gone");
        std::fs::rename(&found.path, &going).map_err(CacheError::io("rename", &found.path))?;
        self.remove(&going, reason)
    }

    /// Since something in it last changed, by the clock that programs cannot set back.
    fn untouched_for(&self, found: &Found) -> Result<Duration, CacheError> {
        let mut shortest = self.since(found.seen.changed);
        for below in self.store.layout().walk_with_folders(&found.path)? {
            shortest = shortest.min(self.since(below.seen.changed));
        }
        Ok(shortest)
    }

    fn age(&self, seen: &Seen) -> Duration {
        self.since(seen.modified)
    }

    fn since(&self, time: SystemTime) -> Duration {
        // No file of ours has a time of zero.
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

    /// Removes something that is neither an action nor an object: a link as a link, a folder with all that is in it.
    fn remove(&mut self, path: &Path, reason: &str) -> Result<(), CacheError> {
        let layout = self.store.layout();
        let below = layout.walk(path)?;
        for found in &below {
            self.note(&found.path, found.seen.bytes, reason);
        }
        if below.is_empty() {
            let found = layout.look_at(path).filter(|found| found.is_file());
            self.note(path, found.map_or(0, |found| found.len()), reason);
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
    let (mut seen, mut sum) = (BTreeSet::new(), 0_u64);
    for record in actions.into_iter().flat_map(Action::objects) {
        if seen.insert(record.object) {
            sum = sum.saturating_add(record.bytes);
        }
    }
    sum
}

/// Seconds that a byte saves.
fn value(action: &Action) -> f64 {
    action.seconds / action.bytes().max(1) as f64
}
