//! Large files on their way to a plain HTTP server. `object_store` sends such a file from memory only; here, its request
//! gets the file itself for a body, read in small pieces as the server takes them.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use contract::artifact::{ByteDigest, Digest};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use reqwest::Url;
use reqwest::header::{CONTENT_LENGTH, HeaderValue};

use super::lock;

/// So much is read at a time.
const CHUNK: u64 = 256 * 1024;

/// The files that are on their way, by their names there.
#[derive(Debug, Default)]
pub(super) struct Files(Mutex<BTreeMap<String, Arc<Outgoing>>>);

/// A file on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    path: PathBuf,
    length: u64,
    digest: Digest,
    /// Bytes that the connection has taken.
    taken: AtomicU64,
    /// Why the file cannot be sent.
    failure: Mutex<Option<String>>,
}

/// As long as this lives, requests that write a file of this name get its bytes.
#[derive(Debug)]
pub(super) struct Announced<'a> {
    files: &'a Files,
    name: String,
    pub file: Arc<Outgoing>,
}

impl Files {
    pub fn announce(&self, name: &str, file: Outgoing) -> Announced<'_> {
        let file = Arc::new(file);
        lock(&self.0).insert(name.to_owned(), Arc::clone(&file));
        Announced {
            files: self,
            name: name.to_owned(),
            file,
        }
    }

    /// The file that a request to this path is to carry. Names hold digests: none is the end of another.
    fn of(&self, path: &str) -> Option<Arc<Outgoing>> {
        let files = lock(&self.0);
        let (_, file) = files.iter().find(|(name, _)| path.ends_with(*name))?;
        Some(Arc::clone(file))
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        lock(&self.files.0).remove(&self.name);
    }
}

impl Outgoing {
    pub fn new(path: &Path, length: u64, digest: Digest) -> Self {
        Self {
            path: path.to_owned(),
            length,
            digest,
            taken: AtomicU64::new(0),
            failure: Mutex::default(),
        }
    }

    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    pub fn is_all_taken(&self) -> bool {
        self.taken() >= self.length
    }

    pub fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// The bytes from the start. Without the right digest the last ones do not come, so that the server cannot take the
    /// file for whole.
    fn body(self: Arc<Self>) -> io::Result<reqwest::Body> {
        let file = File::open(&self.path).inspect_err(|error| self.fails(error))?;
        self.taken.store(0, Ordering::Relaxed);
        let reading = Reading {
            outgoing: self,
            file,
            digest: ByteDigest::default(),
            read: 0,
        };
        let chunks = futures_util::stream::unfold(reading, |mut reading| async {
            let chunk = reading
                .next()
                .inspect_err(|error| reading.outgoing.fails(error))
                .transpose()?;
            Some((chunk, reading))
        });
        Ok(reqwest::Body::wrap_stream(chunks))
    }

    fn fails(&self, error: &io::Error) {
        *lock(&self.failure) = Some(error.to_string());
    }
}

/// A file that is being read.
struct Reading {
    outgoing: Arc<Outgoing>,
    file: File,
    digest: ByteDigest,
    read: u64,
}

impl Reading {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let left = self.outgoing.length - self.read;
        if left == 0 {
            return Ok(None);
        }
        let mut chunk = Vec::with_capacity(usize::try_from(CHUNK.min(left)).unwrap_or_default());
        let count = self
            .file
            .by_ref()
            .take(CHUNK.min(left))
            .read_to_end(&mut chunk)? as u64;
        self.digest.update(&chunk);
        self.read += count;
        let invalid = io::ErrorKind::InvalidData;
        if count == 0 {
            return Err(io::Error::new(invalid, "it is shorter than it should be"));
        }
        if self.read == self.outgoing.length && self.digest.finish() != self.outgoing.digest {
            return Err(io::Error::new(
                invalid,
                "its bytes are not those of its name",
            ));
        }
        self.outgoing.taken.store(self.read, Ordering::Relaxed);
        Ok(Some(chunk))
    }
}

/// Makes clients that send announced files, and do everything else as usual.
#[derive(Debug)]
pub(super) struct FileConnector {
    pub files: Arc<Files>,
    /// Sends the files.
    pub client: reqwest::Client,
}

#[derive(Debug)]
struct FileService {
    files: Arc<Files>,
    client: reqwest::Client,
    usual: HttpClient,
}

impl HttpConnector for FileConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let usual = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(FileService {
            files: Arc::clone(&self.files),
            client: self.client.clone(),
            usual,
        }))
    }
}

impl HttpService for FileService {
    // An `async fn` as `async_trait` writes it out.
    fn call<'service, 'call>(
        &'service self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'call>>
    where
        'service: 'call,
        Self: 'call,
    {
        let is_put = request.method().as_str() == "PUT";
        match self.files.of(request.uri().path()).filter(|_| is_put) {
            Some(file) => Box::pin(self.send(request, file)),
            None => Box::pin(self.usual.execute(request)),
        }
    }
}

impl FileService {
    async fn send(
        &self,
        request: HttpRequest,
        file: Arc<Outgoing>,
    ) -> Result<HttpResponse, HttpError> {
        let (parts, _) = request.into_parts();
        let unknown = HttpErrorKind::Unknown;
        let url =
            Url::parse(&parts.uri.to_string()).map_err(|error| HttpError::new(unknown, error))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        request
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(file.length));
        *request.body_mut() = Some(
            file.body()
                .map_err(|error| HttpError::new(unknown, error))?,
        );
        let failed = |error: reqwest::Error| {
            let kind = if error.is_connect() {
                HttpErrorKind::Connect
            } else {
                unknown
            };
            HttpError::new(kind, error.without_url())
        };
        let answer = self.client.execute(request).await.map_err(failed)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = HttpResponse::new(HttpResponseBody::from(
            answer.bytes().await.map_err(failed)?,
        ));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(path: &Path, digest: Digest) -> (u64, Option<String>) {
        let length = std::fs::metadata(path).unwrap().len();
        let outgoing = Arc::new(Outgoing::new(path, length, digest));
        let file = File::open(path).unwrap();
        let mut reading = Reading {
            outgoing: Arc::clone(&outgoing),
            file,
            digest: ByteDigest::default(),
            read: 0,
        };
        loop {
            match reading.next() {
                Ok(Some(_)) => {}
                Ok(None) => return (outgoing.taken(), None),
                Err(error) => return (outgoing.taken(), Some(error.to_string())),
            }
        }
    }

    #[test]
    fn a_damaged_file_never_leaves_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes = vec![7; 600_000];
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_all(&path, Digest::of_bytes(&bytes)), (600_000, None));
        let (taken, failure) = read_all(&path, Digest::of_bytes(b"other"));
        assert!(taken < 600_000 && failure.is_some(), "{taken} {failure:?}");
    }

    #[test]
    fn a_request_gets_the_file_of_its_name_as_long_as_it_is_announced() {
        let files = Files::default();
        let digest = Digest::of_bytes(b"");
        let announced =
            files.announce("v1/objects/ab/cd", Outgoing::new(Path::new("a"), 0, digest));
        assert!(
            files.of("/prefix/v1/objects/ab/cd").is_some()
                && files.of("/prefix/v1/objects/ab/ce").is_none()
        );
        drop(announced);
        assert!(files.of("/prefix/v1/objects/ab/cd").is_none());
    }
}
