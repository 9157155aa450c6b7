//! Gives a remote up after failures in a row, so that a run does not wait for it again and again.

use std::sync::Mutex;

use super::{RemoteError, RemoteFault, lock};

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Breaker {
    patience: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open: Option<RemoteError>,
}

impl Breaker {
    pub fn new(patience: u32) -> Self {
        Self {
            patience: patience.max(1),
            state: Mutex::default(),
        }
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

    /// Counts a failure; one that will not mend itself counts for all. Says whether the remote is given up because of
    /// this one.
    pub fn failed(&self, error: &RemoteError) -> bool {
        let is_final = matches!(
            error.fault,
            RemoteFault::Refused | RemoteFault::Unusable | RemoteFault::Address
        );
        self.count(error, is_final)
    }

    /// A failure after which there must not be another.
    pub fn give_up(&self, error: &RemoteError) -> bool {
        self.count(error, true)
    }

    fn count(&self, error: &RemoteError, is_final: bool) -> bool {
        let mut state = lock(&self.state);
        state.failures += 1;
        let opens = state.open.is_none() && (is_final || state.failures >= self.patience);
        if opens {
            state.open = Some(error.clone());
        }
        opens
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
        let breaker = Breaker::new(3);
        for _ in 0..5 {
            breaker.failed(&trouble(RemoteFault::Trouble));
            breaker.failed(&trouble(RemoteFault::Damaged));
            breaker.succeeded();
        }
        assert_eq!(breaker.check(), Ok(()));
        let opened: Vec<bool> = (0..4)
            .map(|_| breaker.failed(&trouble(RemoteFault::Trouble)))
            .collect();
        assert_eq!(opened, [false, false, true, false]);
        assert_eq!(breaker.check(), Err(trouble(RemoteFault::Trouble)));
        breaker.succeeded();
        assert!(breaker.trouble().is_some(), "it stays open");
    }

    #[test]
    fn what_will_not_mend_itself_opens_it_at_once() {
        let breaker = Breaker::new(3);
        assert!(breaker.failed(&trouble(RemoteFault::Refused)) && breaker.check().is_err());
        let breaker = Breaker::new(3);
        assert!(breaker.give_up(&trouble(RemoteFault::Trouble)) && breaker.check().is_err());
    }
}
