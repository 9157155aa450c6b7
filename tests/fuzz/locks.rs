//! Texts of locks: examples with changed bytes, and locks of hostile names that must come back as they were.

use std::path::Path;
use std::sync::LazyLock;

use contract::artifact::Digest;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use runner::audit::{Lock, LockedStage};
use runner::cache::Key;

use crate::frame::fuzz;
use crate::{bundles, mutate};

const WORDS: &[&str] = &[
    "stage \"",
    "\"\n",
    "  key = blake3:",
    "  seal = blake3:",
    "  needs = ",
    "  output.",
    "  metric.",
    "format = ",
    "seed = ",
    "param.",
    "set = ",
    "target = ",
    "= ",
    "\\u0000",
    "\u{1b}[2J",
    "\u{202e}",
    "null",
    "{}",
    "[[[[",
    "1e999",
    "<<<<<<<",
    "=======",
    ">>>>>>>",
    "\t",
    "\r\n",
    "#",
];

const NAMES: &[&str] = &[
    "",
    "a",
    "a b",
    "a=b",
    "\"",
    "\\",
    "\n",
    "\r\n",
    "\u{0}",
    "\u{1b}[2J",
    "\u{202e}",
    "seal",
    "key",
    "# no comment",
    " = ",
    "é",
];

/// The lock of a run.
static EXAMPLE: LazyLock<String> = LazyLock::new(|| {
    let lock = bundles::entry("run/pipeline.lock");
    String::from_utf8(lock).unwrap()
});

#[test]
fn locks() {
    fuzz(
        "locks",
        mutate::mutated(vec![EXAMPLE.clone().into_bytes()], WORDS),
        judge,
    );
}

/// Names of any sort, as a record may hold them.
fn named() -> impl Strategy<Value = Lock> {
    let name = || prop_oneof![4 => select(NAMES).prop_map(str::to_owned), 1 => any::<String>()];
    let digest = || any::<[u8; 32]>().prop_map(Digest);
    let figure =
        option::of(any::<f64>().prop_filter("JSON has no others", |figure| figure.is_finite()));
    let stage = (
        digest(),
        vec(name(), 0..3),
        vec((name(), digest()), 0..3),
        vec((name(), figure), 0..3),
    )
        .prop_map(|(key, needs, outputs, metrics)| LockedStage {
            key: Key(key),
            needs: needs.into_iter().collect(),
            outputs: outputs.into_iter().collect(),
            metrics: metrics.into_iter().collect(),
            manifest: String::new(),
        });
    let lists = (
        vec(name(), 0..3),
        vec(name(), 0..3),
        vec((name(), name()), 0..3),
        vec((name(), stage), 0..4),
    );
    (name(), name(), option::of(name()), any::<u64>(), lists).prop_map(
        |(pipeline, file, profile, seed, (overrides, targets, params, stages))| Lock {
            runner: "0".to_owned(),
            pipeline,
            file,
            profile,
            overrides,
            targets,
            seed: seed.checked_sub(1),
            params: params
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect(),
            stages: stages.into_iter().collect(),
        },
    )
}

proptest! {
    #[test]
    fn locks_of_any_names_come_back(lock in named()) {
        let text = lock.to_text();
        match Lock::parse(&text, Path::new("made.lock")) {
            Ok(again) => prop_assert_eq!(again, lock),
            Err(error) => prop_assert!(false, "{error}\n{text}"),
        }
    }
}

fn judge(text: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(text);
    match Lock::parse(&text, Path::new("fuzzed.lock")) {
        Ok(lock) => {
            let again = Lock::parse(&lock.to_text(), Path::new("fuzzed.lock"));
            if again.is_ok_and(|again| again == lock) {
                Ok(())
            } else {
                Err("it does not come back".to_owned())
            }
        }
        Err(error) if error.to_string().len() > 10_000 => Err("a very long message".to_owned()),
        Err(_) => Ok(()),
    }
}
