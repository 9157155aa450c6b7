//! Where a remote is: a URL, and the client that its scheme asks for. Credentials and endpoints come from the
//! environment, under the names that each provider's own tools use; they are never read from a URL and never shown.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::ClientConfigKey::{AllowHttp, ConnectTimeout, Timeout};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreScheme, RetryConfig};
use reqwest::Url;

use super::files::{FileConnector, Files};
use super::{RemoteError, RemoteFault, RemoteOptions};
use crate::diagnostic::did_you_mean;

/// Schemes that are understood, for messages.
const SCHEMES: [&str; 6] = ["s3", "gs", "az", "https", "http", "file"];

/// The client itself gives no request an end: each is watched piece by piece, and a large object may take long.
const NO_TIMEOUT: &str = "1 day";

/// The address of a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    url: Url,
    provider: Provider,
    /// What comes before the names of objects.
    prefix: ObjectPath,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Provider {
    Folder(PathBuf),
    Amazon,
    Google,
    Azure,
    Http,
}

impl Address {
    /// Reads `s3://bucket/prefix`, `gs://…`, `az://container/…`, `http(s)://…` or `file:///folder`.
    ///
    /// # Errors
    /// If it is no such URL.
    pub fn parse(text: &str) -> Result<Self, RemoteError> {
        let form = "a remote is a URL such as s3://bucket/prefix, gs://bucket, az://container, https://host/path \
                    or file:///folder";
        let url = Url::parse(text).map_err(|_| {
            let hint = match std::path::absolute(text) {
                Ok(path) if !text.contains("://") && text.contains('/') => {
                    format!("a folder is written file://{}", path.display())
                }
                _ => form.to_owned(),
            };
            wrong(format!("`{}` is not a URL", discreet(text))).with_hint(hint)
        })?;
        if url.username() != "" || url.password().is_some() {
            return Err(wrong(format!(
                "the address of a remote must not hold credentials: {}",
                shown(&url)
            ))
            .with_hint("set them in the environment"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong(format!(
                "the address of a remote ends with its path: {}",
                shown(&url)
            ))
            .with_hint(
                "what a query would say is set in the environment, such as AZURE_STORAGE_SAS_KEY",
            ));
        }
        let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| {
            let near = did_you_mean(url.scheme(), SCHEMES);
            let hint = match (near, url.host_str()) {
                (Some(near), _) if near != url.scheme() => format!("did you mean `{near}://`?"),
                (_, None) => form.to_owned(),
                _ if url.scheme() == "file" => {
                    "a folder of this machine has no host: file:///folder".to_owned()
                }
                _ => format!("there are {}", SCHEMES.join(", ")),
            };
            wrong(format!(
                "`{}` is not the address of a remote",
                discreet(text)
            ))
            .with_hint(hint)
        })?;
        let provider = match scheme {
            ObjectStoreScheme::Local => {
                let folder = url.to_file_path().map_err(|()| {
                    wrong(format!("`{text}` does not name a folder")).with_hint(form)
                })?;
                // Variables that are not set, and relative paths, would end up there.
                if folder.parent().is_none() || !text.starts_with("file:///") {
                    return Err(
                        wrong(format!("`{text}` does not name a folder for a remote"))
                            .with_hint(form),
                    );
                }
                return Ok(Self {
                    url,
                    provider: Provider::Folder(folder),
                    prefix: ObjectPath::default(),
                });
            }
            ObjectStoreScheme::AmazonS3 => Provider::Amazon,
            ObjectStoreScheme::GoogleCloudStorage => Provider::Google,
            ObjectStoreScheme::MicrosoftAzure => Provider::Azure,
            ObjectStoreScheme::Http => Provider::Http,
            _ => {
                return Err(wrong(format!(
                    "`{}` is not a remote that others can reach",
                    discreet(text)
                ))
                .with_hint(form));
            }
        };
        Ok(Self {
            url,
            provider,
            prefix,
        })
    }

    /// The name that a file of the store has there.
    pub(super) fn place(&self, name: &str) -> ObjectPath {
        self.prefix
            .parts()
            .chain(ObjectPath::from(name).parts())
            .collect()
    }

    /// What follows the prefix in a name there.
    pub(super) fn name<'a>(&self, place: &'a ObjectPath) -> Option<&'a str> {
        let rest = place.as_ref().strip_prefix(self.prefix.as_ref())?;
        Some(rest.strip_prefix('/').unwrap_or(rest))
    }

    /// The folder, if it is one.
    pub(super) fn folder(&self) -> Option<&std::path::Path> {
        match &self.provider {
            Provider::Folder(folder) => Some(folder),
            _ => None,
        }
    }

    /// Whether large objects can be sent there in pieces.
    pub(super) fn takes_pieces(&self) -> bool {
        self.provider != Provider::Http
    }

    /// Makes a client. `retries` are those of the client itself, for pieces of large objects.
    /// `files` are those that a server which takes no pieces is sent as streams.
    pub(super) fn connect(
        &self,
        options: &RemoteOptions,
        retries: u32,
        files: &Arc<Files>,
    ) -> Result<Arc<dyn ObjectStore>, RemoteError> {
        // The first provider that is installed stays; another of the same kind is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: retries as usize,
            retry_timeout: options.timeout * 4,
        };
        let to_connect = options
            .timeout
            .clamp(Duration::from_millis(100), Duration::from_secs(10));
        let connect_timeout = format!("{} ms", to_connect.as_millis());
        // Client options by name, so that what the environment says of others stays.
        let made = match &self.provider {
            Provider::Folder(folder) => return self.open_folder(folder, options),
            Provider::Amazon => {
                refuse_plain_http()?;
                AmazonS3Builder::from_env()
                    .with_url(self.url.as_str())
                    .with_retry(retry)
                    .with_config(AmazonS3ConfigKey::Client(Timeout), NO_TIMEOUT)
                    .with_config(AmazonS3ConfigKey::Client(ConnectTimeout), connect_timeout)
                    .build()
                    .map(|store| Arc::new(store) as _)
            }
            Provider::Google => GoogleCloudStorageBuilder::from_env()
                .with_url(self.url.as_str())
                .with_retry(retry)
                .with_config(GoogleConfigKey::Client(Timeout), NO_TIMEOUT)
                .with_config(GoogleConfigKey::Client(ConnectTimeout), connect_timeout)
                .build()
                .map(|store| Arc::new(store) as _),
            Provider::Azure => MicrosoftAzureBuilder::from_env()
                .with_url(self.url.as_str())
                .with_retry(retry)
                .with_config(AzureConfigKey::Client(Timeout), NO_TIMEOUT)
                .with_config(AzureConfigKey::Client(ConnectTimeout), connect_timeout)
                .build()
                .map(|store| Arc::new(store) as _),
            Provider::Http => {
                let mut root = self.url.clone();
                root.set_path("");
                root.set_query(None);
                HttpBuilder::new()
                    .with_url(root)
                    .with_retry(retry)
                    .with_config(AllowHttp, "true")
                    .with_http_connector(self.sending(files, to_connect)?)
                    .with_config(Timeout, NO_TIMEOUT)
                    .with_config(ConnectTimeout, connect_timeout)
                    .build()
                    .map(|store| Arc::new(store) as _)
            }
        };
        made.map_err(|error| {
            RemoteError::of(&error, self)
                .reworded(RemoteFault::Address, self.wrongly_set_up())
                .with_hint(self.credentials_hint())
        })
    }

    fn wrongly_set_up(&self) -> String {
        format!("{self} cannot be used as it is set up")
    }

    fn sending(
        &self,
        files: &Arc<Files>,
        to_connect: Duration,
    ) -> Result<FileConnector, RemoteError> {
        let client = reqwest::Client::builder()
            .http1_only()
            .connect_timeout(to_connect)
            .build()
            .map_err(|error| wrong(self.wrongly_set_up()).because(error.to_string()))?;
        Ok(FileConnector {
            files: Arc::clone(files),
            client,
        })
    }

    fn open_folder(
        &self,
        folder: &std::path::Path,
        options: &RemoteOptions,
    ) -> Result<Arc<dyn ObjectStore>, RemoteError> {
        let (verb, found) = if options.mode == super::RemoteMode::ReadWrite {
            ("made", std::fs::create_dir_all(folder))
        } else {
            ("read", std::fs::metadata(folder).map(drop))
        };
        if let Err(error) = found {
            let message = format!("{self} cannot be {verb}");
            return Err(RemoteError::new(RemoteFault::Unusable, message)
                .because(error.to_string())
                .with_hint("is the disk or the share mounted, and may you use it?"));
        }
        match LocalFileSystem::new_with_prefix(folder) {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(RemoteError::of(&error, self)),
        }
    }

    /// How to give credentials.
    pub(super) fn credentials_hint(&self) -> &'static str {
        match self.provider {
            Provider::Amazon => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT for a server that is not Amazon's; \
                 profiles are not read, but `eval \"$(aws configure export-credentials --format env)\"` sets them"
            }
            Provider::Google => {
                "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account"
            }
            Provider::Azure => "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
            Provider::Http | Provider::Folder(_) => "is the address right?",
        }
    }

    /// What to look at when access is refused.
    pub(super) fn permissions_hint(&self) -> &'static str {
        match self.provider {
            Provider::Amazon => {
                "are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY right? They need s3:GetObject, s3:ListBucket, and \
                 s3:PutObject to write; `mode = \"read\"` in `runner.toml` does without the last"
            }
            Provider::Google | Provider::Azure => {
                "are the credentials in the environment right, and may they read, list and write there?"
            }
            Provider::Http => {
                "the server wants a login or allows no writing; use it with `mode = \"read\"`"
            }
            Provider::Folder(_) => {
                "you may not use this folder; `mode = \"read\"` needs no permission to write"
            }
        }
    }
}

/// An address that cannot be right.
fn wrong(reason: String) -> RemoteError {
    RemoteError::new(RemoteFault::Address, reason)
}

/// A server without encryption must be asked for.
fn refuse_plain_http() -> Result<(), RemoteError> {
    let allowed = std::env::var("AWS_ALLOW_HTTP").unwrap_or_default();
    if ["true", "1", "yes"].contains(&allowed.as_str()) {
        return Ok(());
    }
    for name in ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
        if std::env::var(name).is_ok_and(|endpoint| endpoint.starts_with("http://")) {
            let message = format!("{name} is not encrypted, and that must be allowed");
            let hint = "set AWS_ALLOW_HTTP=true if the network can be trusted, or use https";
            return Err(wrong(message).with_hint(hint));
        }
    }
    Ok(())
}

/// A URL without what may be secret.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// What was written for an address, without what may be a secret in it: all before an `@`, and all behind a `?`.
fn discreet(text: &str) -> String {
    let plain = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = match plain.find("://") {
        Some(position) => plain.split_at(position + "://".len()),
        None => ("", plain),
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}...@{host}"),
        None => plain.to_owned(),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(shown(&self.url).trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::AsTrouble;

    #[test]
    fn addresses_are_understood() {
        for (text, provider, place) in [
            ("s3://bucket/a/b", Provider::Amazon, "a/b/v1/x"),
            ("s3://bucket", Provider::Amazon, "v1/x"),
            ("gs://bucket/a/", Provider::Google, "a/v1/x"),
            ("az://container/a", Provider::Azure, "a/v1/x"),
            ("https://example.org/store", Provider::Http, "store/v1/x"),
            (
                "file:///tmp/a%20b",
                Provider::Folder("/tmp/a b".into()),
                "v1/x",
            ),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.provider, provider, "{text}");
            assert_eq!(address.place("v1/x").as_ref(), place, "{text}");
            assert_eq!(address.name(&address.place("v1/x")), Some("v1/x"), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        for (text, part) in [
            ("s4://bucket", "did you mean `s3://`?"),
            ("../cache", "a folder is written file://"),
            ("bucket", "a remote is a URL"),
            ("file://host/folder", "file:///folder"),
            ("ftp://host/x", "there are s3, gs"),
            ("memory:///", "a remote is a URL"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert_eq!(error.fault, RemoteFault::Address, "{text}");
            assert!(error.hint().unwrap().contains(part), "{text}: {error:?}");
        }
        let error = Address::parse("https://me:secret@host/x").unwrap_err();
        assert!(
            !error.to_string().contains("secret") && !error.to_string().contains("me@"),
            "{error}"
        );
    }
}
