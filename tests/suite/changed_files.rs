//! Results of a script that was edited are not those of the old one.

use std::fs;

use crate::environment::TestEnvironment;

/// Each of three programs reads the same file; the first that runs edits the original meanwhile.
#[test]
fn results_of_an_edited_script_are_not_those_of_the_old_one() {
    let environment = TestEnvironment::with_pipeline(
        "pipeline: edits\nstages:\n  it:\n    uses: command\n    matrix: {n: [1, 2, 3]}\n    with:\n      \
         run: [sh, \"{file.script}\", \"{out.o}\", \"--n=${n}\"]\n      files: {script: script.sh}\n      \
         outputs: {o: {path: o.txt}}\n      pass_env: [FOLDER]\n",
    );
    let script = "echo first > \"$1\"\ntest -e \"$FOLDER/edit\" && sed -i s/first/second/ \"$FOLDER/script.sh\"; rm -f \"$FOLDER/edit\"\n";
    let mut environment = environment;
    let folder = environment.folder().display().to_string();
    environment.set("FOLDER", folder);
    environment.write("script.sh", script);
    environment.write("edit", "");
    environment
        .run(&[
            "run",
            "--quiet",
            "--jobs",
            "1",
            "--keep-going",
            "pipeline.yaml",
        ])
        .expect(1)
        .says("changed after");
    environment.write("script.sh", script);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    let written = environment.files(&format!("cache/v1/runs/{run}/files"));
    assert_eq!(written.len(), 3, "{written:?}");
    for path in written {
        assert_eq!(
            fs::read_to_string(environment.path(path.to_str().unwrap())).unwrap(),
            "first\n"
        );
    }
}
