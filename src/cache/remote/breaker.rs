//! Gives a remote up after failures in a row, so that a run does not wait for it again and again.

use std::sync::Mutex;

use super::{RemoteError, RemoteFault, lock};

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Breaker {
    /// What the remote is no longer used for once it is open.
    purpose: &'static str,
    patience: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open: Option<RemoteError>,
}

impl Breaker {
    pub fn new(purpose: &'static str, patience: u32) -> Self {
        Self { purpose, patience: patience.max(1), state: Mutex::default() }
    }

    /// Fails if the remote was given up.
    pub fn check(&self) -> Result<(), RemoteError> {
        lock(&self.state).open.clone().map_or(Ok(()), Err)
    }

    pub fn trouble(&self) -> Option<RemoteError> {
        self.check().err()
    }

    pub fn succeeded(&self) {
        lock(&self.state).failures = 0;
    }

    /// Counts a failure; one that will not mend itself counts for all.
    pub fn failed(&self, error: &RemoteError) {
        let is_final = matches!(error.fault, RemoteFault::Refused | RemoteFault::Address);
        self.count(error, is_final);
    }

    /// A failure that took so long that there must not be another.
    pub fn ran_out_of_time(&self, error: &RemoteError) {
        self.count(error, true);
    }

    /// The user is told once.
    fn count(&self, error: &RemoteError, is_final: bool) {
        let mut state = lock(&self.state);
        state.failures += 1;
        if state.open.is_none() && (is_final || state.failures >= self.patience) {
            state.open = Some(error.clone());
            drop(state);
            self.tell(error);
        }
    }

    fn tell(&self, error: &RemoteError) {
        let causes: String = error.causes.iter().map(|cause| format!("\n  because: {cause}")).collect();
        let hint = error.hint.as_ref().map_or_else(String::new, |hint| format!("\n  hint: {hint}"));
        tracing::warn!("{error}; from now on {} without it{causes}{hint}", self.purpose);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(fault: RemoteFault) -> RemoteError {
        RemoteError::new(fault, "it fails")
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let breaker = Breaker::new("", 3);
        for _ in 0..5 {
            breaker.failed(&trouble(RemoteFault::Trouble));
            breaker.failed(&trouble(RemoteFault::Damaged));
            breaker.succeeded();
        }
        assert_eq!(breaker.check(), Ok(()));
        for _ in 0..3 {
            breaker.failed(&trouble(RemoteFault::Trouble));
        }
        assert_eq!(breaker.check(), Err(trouble(RemoteFault::Trouble)));
        breaker.succeeded();
        assert!(breaker.trouble().is_some(), "it stays open");
    }

    #[test]
    fn what_will_not_mend_itself_opens_it_at_once() {
        let breaker = Breaker::new("", 3);
        breaker.failed(&trouble(RemoteFault::Refused));
        assert!(breaker.check().is_err());
    }
}
