//! What can go wrong with a remote, sorted by what follows from it: ask again, ask never again, or tell the user that
//! the address is wrong.

use std::error::Error;

use contract::{Trouble, TroubleKind};
use thiserror::Error;

use super::Address;
use crate::diagnostic::AsTrouble;

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteFault {
    /// The address or the settings cannot be right.
    Address,
    /// There is nothing of this name.
    Absent,
    /// Nothing will work as long as nobody changes something: no credentials, a bucket that is not there.
    Unusable,
    /// This will not work, though something else may: no permission to write, a full disk.
    Refused,
    /// It may work the next time: no connection, an overloaded server, a full disk.
    Trouble,
    /// What came are not the bytes that were asked for.
    Damaged,
    /// The rest of a file was asked for, and whole files are all that is to be had.
    Whole,
    /// The user wanted an end.
    Interrupted,
}

/// A failure of a remote: what it means for further requests, and what the user gets to read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{trouble}")]
pub struct RemoteError {
    pub fault: RemoteFault,
    /// Boxed, since results carry it through every request.
    trouble: Box<Trouble>,
}

impl AsTrouble for RemoteError {
    fn kind(&self) -> TroubleKind {
        match self.fault {
            RemoteFault::Address => TroubleKind::Wrong,
            RemoteFault::Interrupted => TroubleKind::Interrupted,
            _ => TroubleKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        self.trouble.hint_text().map(str::to_owned)
    }

    fn to_trouble(&self) -> Trouble {
        Trouble::clone(&self.trouble).of_kind(self.kind())
    }
}

impl RemoteError {
    pub(super) fn new(fault: RemoteFault, message: impl Into<String>) -> Self {
        let trouble = Box::new(Trouble::new(message));
        Self { fault, trouble }
    }

    #[must_use]
    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        let trouble = Box::new(self.trouble.hint(hint));
        Self { trouble, ..self }
    }

    #[must_use]
    pub(super) fn because(self, cause: impl Into<String>) -> Self {
        let trouble = Box::new(self.trouble.with_causes(vec![cause.into()]));
        Self { trouble, ..self }
    }

    /// What the caller knows better than the client that failed; the causes stay.
    pub(super) fn reworded(self, fault: RemoteFault, message: String) -> Self {
        let causes = self.trouble.causes().to_vec();
        let trouble = Box::new(Trouble::new(message).with_causes(causes));
        Self { fault, trouble }
    }

    /// The hint as a further line of a message, if there is one.
    pub(super) fn hint_line(&self) -> String {
        match self.trouble.hint_text() {
            Some(hint) => format!("\n  hint: {hint}"),
            None => String::new(),
        }
    }

    /// Message, causes and hint in one line.
    pub(super) fn in_one_line(&self) -> String {
        let mut text = self.to_string();
        for cause in self.causes() {
            text += &format!(": {cause}");
        }
        match self.trouble.hint_text() {
            Some(hint) => format!("{text} ({hint})"),
            None => text,
        }
    }

    pub(super) fn causes(&self) -> &[String] {
        self.trouble.causes()
    }

    /// The user wanted an end while this was under way.
    pub(super) fn interrupted(address: &Address) -> Self {
        Self::new(
            RemoteFault::Interrupted,
            format!("interrupted while {address} was being asked"),
        )
        .with_hint("the same command continues where it stopped")
    }

    /// The server was silent for too long.
    pub(super) fn silent(address: &Address, seconds: f64) -> Self {
        Self::new(
            RemoteFault::Trouble,
            format!("{address} did not answer within {seconds:.0} s"),
        )
        .with_hint("is it overloaded? `timeout` in `runner.toml` says how long it may be silent")
    }

    /// The server sends, but so slowly that nothing would come of it.
    pub(super) fn slow(address: &Address, bytes: u64, seconds: f64) -> Self {
        Self::new(
            RemoteFault::Trouble,
            format!("{address} sent no more than {bytes} B within {seconds:.0} s"),
        )
        .with_hint("is it overloaded? a longer `timeout` in `runner.toml` puts up with more")
    }

    /// Sorts an error of `object_store`.
    pub(super) fn of(error: &object_store::Error, address: &Address) -> Self {
        let chain = chain(error);
        let text = chain.join(": ");
        if says(&text, &ASKED_THE_MACHINE) {
            let message = format!("there are no credentials for {address}");
            return Self::new(RemoteFault::Unusable, message)
                .because("the environment has none, and this machine has no role")
                .with_hint(address.credentials_hint());
        }
        if says(&text, &NO_BUCKET) {
            let message = format!("{address} names a bucket or container that does not exist");
            let hint = "make it first, or mend the address: `runner` makes objects, not buckets";
            return Self::new(RemoteFault::Unusable, message).with_hint(hint);
        }
        let fault = fault_of(error, &text);
        let (refused, full) = (fault == RemoteFault::Refused, says(&text, &FULL));
        let mut causes = &chain[..];
        let (message, hint) = if fault == RemoteFault::Absent {
            ("has no such object", None)
        } else if refused && says(&text, &NOT_OFFERED) {
            let hint = "use it with `mode = \"read\"`";
            ("cannot do what was asked", Some(hint))
        } else if refused && !full {
            (
                "refuses these credentials",
                Some(address.permissions_hint()),
            )
        } else if says(&text, &UNREACHABLE) {
            // Nothing was answered: only the last cause says something.
            causes = &chain[chain.len() - 1..];
            let hint = "is the server up, and is the address right?";
            ("cannot be reached", Some(hint))
        } else if full {
            let hint = "free space there: `runner cache gc --on-remote --older-than \"30 d\"`";
            ("is full", Some(hint))
        } else {
            ("fails", None)
        };
        let causes = causes.iter().map(|cause| shortened(cause)).collect();
        let trouble = Trouble::new(format!("{address} {message}"))
            .with_causes(causes)
            .maybe_hint(hint.map(str::to_owned));
        Self {
            fault,
            trouble: Box::new(trouble),
        }
    }
}

fn fault_of(error: &object_store::Error, text: &str) -> RemoteFault {
    use object_store::Error as Source;
    match error {
        Source::NotFound { .. } => RemoteFault::Absent,
        _ if says(text, &NO_REST) => RemoteFault::Whole,
        Source::PermissionDenied { .. }
        | Source::Unauthenticated { .. }
        | Source::NotImplemented { .. }
        | Source::NotSupported { .. }
        | Source::UnknownConfigurationKey { .. } => RemoteFault::Refused,
        _ if says(text, &FORBIDDEN) || says(text, &FULL) => RemoteFault::Refused,
        _ => RemoteFault::Trouble,
    }
}

fn says(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// Without any credentials the clients ask the machine whether it is one of the provider's own.
const ASKED_THE_MACHINE: [&str; 4] = [
    "/latest/api/token",
    "/latest/meta-data",
    "169.254.169.254",
    "metadata.google.internal",
];

const NO_BUCKET: [&str; 4] = [
    "NoSuchBucket",
    "BucketNotFound",
    "ContainerNotFound",
    "The specified bucket does not exist",
];

const FORBIDDEN: [&str; 4] = [
    "403 Forbidden",
    "401 Unauthorized",
    "405 Method Not Allowed",
    "501 Not Implemented",
];

/// What a server says that takes nothing.
const NOT_OFFERED: [&str; 4] = [
    "405 Method",
    "501 Not",
    "not yet implemented",
    "not supported",
];

const UNREACHABLE: [&str; 5] = [
    "onnection refused",
    "dns error",
    "error trying to connect",
    "tcp connect",
    "failed to lookup",
];

/// What servers and disks say when nothing more fits.
const FULL: [&str; 5] = [
    "No space left",
    "507 Insufficient",
    "InsufficientStorage",
    "QuotaExceeded",
    "StorageFull",
];

/// What is said where the rest of a file cannot be had: the server does not know of parts, or there is no such part.
const NO_REST: [&str; 6] = [
    "Range request not supported",
    "non-partial response",
    "Content-Range header",
    "CONTENT_RANGE header",
    "416 Range Not Satisfiable",
    "Wanted range starting at",
];

/// An error and what is behind it, without what the next one says in full.
fn chain(error: &object_store::Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts
}

/// Servers answer with pages; a line is enough.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 240;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
