//! Counts with their nouns. It knows the plurals that messages need, not English.

/// `1 stage`, `2 stages`, `0 entries`.
pub fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    // What does not fit is many in any case.
    let count = count.try_into().unwrap_or(u64::MAX);
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {}", plural(noun))
    }
}

/// The plural of a noun, or of the last word of several.
pub fn plural(noun: &str) -> String {
    let ends = |endings: &[&str]| endings.iter().any(|end| noun.ends_with(end));
    match noun.strip_suffix('y') {
        Some(stem) if !ends(&["ay", "ey", "oy"]) => format!("{stem}ies"),
        _ if ends(&["s", "x", "ch", "sh"]) => format!("{noun}es"),
        _ => format!("{noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!(
            [0, 1, 2].map(|count| counted(count, "stage")),
            ["0 stages", "1 stage", "2 stages"]
        );
        assert_eq!(counted(1_u64, "raw file"), "1 raw file");
        assert_eq!(counted(3_usize, "process"), "3 processes");
        assert_eq!(
            ["entry", "key", "batch"].map(plural),
            ["entries", "keys", "batches"]
        );
    }
}
