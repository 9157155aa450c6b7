//! Problems of the instances of a stage, each told once: all of them have most problems alike, and where only some have one,
//! it says which.

use indexmap::IndexMap;

use crate::diagnostic::{Diagnostic, Diagnostics, counted};

/// The problems of a stage's instances.
#[derive(Default)]
pub(super) struct Once {
    /// Each problem with the instance that had it first, and how many have it.
    found: IndexMap<Diagnostic, (String, usize)>,
}

impl Once {
    /// Takes the problems of an instance.
    pub fn add(&mut self, instance: &str, problems: Diagnostics) {
        // One that an instance has twice is one.
        for problem in problems.sorted() {
            let entry = self.found.entry(problem.clone());
            let (_, count) = entry.or_insert_with(|| (instance.to_owned(), 0));
            *count += 1;
        }
    }

    /// All problems of a stage that has so many instances.
    pub fn told(self, instances: usize) -> Vec<Diagnostic> {
        let mut told = Vec::new();
        for (mut problem, (first, count)) in self.found {
            if count < instances {
                let more = match count - 1 {
                    0 => String::new(),
                    more => format!(" and {}", counted(more, "more instance")),
                };
                problem.message += &format!(" (in `{first}`{more})");
            }
            told.push(problem);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_of_all_instances_is_told_once_and_that_of_some_says_which() {
        let mut once = Once::default();
        for (instance, own) in [
            ("t[a]", Some("one")),
            ("t[b]", None),
            ("t[c]", Some("one")),
            ("t[d]", Some("other")),
        ] {
            let mut problems = Diagnostics::from(Diagnostic::error("x", "all"));
            problems.extend(own.map(|own| Diagnostic::error("x", own)));
            once.add(instance, problems);
        }
        let messages: Vec<String> = once
            .told(4)
            .into_iter()
            .map(|problem| problem.message)
            .collect();
        assert_eq!(
            messages,
            [
                "all",
                "one (in `t[a]` and 1 more instance)",
                "other (in `t[d]`)"
            ]
        );
    }
}
