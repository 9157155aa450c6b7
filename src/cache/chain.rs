//! Records of runs as a chain: each ends with a seal over its content and names the seal of the one that was recorded before
//! it, and the store keeps the newest seal apart. So a record that was changed, removed or renamed shows. Anyone who rewrites
//! all of it goes unseen; against that, records are signed.
//!
//! Records take their places one after another, under a lease. A process that is about to take one first writes down which
//! (`runs.next`), then the record, then the end of the chain (`runs.head`). So if it is killed in between, the next one knows
//! how to continue: if the record is there as announced, it is the newest one; if not, it never was one.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use contract::artifact::Digest;
use serde::{Deserialize, Serialize};

use super::object::replace;
use super::seal::{seal, unseal};
use super::tree::append_plain;
use super::{CacheError, Lease, LeaseAttempt, RunId, RunRecord, RunStatus, Store, failpoint};

/// What a record says about the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Names the store in which both were recorded.
    pub store: String,
    /// `None` for the first record of a store.
    pub run: Option<RunId>,
    pub seal: Option<Digest>,
    /// The store did not know its newest record any more, so this is only the newest that was found.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_break: bool,
}

/// The newest record of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    pub store: String,
    pub run: RunId,
    pub seal: Digest,
}

/// The record that is about to become the newest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Next {
    run: RunId,
    seal: Digest,
    /// What it says about the one before it.
    link: Link,
}

/// How long anybody waits to put a record at the end of the chain, and how often it is tried.
const LONGEST_TURN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(2);

/// Whether the bytes of a record are those that were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordSeal {
    Intact(Digest),
    /// Written before records were sealed.
    None,
    Broken,
}

/// Lies beside a record that was imported.
pub(super) const IMPORTED: &str = "imported";

/// What stands between a record's content and its seal.
const SEAL: &[u8] = b",\"seal\":\"";
/// A seal in hexadecimal digits, a quote and a brace.
const TAIL: usize = 66;

/// The bytes of a record's file, and the seal in them.
pub(super) fn sealed(record: &RunRecord, link: Option<&Link>) -> (Vec<u8>, Digest) {
    let mut bytes = serde_json::to_vec(record).expect("a run record is plain data");
    bytes.pop();
    if let Some(link) = link {
        bytes.extend_from_slice(b",\"previous\":");
        bytes.extend(serde_json::to_vec(link).expect("a link is plain data"));
    }
    let sum = Digest::of_bytes(&bytes);
    bytes.extend_from_slice(SEAL);
    bytes.extend_from_slice(format!("{sum}\"}}").as_bytes());
    (bytes, sum)
}

/// Whether the seal in a record's file fits its bytes.
pub fn seal_of(bytes: &[u8]) -> RecordSeal {
    match written_seal(bytes) {
        Some((content, seal)) if seal == Digest::of_bytes(content) => RecordSeal::Intact(seal),
        None if !bytes.windows(SEAL.len()).any(|window| window == SEAL) => RecordSeal::None,
        _ => RecordSeal::Broken,
    }
}

/// The content of a record's file, and the seal behind it.
fn written_seal(bytes: &[u8]) -> Option<(&[u8], Digest)> {
    let (head, tail) = bytes.split_at(bytes.len().checked_sub(TAIL)?);
    let content = head.strip_suffix(SEAL)?;
    let seal = std::str::from_utf8(tail).ok()?.strip_suffix("\"}")?;
    Some((content, seal.parse().ok()?))
}

impl Store {
    fn head_path(&self) -> PathBuf {
        self.layout().root().join("runs.head")
    }

    fn forgotten_path(&self) -> PathBuf {
        self.layout().root().join("runs.forgotten")
    }

    fn next_path(&self) -> PathBuf {
        self.layout().root().join("runs.next")
    }

    /// The newest record of this store; `None` before the first one.
    pub fn chain_head(&self) -> Option<ChainHead> {
        let head = self.written_head();
        self.announced(head.as_ref()).or(head)
    }

    fn written_head(&self) -> Option<ChainHead> {
        unseal(&self.layout().read(&self.head_path()).ok()?)
    }

    /// The record that was announced and written, but that was not made the newest any more, since its process was killed.
    fn announced(&self, head: Option<&ChainHead>) -> Option<ChainHead> {
        let next: Next = unseal(&self.layout().read(&self.next_path()).ok()?)?;
        if head.is_none() && self.layout().look_at(&self.head_path()).is_some() {
            return None;
        }
        let before = head.map(|head| (&head.store, &head.run, head.seal));
        let follows = match (&next.link.run, next.link.seal) {
            (Some(run), Some(seal)) => before == Some((&next.link.store, run, seal)),
            _ => before.is_none(),
        };
        if !follows {
            return None;
        }
        match self.record_seal(&next.run) {
            Ok(RecordSeal::Intact(seal)) if seal == next.seal => Some(ChainHead {
                store: next.link.store,
                run: next.run,
                seal,
            }),
            _ => None,
        }
    }

    /// Whether the file that names the newest record is there but was changed.
    pub fn chain_head_is_broken(&self) -> bool {
        self.layout().look_at(&self.head_path()).is_some() && self.written_head().is_none()
    }

    /// The file of a run's record.
    pub fn run_path(&self, run: &RunId) -> PathBuf {
        self.run_folder(run).join("run.json")
    }

    /// Whether the bytes of a run's record are those that were written.
    pub fn record_seal(&self, run: &RunId) -> Result<RecordSeal, CacheError> {
        let path = self.run_path(run);
        let bytes = self.layout().read(&path);
        Ok(seal_of(&bytes.map_err(CacheError::io("read", &path))?))
    }

    /// Writes a record. One that has ended takes its place at the end of the chain.
    pub fn save_run(&self, record: &RunRecord) -> Result<(), CacheError> {
        let path = self.run_path(&record.run);
        if record.status == RunStatus::Running {
            return replace(self.layout(), &path, &sealed(record, None).0);
        }
        let _turn = self.turn_in_chain();
        let head = self.chain_head();
        if let Some(head) = &head
            && self.written_head().as_ref() != Some(head)
        {
            // It is known by its announcement alone, which the next one replaces.
            replace(self.layout(), &self.head_path(), &seal(head))?;
            failpoint::pass();
        }
        let link = self.link_of(record, head)?;
        let (bytes, seal_of_record) = sealed(record, Some(&link));
        let next = Next {
            run: record.run.clone(),
            seal: seal_of_record,
            link,
        };
        // A crash after the first of these three leaves an announcement of a record that is not there, which counts for nothing;
        // one after the second, an announcement that stands in for the head.
        replace(self.layout(), &self.next_path(), &seal(&next))?;
        failpoint::pass();
        replace(self.layout(), &path, &bytes)?;
        failpoint::pass();
        let head = ChainHead {
            store: next.link.store,
            run: next.run,
            seal: next.seal,
        };
        replace(self.layout(), &self.head_path(), &seal(&head))?;
        failpoint::pass();
        self.layout().remove(&self.next_path())?;
        self.release_run(&record.run);
        Ok(())
    }

    /// What a record says about the one before it, which is the head of the chain.
    fn link_of(&self, record: &RunRecord, head: Option<ChainHead>) -> Result<Link, CacheError> {
        let found = match head {
            // Written again, it keeps its place.
            Some(head) if head.run == record.run => {
                let written = self.load_run(&record.run).ok();
                written.and_then(|written| written.previous)
            }
            Some(head) => Some(Link {
                store: head.store,
                run: Some(head.run),
                seal: Some(head.seal),
                after_break: false,
            }),
            None => self.newest_link()?,
        };
        // The first record of a store gives it its name.
        Ok(found.unwrap_or_else(|| Link {
            store: new_name(),
            run: None,
            seal: None,
            after_break: false,
        }))
    }

    /// The right to put a record at the end of the chain, which is held for an instant only. A process that cannot get it for a
    /// while continues without it: then the chain may fork, which hides no loss but that of the shorter branch.
    fn turn_in_chain(&self) -> Option<Lease> {
        let begun = Instant::now();
        loop {
            match Lease::acquire(self.layout(), "chain", None) {
                Ok(LeaseAttempt::Taken(lease)) => return Some(lease),
                Ok(LeaseAttempt::Held) if begun.elapsed() < LONGEST_TURN => {
                    std::thread::sleep(POLL)
                }
                Ok(LeaseAttempt::Held) | Err(_) => return None,
            }
        }
    }

    /// Whether a record came from another store.
    pub fn is_imported(&self, run: &RunId) -> bool {
        self.layout()
            .look_at(&self.run_folder(run).join(IMPORTED))
            .is_some()
    }

    /// The end of the chain as its records show it, where the head is lost. Without linked records nothing is.
    fn newest_link(&self) -> Result<Option<Link>, CacheError> {
        for run in self.by_age()? {
            let Ok(record) = self.load_run(&run) else {
                continue;
            };
            if self.is_imported(&run) {
                continue;
            }
            if let (Some(previous), Ok(RecordSeal::Intact(seal))) =
                (record.previous, self.record_seal(&run))
            {
                return Ok(Some(Link {
                    store: previous.store,
                    run: Some(run),
                    seal: Some(seal),
                    after_break: true,
                }));
            }
        }
        Ok(None)
    }

    /// Notes that a record goes because its time is over, so that its absence is explained.
    pub(super) fn note_forgotten(&self, record: &RunRecord) -> Result<(), CacheError> {
        let Some(seal) = record.seal else {
            return Ok(());
        };
        let path = self.forgotten_path();
        let there = self.layout().look_at(&path);
        if there.is_some_and(|there| !there.is_file()) {
            self.layout().set_aside(&path)?;
        }
        // On a separate line, whatever became of the line before.
        let line = format!("\n{} {seal}\n", record.run);
        let written = append_plain(&path).and_then(|mut file| {
            file.write_all(line.as_bytes())?;
            // The record goes next: without the note, its absence would look like a loss.
            file.sync_data()
        });
        written.map_err(CacheError::io("write", &path))
    }

    /// Records that a collection of garbage has removed, with their seals.
    pub fn forgotten_runs(&self) -> BTreeMap<RunId, Digest> {
        let bytes = self.layout().read(&self.forgotten_path());
        let mut forgotten = BTreeMap::new();
        for line in String::from_utf8_lossy(&bytes.unwrap_or_default()).lines() {
            if let Some((run, seal)) = line.split_once(' ')
                && let Ok(seal) = seal.parse()
            {
                forgotten.insert(RunId(run.to_owned()), seal);
            }
        }
        forgotten
    }
}

/// A name for a store, which no other has.
fn new_name() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanoseconds = since.unwrap_or_default().as_nanos();
    let machine = rustix::system::uname();
    let (host, process) = (machine.nodename().to_string_lossy(), std::process::id());
    Digest::of_bytes(format!("{host} {process} {nanoseconds}").as_bytes()).short()
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    pub fn record(run: &str, status: RunStatus) -> RunRecord {
        RunRecord {
            run: RunId(run.to_owned()),
            pipeline: "p".to_owned(),
            file: "p.yaml".to_owned(),
            status,
            started: 0,
            seconds: 0.5,
            command: Vec::new(),
            profile: None,
            overrides: Vec::new(),
            targets: Vec::new(),
            sweep: None,
            params: indexmap::IndexMap::new(),
            seed: 1,
            environment: indexmap::IndexMap::new(),
            pipeline_files: Vec::new(),
            instances: indexmap::IndexMap::new(),
            stages: Vec::new(),
            metrics: indexmap::IndexMap::new(),
            previous: None,
            seal: None,
        }
    }

    #[test]
    fn each_record_names_the_one_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        for run in ["a", "b"] {
            store.save_run(&record(run, RunStatus::Running)).unwrap();
            assert!(
                store
                    .load_run(&RunId(run.to_owned()))
                    .unwrap()
                    .previous
                    .is_none(),
                "not before it ended"
            );
            store.save_run(&record(run, RunStatus::Done)).unwrap();
        }
        let [a, b] = ["a", "b"].map(|run| store.load_run(&RunId(run.to_owned())).unwrap());
        let (first, second) = (a.previous.unwrap(), b.previous.clone().unwrap());
        assert_eq!((first.run, first.seal), (None, None));
        assert_eq!((second.run, second.seal), (Some(RunId("a".into())), a.seal));
        assert_eq!(store.chain_head().unwrap().seal, b.seal.unwrap());
        store
            .save_run(&RunRecord {
                seconds: 2.0,
                ..record("b", RunStatus::Done)
            })
            .unwrap();
        assert_eq!(
            store.load_run(&b.run).unwrap().previous,
            b.previous,
            "written again, it keeps its place"
        );
    }

    #[test]
    fn no_byte_of_a_record_changes_unseen() {
        let (bytes, seal) = sealed(&record("a", RunStatus::Done), None);
        assert_eq!(seal_of(&bytes), RecordSeal::Intact(seal));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(seal_of(&changed), RecordSeal::Intact(seal), "byte {at}");
        }
        assert_eq!(
            seal_of(b"{\"run\":\"a\"}"),
            RecordSeal::None,
            "as records were before"
        );
    }

    /// Whatever of the three files was written when a process was killed, the next record continues where the chain ended.
    #[test]
    fn a_record_that_was_written_but_not_made_the_newest_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let save = |run: &str| store.save_run(&record(run, RunStatus::Done)).unwrap();
        let previous = |run: &str| {
            store
                .load_run(&RunId(run.to_owned()))
                .unwrap()
                .previous
                .unwrap()
        };
        for (run, before) in [("a", None), ("b", Some("a"))] {
            let head = store.chain_head().map(|head| super::seal(&head));
            save(run);
            // As it was before the head was written.
            let seal = store
                .load_run(&RunId(run.to_owned()))
                .unwrap()
                .seal
                .unwrap();
            let next = Next {
                run: RunId(run.to_owned()),
                seal,
                link: previous(run),
            };
            fs::write(store.next_path(), super::seal(&next)).unwrap();
            match head {
                Some(head) => fs::write(store.head_path(), head).unwrap(),
                None => fs::remove_file(store.head_path()).unwrap(),
            }
            assert_eq!(store.chain_head().unwrap().run.0, run);
            assert_eq!(previous(run).run.map(|run| run.0).as_deref(), before);
        }
        save("c");
        assert_eq!(
            (
                previous("c").run.unwrap().0.as_str(),
                previous("c").after_break
            ),
            ("b", false)
        );
        // What was announced and never written is none, nor is what does not follow the head.
        let next = Next {
            run: RunId("d".into()),
            seal: Digest([1; 32]),
            link: previous("c"),
        };
        fs::write(store.next_path(), super::seal(&next)).unwrap();
        assert_eq!(store.chain_head().unwrap().run.0, "c");
        let seal = store.load_run(&RunId("a".into())).unwrap().seal.unwrap();
        fs::write(
            store.next_path(),
            super::seal(&Next {
                run: RunId("a".into()),
                seal,
                link: previous("a"),
            }),
        )
        .unwrap();
        assert_eq!(store.chain_head().unwrap().run.0, "c");
        fs::write(store.head_path(), "broken").unwrap();
        assert!(
            store.chain_head().is_none() && store.chain_head_is_broken(),
            "an announcement does not hide that"
        );
    }

    #[test]
    fn first_records_that_are_written_at_once_are_one_chain() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        std::thread::scope(|scope| {
            for number in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    store
                        .save_run(&record(&format!("r{number}"), RunStatus::Done))
                        .unwrap()
                });
            }
        });
        let chained: Vec<_> = store
            .newest_first()
            .unwrap()
            .map(|record| record.run)
            .collect();
        assert_eq!(chained.len(), 8);
        let links: Vec<_> = chained
            .iter()
            .map(|run| store.load_run(run).unwrap().previous.unwrap())
            .collect();
        assert!(
            links
                .iter()
                .all(|link| link.store == links[0].store && !link.after_break)
        );
        assert!(
            links
                .iter()
                .zip(&chained[1..])
                .all(|(link, before)| link.run.as_ref() == Some(before))
        );
    }
}
