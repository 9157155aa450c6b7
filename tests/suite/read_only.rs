//! A store that cannot be written is a clear error before anything is computed, and a disk that fills up loses nothing.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use crate::environment::{Finished, TestEnvironment};
use crate::pipelines::SMALL;

/// Permissions do not bind the superuser, so the program runs as somebody else then.
const NOBODY: u32 = 65_534;

fn run_unprivileged(environment: &TestEnvironment, arguments: &[&str]) -> Finished {
    let mut command = environment.command(arguments);
    if rustix::process::geteuid().is_root() {
        set_permissions(environment.folder(), Permissions::from_mode(0o755)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    environment.start(command).wait()
}

#[test]
fn a_folder_without_permission() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let store = environment.path("store");
    std::fs::create_dir(&store).unwrap();
    set_permissions(&store, Permissions::from_mode(0o555)).unwrap();
    let finished =
        run_unprivileged(&environment, &["run", "--store", "store", "pipeline.yaml"]).expect(1);
    finished
        .says("error: cannot create")
        .says("store/v1")
        .says("Permission denied");
    finished
        .says("hint: the store must be writable: choose another with --store DIR or RUNNER_STORE");
    assert!(
        !finished.stderr.contains("start "),
        "nothing was begun: {}",
        finished.stderr
    );
    assert_eq!(environment.files("store"), Vec::<std::path::PathBuf>::new());
    set_permissions(&store, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn results_can_be_read_without_permission_to_write() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    for arguments in [
        &["plan", "pipeline.yaml"][..],
        &["show"],
        &["runs"],
        &["why", "model", "pipeline.yaml"],
        &["cache", "stats"],
    ] {
        let finished = run_unprivileged(&environment, arguments);
        assert_eq!(finished.code(), Some(0), "{}", finished.describe());
    }
}

#[test]
fn a_file_where_the_store_should_be() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.write("store", "not a folder");
    let finished = environment
        .run(&["run", "--store", "store", "pipeline.yaml"])
        .expect(1);
    finished.says("error: cannot create").says("hint: ");
    assert_eq!(environment.read("store"), "not a folder");
}

/// Runs the program in a mount namespace in which `store` is a small disk of its own; `None` where the system does not
/// allow that.
fn run_on_disk(
    environment: &TestEnvironment,
    options: &str,
    arguments: &[&str],
) -> Option<Finished> {
    std::fs::create_dir_all(environment.path("store")).unwrap();
    let alone = ["--mount"];
    let as_user = ["--user", "--map-root-user", "--mount"];
    let mount = format!("mount -t tmpfs -o {options} tmpfs store");
    let works = |namespaces: &&[&str]| {
        let mut tried = std::process::Command::new("unshare");
        tried
            .args(*namespaces)
            .args(["sh", "-c", &mount])
            .current_dir(environment.folder());
        tried.output().is_ok_and(|output| output.status.success())
    };
    let Some(namespaces) = [&alone[..], &as_user].into_iter().find(works) else {
        eprintln!("SKIPPED: this system allows no mount namespaces");
        return None;
    };
    let like = environment.command(arguments);
    let mut command = std::process::Command::new("unshare");
    command
        .args(namespaces)
        .args(["sh", "-c", &format!("{mount} && exec \"$@\""), "sh"]);
    command
        .arg(crate::environment::program())
        .args(arguments)
        .current_dir(environment.folder())
        .env_clear();
    command.envs(
        like.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    Some(environment.start(command).wait())
}

#[test]
fn a_disk_that_is_mounted_read_only() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let Some(finished) = run_on_disk(
        &environment,
        "ro",
        &["run", "--store", "store", "pipeline.yaml"],
    ) else {
        return;
    };
    let finished = finished.expect(1);
    finished
        .says("error: cannot create")
        .says("Read-only file system")
        .says("hint: the store must be writable");
    assert!(
        !finished.stderr.contains("start "),
        "nothing was begun: {}",
        finished.stderr
    );
}

#[test]
fn a_disk_that_is_full() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let run = ["run", "--store", "store", "pipeline.yaml"];
    let Some(finished) = run_on_disk(&environment, "size=128k", &run) else {
        return;
    };
    finished
        .expect(1)
        .says("No space left")
        .says("hint: the disk is full: free space with `runner cache gc");
    environment.succeed(&["run", "pipeline.yaml"]);
    let remote = format!("file://{}", environment.path("cache").display());
    let pull = [
        "cache", "pull", "--all", "--remote", &remote, "--store", "store",
    ];
    let finished = run_on_disk(&environment, "size=128k", &pull)
        .expect("it was allowed just now")
        .expect(1);
    finished
        .says("No space left")
        .says("hint: the disk is full");
    environment.succeed(&["cache", "verify"]);
}
