//! The state of the repositories that a run is started in and that its pipeline lies in, as `git` tells it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::probe::ask;
use super::secrets::without_credentials;

/// A repository on a slow disk is not waited for.
const LIMIT: Duration = Duration::from_millis(1000);

/// What is recorded of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct State {
    pub commit: String,
    /// Absent where no branch is checked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Whether tracked files differ from the commit. Unknown where git took too long to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dirty: Option<bool>,
    /// Tracked files that differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_files: Option<usize>,
    /// Where it comes from, without user name and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Who git says works here; no address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// The state of the current folder's repository, and that of the pipeline's where it is another one.
pub(super) fn states(folder: &Path) -> (Option<State>, Option<State>) {
    let here = Path::new(".");
    let folder = match folder.as_os_str().is_empty() {
        true => here,
        false => folder,
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| root(folder));
        let (mine, other) = (root(here), other.join().unwrap_or_default());
        let apart = other.filter(|other| Some(other) != mine.as_ref());
        let apart = scope.spawn(move || state(apart.as_deref()?));
        let mine = mine.and_then(|root| state(&root));
        (mine, apart.join().unwrap_or_default())
    })
}

/// The top folder of the repository around a folder.
fn root(folder: &Path) -> Option<String> {
    let text = ask(git(folder).args(["rev-parse", "--show-toplevel"]), LIMIT)?;
    let root = text.trim_end_matches('\n');
    (!root.is_empty()).then(|| root.to_owned())
}

fn state(root: &str) -> Option<State> {
    const SETTINGS: [&str; 3] = [
        "config",
        "--get-regexp",
        r"^(user\.name|remote\.origin\.url)$",
    ];
    const STATUS: [&str; 5] = [
        "status",
        "--porcelain=v2",
        "--branch",
        "--untracked-files=no",
        "--ignore-submodules",
    ];
    let root = Path::new(root);
    let (status, settings) = std::thread::scope(|scope| {
        let settings = scope.spawn(|| ask(git(root).args(SETTINGS), LIMIT));
        let status = ask(git(root).args(STATUS), LIMIT);
        (status, settings.join().unwrap_or_default())
    });
    let mut state = match status {
        Some(text) => parse(&text)?,
        None => {
            let commit = ask(git(root).args(["rev-parse", "HEAD"]), LIMIT)?;
            State {
                commit: commit.trim().to_owned(),
                ..State::default()
            }
        }
    };
    // The last one of a name counts, as in git.
    for line in settings.unwrap_or_default().lines() {
        if let Some(url) = line.strip_prefix("remote.origin.url ") {
            state.origin = Some(without_credentials(url.trim()));
        } else if let Some(name) = line.strip_prefix("user.name ") {
            state.user = Some(name.trim().to_owned());
        }
    }
    Some(state)
}

/// Reads what `git status --porcelain=v2 --branch` says; `None` before the first commit.
fn parse(text: &str) -> Option<State> {
    let (mut commit, mut branch, mut changed) = (None, None, 0);
    for line in text.lines() {
        // In brackets stands that there is none.
        if let Some(id) = line.strip_prefix("# branch.oid ") {
            commit = (!id.starts_with('(')).then(|| id.to_owned());
        } else if let Some(name) = line.strip_prefix("# branch.head ") {
            branch = (!name.starts_with('(')).then(|| name.to_owned());
        } else if !line.starts_with('#') {
            changed += 1;
        }
    }
    Some(State {
        commit: commit?,
        branch,
        dirty: Some(changed > 0),
        changed_files: Some(changed),
        ..State::default()
    })
}

/// `git` in a folder: it changes nothing, asks nobody, and starts no program that a repository names.
fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(folder)
        .args(["-c", "core.fsmonitor=false"]);
    command
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C");
    for variable in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_COMMON_DIR",
        "GIT_PREFIX",
    ] {
        command.env_remove(variable);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_prints_is_understood() {
        let text = "# branch.oid 0123abc\n# branch.head main\n# branch.upstream origin/main\n1 .M N... 100644 100644 a b c\n";
        let state = parse(text).unwrap();
        assert_eq!(
            (state.commit.as_str(), state.branch.as_deref()),
            ("0123abc", Some("main"))
        );
        assert_eq!((state.dirty, state.changed_files), (Some(true), Some(1)));
        let detached = parse("# branch.oid 0123abc\n# branch.head (detached)\n").unwrap();
        assert_eq!((detached.branch, detached.dirty), (None, Some(false)));
        assert_eq!(parse("# branch.oid (initial)\n# branch.head main\n"), None);
    }
}
