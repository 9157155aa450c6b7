//! How files are written to a remote: small ones from memory, large ones in pieces, or as one stream where a server takes
//! no pieces. Never more than a piece or a small file is in memory, and nothing is seen there before it is whole.

use std::future::Future;
use std::io::Read;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use contract::artifact::{ByteDigest, Digest};
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};

use super::super::tree::open_plain;
use super::client::{Client, Direction, SHUTDOWN_TIMEOUT, SLOWEST, missing_place};
use super::files::Outgoing;
use super::{RemoteError, RemoteFault};

/// Larger files are not sent from memory.
const WHOLE: u64 = 16 * 1024 * 1024;

/// The least size of a piece; providers take at most 10,000.
const PIECE: u64 = 8 * 1024 * 1024;

/// What the systems on the way may hold of a file of which all is sent.
const BUFFERED: u64 = 8 * 1024 * 1024;

impl Client {
    /// Writes a file from memory.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), RemoteError> {
        self.check_way(name)?;
        let place = &self.place(name);
        let length = bytes.len() as u64;
        let payload = &PutPayload::from(bytes);
        let attempts = self.attempts(
            Direction::Writing,
            self.options().retries,
            self.patience_for(length),
        )?;
        let sent = self.request(attempts, |connection| {
            self.in_time_for(length, connection.store.put(place, payload.clone()))
        });
        sent.map(drop)
            .map_err(|error| missing_place(error, self.address()))
    }

    /// Whether a file of this length is better sent by [`Self::put_large`].
    pub fn is_large(bytes: u64) -> bool {
        bytes > WHOLE
    }

    /// Writes a large file. Nothing is seen there unless its bytes have this digest.
    pub fn put_large(
        &self,
        name: &str,
        length: u64,
        digest: &Digest,
        file: &Path,
    ) -> Result<(), RemoteError> {
        self.check_way(name)?;
        let sent = if self.address().takes_pieces() {
            self.put_pieces(name, length, digest, file)
        } else {
            self.put_stream(name, length, digest, file)
        };
        sent.map_err(|error| missing_place(error, self.address()))
    }

    fn put_pieces(
        &self,
        name: &str,
        length: u64,
        digest: &Digest,
        file: &Path,
    ) -> Result<(), RemoteError> {
        let place = &self.place(name);
        let attempts = self.attempts(Direction::Writing, 2, self.patience_for(length))?;
        self.request(attempts, |connection| async move {
            let begun = connection.patient.put_multipart(place);
            let mut upload = self.in_time(begun).await?;
            let sent = self
                .send_pieces(upload.as_mut(), length, digest, file)
                .await;
            if sent.is_err() {
                // What would lie there for ever and cost something goes, also when the user wants an end.
                let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, upload.abort()).await;
            }
            sent
        })
    }

    async fn send_pieces(
        &self,
        upload: &mut dyn MultipartUpload,
        length: u64,
        digest: &Digest,
        file: &Path,
    ) -> Result<(), RemoteError> {
        let mut file = open_plain(file).map_err(|error| unreadable(error.to_string()))?;
        let mut read = ByteDigest::default();
        let piece = usize::try_from(PIECE.max(length / 9_000 + 1)).unwrap_or(usize::MAX);
        loop {
            let mut bytes = Vec::with_capacity(piece);
            file.by_ref()
                .take(piece as u64)
                .read_to_end(&mut bytes)
                .map_err(|error| unreadable(error.to_string()))?;
            if bytes.is_empty() {
                break;
            }
            read.update(&bytes);
            self.in_time_for(bytes.len() as u64 * 2, upload.put_part(bytes.into()))
                .await?;
        }
        if read.finish() != *digest {
            return Err(unreadable("its bytes are not those of its name"));
        }
        self.in_time_for(length, upload.complete()).await.map(drop)
    }

    fn put_stream(
        &self,
        name: &str,
        length: u64,
        digest: &Digest,
        file: &Path,
    ) -> Result<(), RemoteError> {
        let place = &self.place(name);
        let attempts = self.attempts(Direction::Writing, 2, self.patience_for(length))?;
        let outgoing = &self
            .files
            .announce(name, Outgoing::new(file, length, *digest));
        self.request(attempts, |connection| async move {
            let request = connection.store.put(place, PutPayload::default());
            match self.while_it_moves(&outgoing.file, request).await {
                Ok(_) => Ok(()),
                Err(error) => Err(outgoing.file.failure().map_or(error, unreadable)),
            }
        })
    }

    /// An answer to a request that takes a file: silence is that nothing of it is taken, not that it takes long.
    async fn while_it_moves<T>(
        &self,
        outgoing: &Outgoing,
        operation: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, RemoteError> {
        let (timeout, begun) = (self.options().timeout, Instant::now());
        let mut operation = pin!(operation);
        let mut limit = timeout;
        loop {
            let before = outgoing.taken();
            match self.within(limit, operation.as_mut()).await? {
                Some(Ok(value)) => return Ok(value),
                Some(Err(error)) => return Err(RemoteError::of(&error, self.address())),
                None if outgoing.taken() == before => {
                    return Err(RemoteError::silent(self.address(), limit.as_secs_f64()));
                }
                None => self.check_pace(begun, outgoing.taken())?,
            }
            limit = timeout;
            if outgoing.is_all_taken() {
                limit += Duration::from_secs(outgoing.taken().min(BUFFERED) / SLOWEST);
            }
        }
    }
}

/// The fault is here, not there.
fn unreadable(reason: impl Into<String>) -> RemoteError {
    RemoteError::new(
        RemoteFault::Damaged,
        "the local object is damaged or cannot be read",
    )
    .because(reason)
    .with_hint("`runner cache verify` looks at all of them")
}
