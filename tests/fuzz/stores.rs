//! Stores that somebody or something has damaged: planned, run, verified, collected, counted. Whatever lies there, nothing
//! outside the store is touched, and after a verification a run comes to the results that it came to before.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, UNIX_EPOCH};

use contract::Device;
use contract::artifact::Digest;
use indexmap::IndexMap;
use proptest::collection::vec;
use proptest::prelude::*;
use runner::audit::verify_run;
use runner::cache::{GcOptions, Key, Ledger, RunId, RunRecord, RunStatus, Store, files_below};
use runner::diagnostic::SourceMap;
use runner::engine::{CancelToken, Event, NoFiles, Planner, Reporter, RunOptions, execute};
use runner::graph::{Graph, Machine, build};
use runner::pipeline::{LoadOptions, load_text};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::frame::fuzz;

/// Objects with and without parts, equal content under two keys, a stage that takes from several.
const PIPELINE: &str = "pipeline: damaged
stages:
  raw: {uses: generate, with: {channels: 2, day: 24, rows: {train: 60, validation: 20, calibration: 20, test: 60}}}
  scaled: {uses: normalize, from: raw}
  windows: {uses: window, from: scaled, with: {length: 8}}
  one: {uses: command, foreach: {i: [1, 2]}, with: {run: [sh, -c, 'echo same > {out.o}; : ${i}'], outputs: {o: {path: o}}}}
";

/// The name of the pipeline in records and ledgers.
const NAME: &str = "damaged.yaml";

/// What lies outside the store, and must stay.
const PRECIOUS: &str = "precious";

/// The chain of checkpoints in the store.
const CHAIN: Digest = Digest([5; 32]);

/// Stage name to the digests of its outputs by port.
type Results = BTreeMap<String, IndexMap<String, Digest>>;

/// A store as a run leaves it, and what the run came to.
struct Template {
    folder: TempDir,
    graph: Graph,
    results: Results,
}

static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let mut sources = SourceMap::default();
    let (spec, diagnostics) = load_text(
        Path::new(NAME),
        PIPELINE,
        &LoadOptions::default(),
        &mut sources,
    );
    let spec = spec.unwrap_or_else(|| panic!("{}", diagnostics.render(&sources, false)));
    let (mut graph, _) = build(&spec, &stages::catalogue().kinds);
    graph.place(&Machine {
        threads: 1,
        device: Device::Cpu,
    });
    let store = Arc::new(Store::open(folder.path()));
    for step in [4, 6, 9] {
        store
            .save_checkpoint(&Key(CHAIN), &CHAIN, step, &[7; 100], Some(4))
            .expect("the store can be written");
    }
    let results = run(&store, &graph).expect("nothing is damaged yet");
    Template {
        folder,
        graph,
        results,
    }
});

struct Silent;

impl Reporter for Silent {
    fn on(&mut self, _: &Event) {}
}

/// A run as the command line does it.
fn run(store: &Arc<Store>, graph: &Graph) -> Result<Results, String> {
    store.prepare().map_err(|error| error.to_string())?;
    let mut ledger = Ledger::load(store, NAME);
    let planner = Planner {
        graph,
        store,
        ledger: &ledger,
        files: &NoFiles,
        numeric_class: "fuzz",
        forced: Default::default(),
        environment: |_| None,
    };
    let options = RunOptions {
        jobs: 1,
        threads: 1,
        device: Device::Cpu,
        memory: 1 << 30,
        gpus: 0,
        keep_going: false,
    };
    let id = RunId::now();
    let outcome = execute(
        &planner,
        planner.plan(),
        store,
        &options,
        &id,
        &CancelToken::default(),
        &mut Silent,
    );
    for (stage, action) in &outcome.actions {
        ledger.note(store, &graph.stage(*stage).name, action);
    }
    ledger
        .save(store, NAME)
        .map_err(|error| error.to_string())?;
    let record = RunRecord {
        run: id,
        pipeline: "damaged".to_owned(),
        file: NAME.to_owned(),
        status: outcome.status,
        started: 0,
        seconds: outcome.seconds,
        command: Vec::new(),
        profile: None,
        overrides: Vec::new(),
        targets: Vec::new(),
        sweep: None,
        params: IndexMap::new(),
        seed: 0,
        environment: IndexMap::new(),
        pipeline_files: Vec::new(),
        stages: outcome.stages,
        instances: IndexMap::new(),
        metrics: IndexMap::new(),
        previous: None,
        seal: None,
    };
    store.save_run(&record).map_err(|error| error.to_string())?;
    if outcome.status != RunStatus::Done {
        return Err(format!(
            "it ended as {}: {:?}",
            outcome.status.name(),
            outcome.failures
        ));
    }
    Ok(record
        .stages
        .into_iter()
        .map(|stage| (stage.name, stage.digests))
        .collect())
}

#[test]
fn stores() {
    let damage = vec((0..KINDS, any::<u8>(), any::<u8>()), 1..8);
    let strategy = (any::<u8>(), damage).prop_map(|(order, damage)| {
        let three = damage
            .into_iter()
            .flat_map(|(kind, target, how)| [kind, target, how]);
        std::iter::once(order).chain(three).collect()
    });
    fuzz("stores", strategy, judge);
}

fn judge(input: &[u8]) -> Result<(), String> {
    let template = &*TEMPLATE;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (top, victim) = (folder.path().join("store"), folder.path().join("victim"));
    copy(template.folder.path(), &top).map_err(|error| error.to_string())?;
    for name in ["doc", "tmp/doc", "objects/ab/doc", "run.json"] {
        let path = victim.join(name);
        fs::create_dir_all(path.parent().unwrap()).map_err(|error| error.to_string())?;
        fs::write(path, PRECIOUS).map_err(|error| error.to_string())?;
    }
    let (order, damage) = input.split_first().unwrap_or((&0, &[]));
    for three in damage.chunks_exact(3) {
        // What one damage has made impossible for the next is left out.
        let _ = harm(&top.join("v1"), &victim, three[0], three[1], three[2]);
    }
    age_leases(&top.join("v1"));
    let store = Arc::new(Store::open(&top));
    look(&store, &template.graph, *order);
    check_outside(folder.path(), &victim)?;
    store
        .verify(&|_, _| {})
        .map_err(|error| format!("a verification: {error}"))?;
    let results = run(&store, &template.graph)
        .map_err(|error| format!("a run after a verification: {error}"))?;
    if results != template.results {
        return Err(format!(
            "other results after a verification: {results:?}, not {:?}",
            template.results
        ));
    }
    let report = store
        .verify(&|_, _| {})
        .map_err(|error| format!("a second verification: {error}"))?;
    if !report.damaged.is_empty() {
        return Err(format!("still damaged: {:?}", report.damaged));
    }
    check_outside(folder.path(), &victim)
}

/// Whatever looks through the store may find something wrong, and must come to an end.
fn look(store: &Arc<Store>, graph: &Graph, order: u8) {
    let nothing = |_: usize, _: usize| {};
    let collect = |options: GcOptions| drop(store.gc(&options));
    for step in 0..4 {
        match (order >> (2 * step)) & 3 {
            0 => drop(run(store, graph)),
            1 => collect(GcOptions {
                dry_run: order & 1 == 0,
                ..GcOptions::default()
            }),
            2 => collect(GcOptions {
                max_bytes: Some(u64::from(order)),
                max_age: (order & 1 == 0).then_some(Duration::ZERO),
                ..GcOptions::default()
            }),
            _ => {
                let _ = (
                    store.stats(),
                    store.leased(),
                    store.chain_head(),
                    store.forgotten_runs(),
                );
                let _ = store.load_checkpoint(&CHAIN, u64::MAX);
                let runs: Vec<RunRecord> = store.newest_first().into_iter().flatten().collect();
                let _ = store.find_run("latest");
                for run in runs {
                    let _ = verify_run(store, &run.run, &nothing);
                }
            }
        }
    }
}

/// Nothing has been written outside, and nothing has gone.
fn check_outside(folder: &Path, victim: &Path) -> Result<(), String> {
    let files = files_below(victim).map_err(|error| error.to_string())?;
    let intact = files
        .iter()
        .filter(|path| fs::read(path).is_ok_and(|bytes| bytes == PRECIOUS.as_bytes()))
        .count();
    let beside = fs::read_dir(folder)
        .map_err(|error| error.to_string())?
        .count();
    if (files.len(), intact, beside) != (4, 4, 2) {
        return Err(format!(
            "outside the store there are {files:?}, of which {intact} are as they were"
        ));
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for path in files_below(from).map_err(io::Error::other)? {
        let target = to.join(path.strip_prefix(from).map_err(io::Error::other)?);
        fs::create_dir_all(target.parent().unwrap_or(to))?;
        fs::copy(&path, &target)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Kinds of damage.
const KINDS: u8 = 18;

/// Does something to the store. `target` chooses what to, `how` the rest.
fn harm(top: &Path, victim: &Path, kind: u8, target: u8, how: u8) -> io::Result<()> {
    let files = files_below(top).map_err(io::Error::other)?;
    let pick = |number: u8| {
        files
            .get(usize::from(number) % files.len().max(1))
            .cloned()
            .unwrap_or_default()
    };
    let (path, other) = (pick(target), pick(how));
    let folders: Vec<PathBuf> = path
        .ancestors()
        .skip(1)
        .take_while(|above| *above != top)
        .map(PathBuf::from)
        .collect();
    let folder = folders
        .get(usize::from(how) % folders.len().max(1))
        .cloned()
        .unwrap_or_else(|| top.join("objects"));
    let outside = [
        victim.to_owned(),
        victim.join("doc"),
        victim.join("objects/ab"),
        victim.join("nothing"),
    ];
    let outside = &outside[usize::from(how) % outside.len()];
    // To write through a link or to open a pipe would be the fault of this function.
    let needs_a_file = [0, 1, 8, 9, 10, 15, 16, 17].contains(&(kind % KINDS));
    if needs_a_file && !(plain(&path).is_ok() && plain(&other).is_ok()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    match kind % KINDS {
        0 => File::options()
            .write(true)
            .open(&path)?
            .set_len(u64::from(how)),
        1 => {
            let mut bytes = fs::read(&path)?;
            let at = (usize::from(how) * bytes.len()) / 256;
            bytes
                .get_mut(at)
                .into_iter()
                .for_each(|byte| *byte ^= 1 << (how % 8));
            fs::write(&path, bytes)
        }
        2 => fs::remove_file(&path),
        3 => fs::remove_file(&path).and_then(|()| symlink(outside, &path)),
        4 => fs::remove_dir_all(&folder).and_then(|()| symlink(outside, &folder)),
        5 => fs::remove_file(&path).and_then(|()| fs::create_dir_all(path.join("deep/er"))),
        6 => fs::remove_file(&path).and_then(|()| pipe(&path)),
        7 => {
            let aside = top.join("aside");
            fs::rename(&path, &aside)?;
            fs::rename(&other, &path)?;
            fs::rename(&aside, &other)
        }
        8 => File::options()
            .write(true)
            .open(&path)?
            .set_len(1 << (38 + how % 8)),
        9 => fs::write(&path, vec![how; usize::from(how)]),
        10 => fs::copy(&other, &path).map(drop),
        11 => fs::remove_dir_all(&folder).and_then(|()| fs::write(&folder, "a file")),
        12 => inside(top, &folder)
            .and_then(|()| symlink(outside, folder.join(format!("stray-{how}")))),
        13 => {
            let names = [
                "tmp",
                "trash",
                "leases",
                "pulls",
                "quarantine",
                "sweeps",
                "checkpoints",
            ];
            let place = top.join(names[usize::from(target) % names.len()]);
            let _ = fs::remove_dir_all(&place);
            symlink(outside, place)
        }
        14 => plant(top, target, how),
        15 => forge_action(top, how),
        16 => forge_record(top, how),
        _ => forge_ledger(top, how),
    }
}

fn pipe(path: &Path) -> io::Result<()> {
    let mode = rustix::fs::Mode::RWXU;
    Ok(rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )?)
}

/// Files that have no business where they are.
fn plant(top: &Path, target: u8, how: u8) -> io::Result<()> {
    let key = Digest([how; 32]).to_string();
    let names = [
        "trash/x/objects/ab/cd".to_owned(),
        "trash/x/runs.head".to_owned(),
        format!("leases/{key}"),
        "leases/gc".to_owned(),
        "leases/chain".to_owned(),
        format!("tmp/partial-{key}"),
        "runs.next".to_owned(),
        "runs.forgotten".to_owned(),
        "runs/20000101-000000-000abc/run.json".to_owned(),
        format!("checkpoints/{}/{}/{key}.json", &key[..2], &key[2..]),
        format!("pulls/{how}.json"),
    ];
    let path = top.join(&names[usize::from(target) % names.len()]);
    inside(top, &path)?;
    fs::create_dir_all(path.parent().unwrap_or(top))?;
    File::create_new(path)?.write_all(&vec![how; usize::from(how)])
}

/// Makes all leases old: one that was touched just now would be waited for.
fn age_leases(top: &Path) {
    let leases = top.join("leases");
    if inside(top, &leases).is_err() {
        return;
    }
    for path in files_below(&leases).unwrap_or_default() {
        if plain(&path).is_ok()
            && let Ok(file) = File::options().append(true).open(&path)
        {
            let _ = file.set_modified(UNIX_EPOCH + Duration::from_secs(1));
        }
    }
}

/// A line of JSON with its sum, as the store writes it.
fn sealed(value: &Value) -> Vec<u8> {
    let line = value.to_string();
    format!("{line}\n{}\n", Digest::of_bytes(line.as_bytes())).into_bytes()
}

fn read_sealed(path: &Path) -> io::Result<Value> {
    plain(path)?;
    let text = fs::read_to_string(path)?;
    serde_json::from_str(text.lines().next().unwrap_or_default()).map_err(io::Error::other)
}

/// Fails for what a link leads to.
fn inside(top: &Path, path: &Path) -> io::Result<()> {
    let mut way = path.ancestors().take_while(|above| *above != top);
    let leads_out = way.any(|above| {
        above
            .symlink_metadata()
            .is_ok_and(|there| there.is_symlink())
    });
    if leads_out {
        Err(io::ErrorKind::InvalidInput.into())
    } else {
        Ok(())
    }
}

/// Fails for what is not a regular file, and for one that earlier damage has made so long that a copy of it would not end.
fn plain(path: &Path) -> io::Result<()> {
    const LONGEST: u64 = 64 << 20;
    let metadata = path.symlink_metadata()?;
    if metadata.is_file() && metadata.len() <= LONGEST {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// Says something else of an output, with the right sum.
fn forge_output(output: &mut Value, how: u8) {
    let deep = (0..how).fold(
        json!([]),
        |parts, _| json!([{"digest": Digest([1; 32]), "object": Digest([1; 32]), "bytes": 1, "parts": parts}]),
    );
    match how % 6 {
        0 => output["bytes"] = json!(u64::MAX),
        1 => output["digest"] = json!(Digest([how; 32])),
        2 => output["object"] = json!(Digest([how; 32])),
        3 => output["kind"] = json!("Model"),
        4 => output["parts"] = deep,
        _ => output["port"] = json!("\u{1b}[2J../../x"),
    }
}

fn forge_action(top: &Path, how: u8) -> io::Result<()> {
    let files = files_below(&top.join("actions")).map_err(io::Error::other)?;
    let path = files
        .get(usize::from(how) % files.len().max(1))
        .ok_or(io::ErrorKind::NotFound)?;
    let mut action = read_sealed(path)?;
    // Earlier damage may have left no output to forge.
    let output = action
        .get_mut("outputs")
        .and_then(|outputs| outputs.get_mut(0))
        .ok_or(io::ErrorKind::NotFound)?;
    forge_output(output, how);
    // What is forged is not what the ledger remembers.
    fs::remove_file(path)?;
    fs::write(path, sealed(&action))
}

fn forge_ledger(top: &Path, how: u8) -> io::Result<()> {
    let files = files_below(&top.join("ledger")).map_err(io::Error::other)?;
    let path = files.first().ok_or(io::ErrorKind::NotFound)?;
    let mut ledger = read_sealed(path)?;
    let stages = ledger["stages"]
        .as_object_mut()
        .ok_or(io::ErrorKind::InvalidData)?;
    let count = stages.len().max(1);
    if let Some((_, action)) = stages.iter_mut().nth(usize::from(how) % count) {
        forge_output(&mut action["outputs"][0], how);
    }
    fs::write(path, sealed(&ledger))
}

fn forge_record(top: &Path, how: u8) -> io::Result<()> {
    let files = files_below(&top.join("runs")).map_err(io::Error::other)?;
    let path = files
        .iter()
        .find(|path| path.ends_with("run.json"))
        .ok_or(io::ErrorKind::NotFound)?;
    plain(path)?;
    let text = fs::read_to_string(path)?;
    let (content, _) = text
        .rsplit_once(",\"seal\"")
        .ok_or(io::ErrorKind::InvalidData)?;
    let forged = match how % 5 {
        0 => content.replacen("\"started\":0", "\"started\":18446744073709551615", 1),
        1 => content.replacen("\"seconds\":", "\"seconds\":1e308,\"was\":", 1),
        2 => content.replacen("\"status\":\"done\"", "\"status\":\"running\"", 1),
        3 => content.replacen("\"run\":\"", "\"run\":\"../../../victim/", 1),
        _ => content.replacen("\"run\":null", "\"run\":\"20000101-000000-000abc\"", 1),
    };
    fs::write(
        path,
        format!(
            "{forged},\"seal\":\"{}\"}}",
            Digest::of_bytes(forged.as_bytes())
        ),
    )
}
