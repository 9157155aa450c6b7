//! Parameters that many stage kinds repeat, described once in the catalogue and linked from where they occur.

use std::collections::BTreeMap;

/// A block of lines below a parameter is moved if it occurs at least this often.
const OFTEN: usize = 3;
/// Fewer lines are not worth a link.
const LINES: usize = 3;

/// Moves what repeats in a list of parameters to a section of its own. Gives the text, and that section.
pub(super) fn described_once(text: &str) -> (String, String) {
    let lines: Vec<&str> = text.lines().collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for place in 0..lines.len() {
        *counts.entry(block_below(&lines, place)).or_default() += 1;
    }
    let is_shared = |block: &String| counts[block] >= OFTEN && block.lines().count() >= LINES;
    // Anchors by block: equal names of different blocks are numbered.
    let mut anchors: BTreeMap<String, String> = BTreeMap::new();
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    let (mut rest, mut shared) = (String::new(), String::new());
    let mut place = 0;
    while place < lines.len() {
        let block = block_below(&lines, place);
        rest += lines[place];
        if is_shared(&block) {
            let anchor = anchors.entry(block.clone()).or_insert_with(|| {
                let name = parameter_of(lines[place]);
                let number = named.entry(name.clone()).or_default();
                *number += 1;
                let title = match *number {
                    1 => name,
                    number => format!("{name} ({number})"),
                };
                shared += &format!("### {title}\n\n{block}\n");
                title.replace(' ', "-").replace(['(', ')', '`'], "")
            });
            rest += &format!(" See [below](#{anchor}).");
            place += block.lines().count();
        }
        rest.push('\n');
        place += 1;
    }
    (rest, shared)
}

/// The lines that stand deeper than the one at `place` and follow it, without their common indentation.
fn block_below(lines: &[&str], place: usize) -> String {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let own = depth(lines[place]);
    if !lines[place].trim_start().starts_with("- ") {
        return String::new();
    }
    let mut block = String::new();
    for line in &lines[place + 1..] {
        if line.is_empty() || depth(line) <= own {
            break;
        }
        block += line.get(own + 2..).unwrap_or(line);
        block.push('\n');
    }
    block
}

/// `split` of "- `split` (object): …", `fixed` of "- `kind: fixed`: …".
fn parameter_of(line: &str) -> String {
    let name = line.split('`').nth(1).unwrap_or("parameters");
    name.rsplit(": ").next().unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_described_once() {
        let one = "- `split` (object): How.\n  - `a`: A.\n  - `b`: B.\n    - `c`: C.\n";
        let (rest, shared) = described_once(&format!("{one}{one}{one}- `other`: O.\n"));
        assert_eq!(
            rest,
            "- `split` (object): How. See [below](#split).\n".repeat(3) + "- `other`: O.\n"
        );
        assert_eq!(shared, "### split\n\n- `a`: A.\n- `b`: B.\n  - `c`: C.\n\n");
        let (rest, shared) = described_once(&format!("{one}{one}"));
        assert_eq!((rest, shared), (format!("{one}{one}"), String::new()));
    }
}
