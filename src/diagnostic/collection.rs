//! Problems gathered over all phases of reading a pipeline. It decides their order, not their wording.

use std::collections::HashSet;

use super::{Diagnostic, Severity, counted};

/// Any number of problems.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    pub fn has_errors(&self) -> bool {
        let mut all = self.list.iter();
        all.any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many there are, each counted once: `2 errors, 1 warning`.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        for severity in [Severity::Error, Severity::Warning] {
            let mut sorted = self.sorted();
            sorted.retain(|diagnostic| diagnostic.severity == severity);
            if !sorted.is_empty() {
                parts.push(counted(sorted.len(), severity.name()));
            }
        }
        if parts.is_empty() {
            "no problems".to_owned()
        } else {
            parts.join(", ")
        }
    }

    /// Makes every warning an error, as strict mode asks.
    pub fn deny_warnings(&mut self) {
        for diagnostic in &mut self.list {
            diagnostic.severity = Severity::Error;
        }
    }

    /// The value, unless something was gathered.
    ///
    /// # Errors
    /// All that was gathered.
    pub fn unless_any<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }

    /// In the order of the files and of the text in them, those without a place first; each problem once.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<&Diagnostic> = self.list.iter().collect();
        sorted.sort_by_key(|diagnostic| diagnostic.primary.as_ref().map(|label| label.span));
        let mut seen = HashSet::with_capacity(sorted.len());
        sorted.retain(|diagnostic| seen.insert(*diagnostic));
        sorted
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            list: vec![diagnostic],
        }
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<T: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: T) {
        self.list.extend(diagnostics);
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SourceMap, Span};
    use super::*;

    #[test]
    fn problems_come_in_the_order_of_the_text_and_once() {
        let mut sources = SourceMap::default();
        let file = sources.add("a.yaml", "a: 1\nb: 2\n");
        let late = Diagnostic::error("late", "late").at(Span::new(file, 5, 6));
        let early = Diagnostic::warning("early", "early").at(Span::new(file, 0, 1));
        let nowhere = Diagnostic::error("nowhere", "nowhere");
        let mut diagnostics = Diagnostics::default();
        diagnostics.extend([late.clone(), early, late, nowhere]);
        let codes: Vec<&str> = diagnostics
            .sorted()
            .iter()
            .map(|diagnostic| diagnostic.code)
            .collect();
        assert_eq!(codes, ["nowhere", "early", "late"]);
        assert_eq!(diagnostics.summary(), "2 errors, 1 warning");
        assert_eq!(Diagnostics::default().summary(), "no problems");
    }

    #[test]
    fn warnings_alone_are_no_errors_until_denied() {
        let mut diagnostics = Diagnostics::from(Diagnostic::warning("w", "w"));
        assert!(!diagnostics.has_errors());
        diagnostics.deny_warnings();
        assert!(diagnostics.has_errors());
    }
}
