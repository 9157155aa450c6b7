//! `runner.toml`: settings of a project, found from the pipeline's folder upwards, and of a user. What the command line
//! or the environment says comes first, then the project, then the user. Nothing in it can change a result.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{Error, Project, RemoteUse};
use crate::cache::{Address, Remote, RemoteMode, RemoteOptions, Store};
use crate::diagnostic::{AsTrouble, did_you_mean};
use crate::pipeline::limits::read_text;
use crate::pipeline::units;

/// The name of the file.
const NAME: &str = "runner.toml";

/// What a file may say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    remote: RemoteSettings,
}

/// The section `[remote]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RemoteSettings {
    url: Option<Url>,
    mode: Option<RemoteUse>,
    retries: Option<u8>,
    timeout: Option<Seconds>,
    parallel: Option<Parallel>,
}

/// Names of all keys, for hints.
const KEYS: [&str; 6] = ["remote", "url", "mode", "retries", "timeout", "parallel"];

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Url(Address);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Seconds(Duration);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
struct Parallel(usize);

impl TryFrom<String> for Url {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Address::parse(&text)
            .map(Self)
            .map_err(|error| match error.hint() {
                Some(hint) => format!("{error}; {hint}"),
                None => error.to_string(),
            })
    }
}

/// A remote that is silent for longer is as good as none.
const LONGEST: Duration = Duration::from_secs(3600);

impl TryFrom<String> for Seconds {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let error = || format!("`{text}` is not a duration: write for example \"15 s\"");
        let duration = units::duration(&text).ok_or_else(error)?;
        if duration > LONGEST {
            Err(format!("`{text}` is longer than an hour"))
        } else {
            Ok(Self(duration))
        }
    }
}

impl TryFrom<u64> for Parallel {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        match usize::try_from(number) {
            Ok(number @ 1..=512) => Ok(Self(number)),
            _ => Err("`parallel` is a number from 1 to 512".to_owned()),
        }
    }
}

impl RemoteSettings {
    /// These settings, and those of `further` where these say nothing.
    fn or(self, further: Self) -> Self {
        Self {
            url: self.url.or(further.url),
            mode: self.mode.or(further.mode),
            retries: self.retries.or(further.retries),
            timeout: self.timeout.or(further.timeout),
            parallel: self.parallel.or(further.parallel),
        }
    }
}

impl Settings {
    /// What project and user have set.
    fn find(folder: &Path) -> Result<Self, Error> {
        let mut found = Self::default();
        // The nearer file wins.
        for path in [project_file(folder), user_file()].into_iter().flatten() {
            found.remote = found.remote.or(Self::read(&path)?.remote);
        }
        Ok(found)
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let text = read_text(path)
            .map_err(|reason| Error::wrong(format!("cannot read {}: {reason}", path.display())))?;
        Self::parse(&text, &path.display().to_string())
    }

    fn parse(text: &str, name: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| {
            let place = error.span().map_or_else(String::new, |span| place(text, span.start));
            let message = error.message().lines().next().unwrap_or_default();
            let wrong = Error::wrong(format!("{name}{place}: {message}"));
            let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
            match unknown.and_then(|field| did_you_mean(field, KEYS)) {
                Some(near) => wrong.hint(format!("did you mean `{near}`?")),
                None => wrong.hint(
                    "it has one section, [remote], with url, mode (\"read-write\", \"read\" or \"off\"), retries, \
                     timeout and parallel",
                ),
            }
        })
    }
}

/// Whether a text is a sound `runner.toml`; `name` stands for the file in messages.
///
/// # Errors
/// What is wrong with it, and where.
pub fn check(text: &str, name: &str) -> Result<(), Error> {
    Settings::parse(text, name).map(drop)
}

/// `:3:7`, counted from 1.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let column = before[start..].chars().count() + 1;
    format!(":{line}:{column}")
}

/// The nearest file in this folder or above it.
fn project_file(folder: &Path) -> Option<PathBuf> {
    // The folder of a file without one is the current one.
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let folder = std::fs::canonicalize(folder).ok()?;
    folder
        .ancestors()
        .map(|above| above.join(NAME))
        .find(|path| path.exists())
}

/// The user's file, if there is one.
fn user_file() -> Option<PathBuf> {
    let folder = match variable("XDG_CONFIG_HOME") {
        Some(folder) => folder,
        None => variable("HOME")?.join(".config"),
    };
    let file = folder.join("runner").join(NAME);
    file.exists().then_some(file)
}

/// The folder that a variable names; a relative path in one means nothing.
fn variable(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(name)?);
    path.is_absolute().then_some(path)
}

impl Project {
    /// The store, reading and writing through to the remote if there is one. Settings are looked for from `folder` on.
    pub fn open_store(&self, folder: &Path) -> Result<Store, Error> {
        let store = Store::open(&self.store);
        Ok(match self.find_remote(folder)? {
            Some((address, options)) => store.with_remote(Remote::new(address, options)),
            None => store,
        })
    }

    /// The remote that command line, environment and settings agree on.
    pub fn find_remote(&self, folder: &Path) -> Result<Option<(Address, RemoteOptions)>, Error> {
        let set = Settings::find(folder)?.remote;
        let address = match self.remote.url.as_deref() {
            Some("off" | "") => return Ok(None),
            Some(url) => Some(Address::parse(url)?),
            None => set.url.map(|url| url.0),
        };
        let mode = match self.remote.mode.or(set.mode) {
            Some(RemoteUse::Off) => return Ok(None),
            Some(RemoteUse::Read) => RemoteMode::Read,
            Some(RemoteUse::ReadWrite) | None => RemoteMode::ReadWrite,
        };
        let default = RemoteOptions::default();
        let options = RemoteOptions {
            mode,
            retries: set.retries.map_or(default.retries, u32::from),
            timeout: set.timeout.map_or(default.timeout, |timeout| timeout.0),
            parallel: set.parallel.map_or(default.parallel, |parallel| parallel.0),
            ..default
        };
        Ok(address.map(|address| (address, options)))
    }

    /// The remote that must be named for these verbs, with the patience of somebody who asked for it.
    pub fn named_remote(&self, folder: &Path) -> Result<Remote, Error> {
        let Some((address, options)) = self.find_remote(folder)? else {
            return Err(Error::wrong("there is no remote to copy to or from")
                .hint("name one with --remote URL, RUNNER_REMOTE, or `url` in the section [remote] of `runner.toml`"));
        };
        Ok(Remote::new(address, options.persistent()))
    }

    /// A remote that is only to be read is not written by request either.
    pub fn refuse_read_only(remote: &Remote) -> Result<(), Error> {
        if remote.mode() == RemoteMode::ReadWrite {
            return Ok(());
        }
        let message = format!("the remote {} is only to be read", remote.address());
        Err(Error::wrong(message)
            .hint("`--remote-mode read-write` overrides `mode` in runner.toml"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_the_nearer_ones_win() {
        let project = "[remote]\nurl = \"s3://bucket/a\"\nmode = \"read\"\ntimeout = \"2 s\"\n";
        let user = "[remote]\nurl = \"file:///b\"\nretries = 9\nparallel = 4\n";
        let both = [project, user].map(|text| Settings::parse(text, "x").unwrap().remote);
        let [project, user] = both;
        let merged = project.or(user);
        assert_eq!(merged.url.unwrap().0.to_string(), "s3://bucket/a");
        assert_eq!(merged.mode, Some(RemoteUse::Read));
        assert_eq!(
            (merged.retries, merged.parallel),
            (Some(9), Some(Parallel(4)))
        );
        assert_eq!(merged.timeout, Some(Seconds(Duration::from_secs(2))));
        assert_eq!(Settings::parse("", "x").unwrap(), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_placed() {
        for (text, parts) in [
            (
                "[remote]\nurk = \"file:///a\"",
                ["x:2:1: unknown field `urk`", "did you mean `url`?"],
            ),
            (
                "[remot]\n",
                ["x:1:2: unknown field `remot`", "did you mean `remote`?"],
            ),
            (
                "[remote]\n\nurl = \"s4://a\"",
                [
                    "x:3:7: `s4://a` is not the address",
                    "did you mean `s3://`?",
                ],
            ),
            (
                "[remote]\nmode = \"on\"",
                ["x:2:8: unknown variant `on`", "read-write"],
            ),
            (
                "[remote]\ntimeout = \"15\"",
                ["x:2:11: `15` is not a duration", "15 s"],
            ),
            (
                "[remote]\nparallel = 0",
                ["x:2:12: `parallel` is a number from 1 to 512", "hint"],
            ),
            (
                "[remote]\nretries = \"a\"",
                ["x:2:11: invalid type", "hint"],
            ),
            ("[remote\n", ["x:1:", "hint"]),
        ] {
            let error = Settings::parse(text, "x").unwrap_err().to_string();
            assert!(
                parts.iter().all(|part| error.contains(part)),
                "{text}: {error}"
            );
        }
    }
}
