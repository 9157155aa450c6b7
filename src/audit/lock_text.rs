//! The text of a lock: a line per fact, sorted, with a seal per stage and one over all. The seal of a stage covers its
//! own lines and the seals of the stages that it takes from, so a seal changes only where something above it did, and
//! two branches that touch different stages merge without a conflict but in the last line.

use std::fmt::Write;
use std::path::Path;

use contract::artifact::{Digest, DigestWriter, Shown};
use serde_json::Value;

use super::lock::{FORMAT, Lock, LockError, LockedStage};
use crate::cache::{Key, quoted};

const HEAD: &str = "# The lock of a pipeline. `runner lock` writes it, `runner verify` checks it; every line is sealed.\n";
const BLAKE3: &str = "blake3:";

/// The text of a lock.
pub(super) fn render(lock: &Lock) -> String {
    let mut text = header(lock);
    let seals = stage_seals(lock);
    for ((name, stage), seal) in lock.stages.iter().zip(&seals) {
        let _ = write!(
            text,
            "\nstage {}\n{}  seal = {BLAKE3}{seal}\n",
            Value::from(name.as_str()),
            body(stage)
        );
    }
    let _ = write!(text, "\nseal = {BLAKE3}{}\n", whole(lock, &seals));
    text
}

/// Over everything in the lock.
pub(super) fn seal(lock: &Lock) -> Digest {
    whole(lock, &stage_seals(lock))
}

fn header(lock: &Lock) -> String {
    let mut text = HEAD.to_owned();
    let mut line = |name: &str, value: Value| {
        let _ = writeln!(text, "{name} = {value}");
    };
    line("format", FORMAT.into());
    line("file", lock.file.as_str().into());
    for (name, value) in &lock.params {
        line(&format!("param.{}", quoted(name)), sorted(value));
    }
    line("pipeline", lock.pipeline.as_str().into());
    line("profile", lock.profile.as_deref().into());
    line("runner", lock.runner.as_str().into());
    if let Some(seed) = lock.seed {
        line("seed", seed.into());
    }
    for pair in &lock.overrides {
        line("set", pair.as_str().into());
    }
    for target in &lock.targets {
        line("target", target.as_str().into());
    }
    text
}

fn body(stage: &LockedStage) -> String {
    let mut text = format!("  key = {BLAKE3}{}\n", stage.key);
    for need in &stage.needs {
        let _ = writeln!(text, "  needs = {}", Value::from(need.as_str()));
    }
    for (port, digest) in &stage.outputs {
        let _ = writeln!(text, "  output.{} = {BLAKE3}{digest}", quoted(port));
    }
    for (name, value) in &stage.metrics {
        let _ = writeln!(text, "  metric.{} = {}", quoted(name), Value::from(*value));
    }
    for line in stage.manifest.lines() {
        let _ = writeln!(text, "  manifest.{line}");
    }
    text
}

/// The seals of all stages, in their order.
fn stage_seals(lock: &Lock) -> Vec<Digest> {
    let mut seals: Vec<Option<Digest>> = vec![None; lock.stages.len()];
    let names: Vec<&String> = lock.stages.keys().collect();
    let position = |name: &String| names.binary_search(&name).ok();
    // A stage is sealed once all stages are that it takes from.
    let mut moved = true;
    while moved {
        moved = false;
        for (index, (name, stage)) in lock.stages.iter().enumerate() {
            let needs: Vec<usize> = stage.needs.iter().filter_map(position).collect();
            let above: Vec<Digest> = needs.iter().filter_map(|need| seals[*need]).collect();
            if seals[index].is_none() && above.len() == needs.len() {
                seals[index] = Some(stage_seal(name, &body(stage), &above));
                moved = true;
            }
        }
    }
    // What is left stands in a circle, which no pipeline has: the seals of such stages cover nothing but themselves.
    let mut all = Vec::with_capacity(seals.len());
    for (seal, (name, stage)) in seals.into_iter().zip(&lock.stages) {
        all.push(seal.unwrap_or_else(|| stage_seal(name, &body(stage), &[])));
    }
    all
}

fn stage_seal(name: &str, body: &str, above: &[Digest]) -> Digest {
    let mut writer = DigestWriter::new("lock stage");
    writer.text(name);
    writer.text(body);
    for seal in above {
        writer.digest(seal);
    }
    writer.finish()
}

fn whole(lock: &Lock, seals: &[Digest]) -> Digest {
    let mut writer = DigestWriter::new("lock");
    writer.text(&header(lock));
    for (name, seal) in lock.stages.keys().zip(seals) {
        writer.text(name);
        writer.digest(seal);
    }
    writer.finish()
}

/// The same value whatever the order in which its keys were written.
fn sorted(value: &Value) -> Value {
    let mut value = value.clone();
    value.sort_all_objects();
    value
}

/// Reads the text of a lock and checks its seals. `path` is for messages.
pub(super) fn parse(text: &str, path: &Path) -> Result<Lock, LockError> {
    // Version control may change the ends of lines.
    let text = text.replace("\r\n", "\n");
    let mut lock = Lock::default();
    let mut seals: Vec<(String, Digest)> = Vec::new();
    let (mut last, mut current, mut format) = (None, None, None);
    for (index, line) in text.lines().enumerate() {
        let wrong = |reason: String| LockError::Syntax {
            path: path.to_owned(),
            line: index + 1,
            reason,
        };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("stage ") {
            let name: String = serde_json::from_str(name)
                .map_err(|_| wrong("not the name of a stage".to_owned()))?;
            lock.stages.insert(name.clone(), empty());
            current = Some(name);
            continue;
        }
        let read = match (line.strip_prefix("  "), &current) {
            (Some(fact), Some(name)) => stage_fact(&mut lock, name, fact, &mut seals),
            (None, _) => header_fact(&mut lock, line, &mut format, &mut last),
            (Some(_), None) => None,
        };
        read.ok_or_else(|| wrong(not_understood(line)))?;
        if let Some(found) = format.filter(|found| *found != FORMAT) {
            return Err(wrong(format!(
                "the format is {found}, and this version of runner reads {FORMAT}"
            )));
        }
    }
    let damaged = |what: String| {
        Err(LockError::Tampered {
            path: path.to_owned(),
            what,
        })
    };
    let Some(last) = last.filter(|_| format.is_some()) else {
        return damaged("it does not begin and end as a lock does".to_owned());
    };
    for ((name, seal), (written_name, written)) in
        lock.stages.keys().zip(stage_seals(&lock)).zip(&seals)
    {
        if name != written_name || seal != *written {
            return damaged(format!(
                "the lines of the stage {name} do not agree with its seal"
            ));
        }
    }
    if seal(&lock) != last {
        return damaged("its lines do not agree with the seal in the last one".to_owned());
    }
    let rendered = render(&lock);
    for (index, (found, expected)) in text.lines().zip(rendered.lines()).enumerate() {
        if found != expected {
            let number = index + 1;
            return damaged(format!("line {number} is not as `runner lock` writes it"));
        }
    }
    if text != rendered {
        return damaged("there is more in it than `runner lock` wrote".to_owned());
    }
    Ok(lock)
}

fn not_understood(line: &str) -> String {
    let marks = ["<<<<<<<", "=======", ">>>>>>>", "|||||||"];
    if marks.iter().any(|mark| line.starts_with(mark)) {
        "a conflict of a merge is left here".to_owned()
    } else {
        format!("`{}` is not a line of a lock", Shown(line))
    }
}

fn empty() -> LockedStage {
    LockedStage {
        key: Key(Digest([0; 32])),
        needs: Default::default(),
        outputs: Default::default(),
        metrics: Default::default(),
        manifest: String::new(),
    }
}

fn header_fact(
    lock: &mut Lock,
    line: &str,
    format: &mut Option<u64>,
    last: &mut Option<Digest>,
) -> Option<()> {
    if let Some(rest) = line.strip_prefix("param.") {
        let (name, value) = named(rest)?;
        lock.params.insert(name, serde_json::from_str(value).ok()?);
        return Some(());
    }
    let (name, value) = line.split_once(" = ")?;
    let text = || serde_json::from_str::<String>(value).ok();
    match name {
        "format" => *format = Some(value.parse().ok()?),
        "file" => lock.file = text()?,
        "pipeline" => lock.pipeline = text()?,
        "profile" => lock.profile = serde_json::from_str(value).ok()?,
        "runner" => lock.runner = text()?,
        "seed" => lock.seed = Some(value.parse().ok()?),
        "set" => lock.overrides.push(text()?),
        "target" => lock.targets.push(text()?),
        "seal" => *last = Some(digest(value)?),
        _ => return None,
    }
    Some(())
}

fn stage_fact(
    lock: &mut Lock,
    name: &str,
    fact: &str,
    seals: &mut Vec<(String, Digest)>,
) -> Option<()> {
    let stage = lock.stages.get_mut(name)?;
    if let Some(line) = fact.strip_prefix("manifest.") {
        stage.manifest += line;
        stage.manifest.push('\n');
    } else if let Some(rest) = fact.strip_prefix("output.") {
        let (port, value) = named(rest)?;
        stage.outputs.insert(port, digest(value)?);
    } else if let Some(rest) = fact.strip_prefix("metric.") {
        let (metric, value) = named(rest)?;
        stage
            .metrics
            .insert(metric, serde_json::from_str(value).ok()?);
    } else {
        let (what, value) = fact.split_once(" = ")?;
        match what {
            "key" => stage.key = Key(digest(value)?),
            "needs" => drop(stage.needs.insert(serde_json::from_str(value).ok()?)),
            "seal" => seals.push((name.to_owned(), digest(value)?)),
            _ => return None,
        }
    }
    Some(())
}

fn digest(text: &str) -> Option<Digest> {
    text.strip_prefix(BLAKE3)?.parse().ok()
}

/// A name, plain or quoted, and the value behind it.
fn named(text: &str) -> Option<(String, &str)> {
    if !text.starts_with('"') {
        let (name, value) = text.split_once(" = ")?;
        return Some((name.to_owned(), value));
    }
    let mut quoted = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let name = quoted.next()?.ok()?;
    Some((name, text[quoted.byte_offset()..].strip_prefix(" = ")?))
}

#[cfg(test)]
mod tests {
    use super::super::lock::tests::sample;
    use super::*;

    fn read(text: &str) -> Result<Lock, LockError> {
        parse(text, Path::new("small.lock"))
    }

    #[test]
    fn every_change_of_a_byte_is_seen() {
        let text = render(&sample());
        assert_eq!(read(&text).unwrap(), sample());
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let Ok(changed) = String::from_utf8(changed) else {
                continue;
            };
            assert!(read(&changed).is_err(), "byte {at} of:\n{changed}");
            assert!(read(&text[..at]).is_err(), "cut off at {at}");
        }
        for extra in ["\n", "# more\n", "seed = 7\n"] {
            assert!(
                read(&(text.clone() + extra)).is_err(),
                "{extra:?} at the end"
            );
        }
        assert_eq!(
            read(&text.replace('\n', "\r\n")).unwrap(),
            sample(),
            "ends of lines are version control's"
        );
    }

    #[test]
    fn a_stage_that_is_taken_out_or_moved_is_seen() {
        let text = render(&sample());
        let parts: Vec<&str> = text.split("\nstage ").collect();
        let without = [parts[0], parts[2]].join("\nstage ");
        assert!(matches!(read(&without), Err(LockError::Tampered { .. })));
    }

    #[test]
    fn a_seal_changes_below_a_change_and_nowhere_else() {
        let mut other = sample();
        other.stages.insert("apart".to_owned(), empty());
        let before = stage_seals(&other);
        other.stages.get_mut("raw").unwrap().metrics.clear();
        let after = stage_seals(&other);
        let same: Vec<bool> = before
            .iter()
            .zip(&after)
            .map(|(before, after)| before == after)
            .collect();
        assert_eq!(same, [true, false, false], "apart, model, raw");
        assert_ne!(seal(&sample()), seal(&other));
    }

    #[test]
    fn what_is_no_lock_is_told_with_its_line() {
        let conflict = render(&sample()).replace("seed = 7\n", "<<<<<<< ours\nseed = 7\n");
        let Err(LockError::Syntax { line, reason, .. }) = read(&conflict) else {
            panic!("it was read")
        };
        assert!(line == 9 && reason.contains("merge"), "{line}: {reason}");
        let newer = render(&sample()).replace("format = 1", "format = 2");
        assert!(
            read(&newer)
                .unwrap_err()
                .to_string()
                .contains("the format is 2")
        );
        assert!(matches!(read(""), Err(LockError::Tampered { .. })));
        assert!(matches!(
            read("pipeline: x\n"),
            Err(LockError::Syntax { line: 1, .. })
        ));
    }
}
