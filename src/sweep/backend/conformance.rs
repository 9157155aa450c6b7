//! What every backend must keep, as one test.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Backend, Job, TASK, TaskState};
use crate::cache::Layout;

/// Longer than any queue of a test cluster takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn job(folder: &Path, part: &str, shell: &str, tasks: usize) -> Job {
    Job {
        name: format!("conformance-{}", std::process::id()),
        comment: format!("here:{part}"),
        tasks,
        command: ["bash", "-c", shell, "task", TASK]
            .map(str::to_owned)
            .into(),
        script: folder.join(format!("{part}.sh")),
        log: format!("{}/logs/{part}-{TASK}.out", folder.display()),
        directory: folder.to_owned(),
        ..Job::default()
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs jobs of every shape on a backend.
pub(crate) fn conforms(backend: &dyn Backend) {
    let store = tempfile::tempdir().unwrap();
    let layout = Layout::new(store.path());
    let folder = &layout.sweeps().join("conformance");
    let scripts = [folder.to_owned()];
    let name = format!("conformance-{}", std::process::id());
    let states = |part: &str| -> Vec<TaskState> {
        let comment = format!("here:{part}");
        let mut tasks = backend.tasks(&name, &scripts).unwrap();
        tasks.retain(|task| task.comment == comment);
        tasks.sort_by_key(|task| task.number);
        tasks.into_iter().map(|task| task.state).collect()
    };

    // An array under a cap: never more than two at a time, every number once.
    let count = "echo s$1 >> order; n=$(ls busy.* 2>/dev/null | wc -l); ((n < 2)) || echo over >> order; : > busy.$1; sleep 0.4; rm busy.$1; echo out of $1";
    let first = Job {
        cap: Some(2),
        ..job(folder, "first", count, 4)
    };
    backend.check(&first).unwrap();
    let first_id = backend.submit(&first, &layout).unwrap();
    // After it, another one that looks at what is there.
    let second = Job {
        after: vec![first_id],
        ..job(folder, "second", "wc -l < order > seen", 1)
    };
    backend.submit(&second, &layout).unwrap();
    wait_until("the second job has ended", || {
        folder.join("seen").exists() && states("second") == [TaskState::Done]
    });
    assert_eq!(fs::read_to_string(folder.join("seen")).unwrap().trim(), "4");
    let mut order: Vec<String> = fs::read_to_string(folder.join("order"))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    order.sort();
    assert_eq!(order, ["s0", "s1", "s2", "s3"]);
    assert_eq!(states("first"), [TaskState::Done; 4]);
    assert_eq!(
        fs::read_to_string(folder.join("logs/first-3.out")).unwrap(),
        "out of 3\n"
    );
    assert!(
        fs::read_to_string(&first.script).unwrap().contains("bash"),
        "the script is kept"
    );

    // A task that fails is told apart; what comes after it runs all the same.
    let failing = job(folder, "failing", "exit $1", 2);
    let id = backend.submit(&failing, &layout).unwrap();
    let after = Job {
        after: vec![id],
        ..job(folder, "after", "true", 1)
    };
    backend.submit(&after, &layout).unwrap();
    wait_until("a job after a failed one has ended", || {
        states("after") == [TaskState::Done]
    });
    assert_eq!(states("failing"), [TaskState::Done, TaskState::Failed]);

    // Cancelled: what runs is ended, what waits never begins.
    let long = Job {
        cap: Some(1),
        ..job(
            folder,
            "long",
            "trap 'echo ended > trapped; exit 1' TERM; : > begun.$1; sleep 50 & wait",
            2,
        )
    };
    backend.submit(&long, &layout).unwrap();
    wait_until("the long job has begun", || folder.join("begun.0").exists());
    wait_until("it is known to run", || {
        states("long")[0] == TaskState::Running
    });
    assert!(backend.cancel(&name, &scripts).unwrap() >= 1);
    wait_until("the long job is over", || {
        states("long")
            .iter()
            .all(|state| *state == TaskState::Cancelled)
    });
    assert!(!folder.join("begun.1").exists());
}
