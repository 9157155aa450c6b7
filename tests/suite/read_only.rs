//! A store that cannot be written is a clear error before anything is computed.

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
    let finished = run_unprivileged(&environment, &["run", "--store", "store", "pipeline.yaml"]).expect(1);
    finished.says("error: cannot create").says("store/v1").says("Permission denied");
    finished.says("hint: the store must be writable: choose another with --store DIR or RUNNER_STORE");
    assert!(!finished.stderr.contains("start "), "nothing was begun: {}", finished.stderr);
    assert_eq!(environment.files("store"), Vec::<std::path::PathBuf>::new());
    set_permissions(&store, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn results_can_be_read_without_permission_to_write() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    for arguments in
        [&["plan", "pipeline.yaml"][..], &["show"], &["runs"], &["why", "model", "pipeline.yaml"], &["cache", "stats"]]
    {
        let finished = run_unprivileged(&environment, arguments);
        assert_eq!(finished.code(), Some(0), "{}", finished.describe());
    }
}

#[test]
fn a_file_where_the_store_should_be() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.write("store", "not a folder");
    let finished = environment.run(&["run", "--store", "store", "pipeline.yaml"]).expect(1);
    finished.says("error: cannot create").says("hint: ");
    assert_eq!(environment.read("store"), "not a folder");
}
