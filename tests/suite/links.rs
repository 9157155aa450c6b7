//! Nothing in a store is ever followed: whatever link, pipe or folder stands in it, what lies outside stays as it was, and
//! a verification and a run put the store right.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::environment::TestEnvironment;
use crate::pipelines::SMALL;
use crate::store::{action_path, digests, object_path, open, part_path, ran};

/// A store with one run, and a folder outside of it.
fn beside_a_victim() -> (TestEnvironment, PathBuf) {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let names = ["tmp/doc", "objects/doc", "deep/er/doc", "deep/run.json"];
    names
        .iter()
        .for_each(|name| drop(environment.write(&format!("victim/{name}"), "precious")));
    let victim = environment.path("victim");
    let long_ago = SystemTime::now() - std::time::Duration::from_secs(100_000_000);
    for path in environment.files("victim") {
        fs::File::options()
            .append(true)
            .open(path)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
    (environment, victim)
}

fn is_untouched(environment: &TestEnvironment, place: &str) {
    let files = environment.files("victim");
    assert_eq!(files.len(), 4, "{place}: {files:?}");
    assert!(
        files
            .iter()
            .all(|path| fs::read(path).unwrap() == b"precious"),
        "{place}"
    );
}

/// Puts a link in place of what there is, or where nothing is.
fn replace_by_link(path: &Path, target: &Path) {
    if path.symlink_metadata().is_ok_and(|there| there.is_dir()) {
        fs::remove_dir_all(path).unwrap();
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

/// Everything that looks through a store, with limits that spare nothing.
fn go_through_it(environment: &TestEnvironment) {
    for arguments in [
        &["cache", "stats"][..],
        &[
            "cache",
            "gc",
            "--dry-run",
            "--max-age",
            "1 ms",
            "--max-size",
            "1 B",
        ],
        &["cache", "gc", "--max-age", "1 ms", "--max-size", "1 B"],
        &["plan", "pipeline.yaml"],
        &["runs"],
        &["show"],
        &["verify"],
        &["cache", "verify"],
    ] {
        let finished = environment.run(arguments);
        assert!(
            matches!(finished.code(), Some(0..=3)),
            "{}",
            finished.describe()
        );
    }
}

#[test]
fn a_link_anywhere_in_a_store_leads_nowhere() {
    let (first, _) = beside_a_victim();
    let layout = open(&first).layout().root().to_owned();
    let below = |path: PathBuf| path.strip_prefix(&layout).unwrap().display().to_string();
    let shard = |path: String| path.rsplit_once('/').unwrap().0.to_owned();
    let object = below(object_path(&first, "model", "model"));
    let action = below(action_path(&first, "scores"));
    let run = below(
        first
            .files("cache/v1/runs")
            .into_iter()
            .find(|path| path.ends_with("run.json"))
            .unwrap(),
    );
    let chain = below(first.files("cache/v1/checkpoints").first().unwrap().clone());
    let places = [
        "tmp/zz".to_owned(),
        "tmp".to_owned(),
        "quarantine/zz".to_owned(),
        "quarantine".to_owned(),
        "trash/zz".to_owned(),
        "leases/zz".to_owned(),
        "leases/gc".to_owned(),
        "checkpoints/ff".to_owned(),
        shard(chain.clone()),
        chain,
        "objects/zz".to_owned(),
        shard(object.clone()),
        object,
        shard(action.clone()),
        action,
        "ledger/zz".to_owned(),
        "pulls/zz".to_owned(),
        shard(run.clone()),
        run,
        "runs/zz".to_owned(),
        "runs.next".to_owned(),
        "runs.forgotten".to_owned(),
        "files.memo".to_owned(),
    ];
    let others = ["victim/deep/er/doc", "nothing", "victim/deep"];
    for (number, place) in places.into_iter().enumerate() {
        for target in ["victim", others[number % others.len()]] {
            let (environment, _) = beside_a_victim();
            let before = environment.latest();
            let path = environment
                .path("cache/v1")
                .join(below_of(&environment, &place, &layout));
            replace_by_link(&path, &environment.path(target));
            go_through_it(&environment);
            is_untouched(&environment, &format!("{place} -> {target}"));
            environment.run(&["cache", "verify"]);
            environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
            environment.succeed(&["cache", "verify"]);
            assert_eq!(
                digests(&environment.latest()),
                digests(&before),
                "{place} -> {target}"
            );
            is_untouched(&environment, &format!("{place} -> {target}, after a run"));
        }
    }
}

/// The same place in another store: only runs have names of their own.
fn below_of(environment: &TestEnvironment, place: &str, _: &Path) -> String {
    let Some(rest) = place.strip_prefix("runs/").filter(|rest| *rest != "zz") else {
        return place.to_owned();
    };
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    match rest.split_once('/') {
        Some((_, file)) => format!("runs/{run}/{file}"),
        None => format!("runs/{run}"),
    }
}

/// One of the store's own folders that is a link is somebody's intention: nothing is written through it.
#[test]
fn a_folder_of_the_store_that_is_a_link_is_refused_with_a_way_out() {
    for name in ["objects", "actions", "runs", "ledger", "tmp"] {
        let (environment, victim) = beside_a_victim();
        replace_by_link(&environment.path(&format!("cache/v1/{name}")), &victim);
        let refused = environment
            .run(&["run", "--quiet", "pipeline.yaml"])
            .expect(1);
        refused.says(&format!(
            "cache/v1/{name} is not a folder, and nothing in a store is followed"
        ));
        refused.says("runner cache verify");
        is_untouched(&environment, name);
        environment
            .run(&["cache", "verify"])
            .expect(3)
            .prints("nothing is followed");
        environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
        environment.succeed(&["cache", "verify"]);
        is_untouched(&environment, name);
    }
}

/// The user may put a whole store elsewhere.
#[test]
fn the_top_of_a_store_may_be_a_link() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    fs::create_dir(environment.path("disk")).unwrap();
    symlink(environment.path("disk"), environment.path("cache")).unwrap();
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), Vec::<String>::new());
    environment.succeed(&["cache", "gc"]);
    environment.succeed(&["cache", "verify"]);
    assert!(environment.path("disk/v1/objects").is_dir());
}

#[test]
fn pipes_and_folders_in_place_of_files_are_no_files() {
    let make: [fn(&Path); 2] = [
        |path| {
            let mode = rustix::fs::Mode::RWXU;
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
        },
        |path| fs::create_dir(path).unwrap(),
    ];
    for make in make {
        let (environment, _) = beside_a_victim();
        let before = environment.latest();
        let run = environment.path(&format!(
            "cache/v1/runs/{}/run.json",
            before["run"].as_str().unwrap()
        ));
        let places = [
            object_path(&environment, "model", "model"),
            part_path(&environment, "plots", "plots"),
            action_path(&environment, "scores"),
            environment.files("cache/v1/ledger").remove(0),
            environment.path("cache/v1/files.memo"),
            environment.path("cache/v1/runs.head"),
            run,
        ];
        for path in places {
            let _ = fs::remove_file(&path);
            make(&path);
        }
        for arguments in [
            &["plan", "pipeline.yaml"][..],
            &["cache", "stats"],
            &["runs"],
            &["verify"],
        ] {
            let finished = environment.run(arguments);
            assert!(
                matches!(finished.code(), Some(0..=3)),
                "{}",
                finished.describe()
            );
        }
        environment.run(&["cache", "verify"]).expect(3);
        environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
        environment.succeed(&["cache", "verify"]);
        assert_eq!(digests(&environment.latest()), digests(&before));
    }
}

/// A folder that is used as a remote is a store, too.
#[test]
fn a_remote_in_a_folder_is_not_followed_either() {
    let (mut environment, victim) = beside_a_victim();
    let object = object_path(&environment, "model", "model");
    let name = object
        .strip_prefix(environment.path("cache"))
        .unwrap()
        .to_owned();
    environment.set(
        "RUNNER_REMOTE",
        format!("file://{}", environment.path("shared").display()),
    );
    environment.succeed(&["cache", "push", "--all"]);
    let there = environment.path("shared").join(&name);
    let shard = there.parent().unwrap();
    // Files whose names are those of objects, behind a link.
    let outside = victim.join("objects");
    fs::rename(&there, outside.join(there.file_name().unwrap())).unwrap();
    replace_by_link(shard, &outside);
    let gc = ["cache", "gc", "--on-remote", "--older-than", "1 ms"];
    assert!(matches!(environment.run(&gc).code(), Some(0..=3)));
    fs::remove_file(
        environment
            .files("cache/v1/runs")
            .into_iter()
            .find(|path| path.ends_with("run.json"))
            .unwrap(),
    )
    .unwrap();
    assert!(matches!(environment.run(&gc).code(), Some(0..=3)));
    assert_eq!(environment.files("victim").len(), 5, "nothing outside went");
    environment
        .run(&["run", "--quiet", "pipeline.yaml", "--store", "other"])
        .expect(0);
    environment.run(&["cache", "push", "--all", "--verify", "--store", "other"]);
    assert_eq!(
        environment.files("victim").len(),
        5,
        "nothing was written there"
    );
}
