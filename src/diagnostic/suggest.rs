//! Guesses which word was meant, and lists words in a sentence. It knows nothing of where words come from.

/// The candidate that was probably meant: the nearest one by edits, if near enough to be a slip, or the only one that begins
/// like the word.
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    /// Nobody mistypes a longer name, and to compare two of them takes long.
    const LONGEST: usize = 200;
    if word.len() > LONGEST {
        return None;
    }
    let wanted = plain(word);
    // A slip leaves most of a word as it is.
    let allowed = match wanted.chars().count() {
        0 => return None,
        1..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    let mut candidates: Vec<&str> = candidates.into_iter().collect();
    candidates.retain(|candidate| candidate.len() <= LONGEST && *candidate != word);
    let mut best: Option<(usize, &str)> = None;
    for &candidate in &candidates {
        let distance = strsim::damerau_levenshtein(&wanted, &plain(candidate));
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    match best {
        Some((_, candidate)) => Some(candidate),
        None => only_beginning(&wanted, candidates),
    }
}

/// A word without what is easily mistaken in it.
fn plain(text: &str) -> String {
    text.to_lowercase().replace(['-', '_', ' '], "")
}

/// The only candidate that begins with a word of some length.
fn only_beginning<'a>(wanted: &str, mut candidates: Vec<&'a str>) -> Option<&'a str> {
    const SHORTEST: usize = 3;
    candidates.retain(|candidate| plain(candidate).starts_with(wanted));
    let first = *candidates.first()?;
    let only = candidates.iter().all(|other| *other == first);
    (only && wanted.chars().count() >= SHORTEST).then_some(first)
}

/// The hint for a word that is not among the choices: a guess, or the choices.
pub fn suggestion(word: &str, choices: &[&str]) -> Option<String> {
    match did_you_mean(word, choices.iter().copied()) {
        Some(meant) => Some(format!("did you mean `{meant}`?")),
        None if choices.is_empty() => None,
        None => Some(format!("choose from {}", list(choices))),
    }
}

/// Words in backticks with commas, at most twenty of them.
pub fn list(words: &[&str]) -> String {
    const MOST: usize = 20;
    let shown = words.iter().take(MOST);
    let shown: Vec<String> = shown.map(|word| format!("`{word}`")).collect();
    let shown = shown.join(", ");
    match words.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let kinds = ["normalize", "window", "train", "render-plots"];
        assert_eq!(did_you_mean("normalise", kinds), Some("normalize"));
        assert_eq!(did_you_mean("tarin", kinds), Some("train"));
        assert_eq!(did_you_mean("render_plots", kinds), Some("render-plots"));
        assert_eq!(did_you_mean("Window", kinds), Some("window"));
        assert_eq!(did_you_mean("forecast", kinds), None);
        assert_eq!(did_you_mean("trai", kinds), Some("train"));
        assert_eq!(did_you_mean("norm", kinds), Some("normalize"));
        for (word, far) in [
            ("nope", "mode"),
            ("raw", "map"),
            ("score", "store2"),
            ("model", "metal"),
        ] {
            assert_eq!(did_you_mean(word, [far]), None, "{word}");
        }
        assert_eq!(did_you_mean("tra", ["train", "trace"]), None);
        assert_eq!(did_you_mean("x", ["y"]), Some("y"));
        assert_eq!(did_you_mean("", kinds), None);
    }

    #[test]
    fn long_lists_are_cut() {
        let words: Vec<String> = (0..25).map(|index| format!("w{index}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert!(list(&words).ends_with("`w19` and 5 more"));
    }
}
