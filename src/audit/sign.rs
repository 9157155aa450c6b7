//! Signatures with ed25519 keys, as `openssl genpkey -algorithm ed25519` makes them. What is signed is three lines of text:
//!
//! ```text
//! runner signature 1
//! lock
//! blake3:DIGEST
//! ```
//!
//! The second line says what the digest is the seal of (`lock` or `run`); each line ends with a line break. The signature
//! lies in a file beside what it signs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use contract::TroubleKind;
use contract::artifact::Digest;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use thiserror::Error;

use super::lock::write_whole;
use crate::diagnostic::AsTrouble;
use crate::pipeline::limits::read_regular;

const HEAD: &str = "runner signature 1";

/// What the seal of is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    Lock,
    Run,
}

impl Signed {
    fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Run => "run",
        }
    }

    fn message(self, seal: &Digest) -> String {
        format!("{HEAD}\n{}\nblake3:{seal}\n", self.name())
    }
}

/// Why something cannot be signed, or a signature does not hold.
#[derive(Debug, Error)]
pub enum SignError {
    #[error("cannot {verb} {}", path.display())]
    Io {
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} does not hold a {wanted} ed25519 key in PEM form", path.display())]
    Key { path: PathBuf, wanted: &'static str },
    #[error("there is no signature {}", .0.display())]
    Missing(PathBuf),
    #[error("{} is not a signature of runner, or was changed", .0.display())]
    Unreadable(PathBuf),
    #[error("the signature {} is of other content: what it signed was changed or rewritten since", .0.display())]
    OtherContent(PathBuf),
    #[error("the signature {path} was made with another key, {found}", path = path.display())]
    OtherKey { path: PathBuf, found: String },
    #[error("the signature {} does not hold", .0.display())]
    Invalid(PathBuf),
}

impl SignError {
    fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }
}

impl AsTrouble for SignError {
    fn kind(&self) -> TroubleKind {
        match self {
            Self::Io { .. } | Self::Key { .. } => TroubleKind::Wrong,
            _ => TroubleKind::Different,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Key {
                wanted: "private", ..
            } => "`openssl genpkey -algorithm ed25519 -out key.pem` makes one",
            Self::Key { .. } => {
                "`openssl pkey -in key.pem -pubout -out key.pub` writes that of a private one"
            }
            Self::Missing(_) | Self::OtherContent(_) => {
                "to vouch for it as it is now, sign it with --sign KEYFILE"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// A private key.
pub struct PrivateKey {
    key: SigningKey,
    /// Others than the owner may read the key's file.
    pub is_exposed: bool,
}

impl PrivateKey {
    /// Reads a private key.
    ///
    /// # Errors
    /// If there is none in the file.
    pub fn read(path: &Path) -> Result<Self, SignError> {
        use std::os::unix::fs::PermissionsExt;
        const OTHERS: u32 = 0o077;
        let text = read(path)?;
        let key = SigningKey::from_pkcs8_pem(text.trim()).map_err(|_| SignError::Key {
            path: path.to_owned(),
            wanted: "private",
        })?;
        let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        Ok(Self {
            key,
            is_exposed: mode & OTHERS != 0,
        })
    }

    /// Writes the signature of `seal` beside what is sealed.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn sign(&self, what: Signed, seal: &Digest, sealed: &Path) -> Result<PathBuf, SignError> {
        let signature = self.key.sign(what.message(seal).as_bytes());
        let public = hex(self.key.verifying_key().as_bytes());
        let text = format!(
            "{}public_key = {public}\nsignature = {}\n",
            what.message(seal),
            hex(&signature.to_bytes())
        );
        let path = signature_path(sealed);
        write_whole(&path, text.as_bytes()).map_err(SignError::io("write", &path))?;
        Ok(path)
    }
}

/// The file of a signature: the name of what is signed with `.sig` behind it.
pub fn signature_path(sealed: &Path) -> PathBuf {
    let mut name = sealed.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Checks that the holder of a key signed `seal`.
///
/// # Errors
/// If the key cannot be read, there is no signature, or it does not hold.
pub fn check_signature(
    what: Signed,
    seal: &Digest,
    sealed: &Path,
    public_key: &Path,
) -> Result<(), SignError> {
    let text = read(public_key)?;
    let key = VerifyingKey::from_public_key_pem(text.trim()).map_err(|_| SignError::Key {
        path: public_key.to_owned(),
        wanted: "public",
    })?;
    let path = signature_path(sealed);
    let written = match read_regular(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SignError::Missing(path));
        }
        other => other.map_err(SignError::io("read", &path))?,
    };
    let written = String::from_utf8_lossy(&written).replace("\r\n", "\n");
    let (message, public, signature) =
        parse(&written).ok_or_else(|| SignError::Unreadable(path.clone()))?;
    if message != what.message(seal) {
        return Err(SignError::OtherContent(path));
    }
    if public != hex(key.as_bytes()) {
        return Err(SignError::OtherKey {
            path,
            found: public.to_owned(),
        });
    }
    key.verify_strict(message.as_bytes(), &signature)
        .map_err(|_| SignError::Invalid(path))
}

/// The signature that lies beside what is sealed, if it is of this seal and holds for the key that it names. Whose key that
/// is, is another question.
pub fn signature_beside(what: Signed, seal: &Digest, sealed: &Path) -> Option<Vec<u8>> {
    let bytes = read_regular(&signature_path(sealed)).ok()?;
    holds_by_itself(what, seal, &bytes).then_some(bytes)
}

/// Whether a signature is of this seal and holds for the key that it names.
pub fn holds_by_itself(what: Signed, seal: &Digest, signature: &[u8]) -> bool {
    signed_by(signature).is_some_and(|message| message == what.message(seal))
}

/// What a signature signs, if it holds for the key that it names.
fn signed_by(signature: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(signature).ok()?.replace("\r\n", "\n");
    let (message, public, signature) = parse(&text)?;
    let key = VerifyingKey::from_bytes(&unhex(public)?.try_into().ok()?).ok()?;
    key.verify_strict(message.as_bytes(), &signature).ok()?;
    Some(message.to_owned())
}

/// What was signed, the public key, the signature.
fn parse(text: &str) -> Option<(&str, &str, Signature)> {
    let at = text.find("public_key = ")?;
    let (message, rest) = text.split_at(at);
    let (public, signature) = rest
        .strip_prefix("public_key = ")?
        .split_once("\nsignature = ")?;
    let bytes: [u8; 64] = unhex(signature.strip_suffix('\n')?)?.try_into().ok()?;
    (message.starts_with(HEAD)).then(|| (message, public, Signature::from_bytes(&bytes)))
}

fn read(path: &Path) -> Result<String, SignError> {
    let bytes = read_regular(path).map_err(SignError::io("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
    use ed25519_dalek::pkcs8::{EncodePrivateKey, EncodePublicKey, KeypairBytes};

    use super::*;

    /// Both halves of a key in the form in which openssl writes them.
    fn pem(secret: [u8; 32]) -> (String, String) {
        let pair = KeypairBytes {
            secret_key: secret,
            public_key: None,
        };
        let private = pair.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
        let public = SigningKey::from_bytes(&secret)
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        (private, public)
    }

    struct Case {
        folder: tempfile::TempDir,
        seal: Digest,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let ((private, public), (_, other)) = (pem([1; 32]), pem([2; 32]));
            assert!(
                private.len() < 125,
                "as openssl writes it, without the public half:\n{private}"
            );
            for (name, text) in [("key", private), ("key.pub", public), ("other.pub", other)] {
                fs::write(folder.path().join(name), text).unwrap();
                fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600))
                    .unwrap();
            }
            Self {
                folder,
                seal: Digest([7; 32]),
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn sign(&self) -> PathBuf {
            let key = PrivateKey::read(&self.path("key")).unwrap();
            key.sign(Signed::Lock, &self.seal, &self.path("a.lock"))
                .unwrap()
        }

        fn check(&self, what: Signed, seal: &Digest, key: &str) -> Result<(), SignError> {
            check_signature(what, seal, &self.path("a.lock"), &self.path(key))
        }
    }

    #[test]
    fn a_signature_holds_for_its_content_and_its_key() {
        let case = Case::new();
        assert!(matches!(
            case.check(Signed::Lock, &case.seal, "key.pub"),
            Err(SignError::Missing(_))
        ));
        let path = case.sign();
        assert!(path.ends_with("a.lock.sig"));
        case.check(Signed::Lock, &case.seal, "key.pub").unwrap();
        assert_eq!(
            signature_beside(Signed::Lock, &case.seal, &case.path("a.lock")),
            fs::read(&path).ok()
        );
        assert!(signature_beside(Signed::Run, &case.seal, &case.path("a.lock")).is_none());
        let other = Digest([8; 32]);
        assert!(matches!(
            case.check(Signed::Lock, &other, "key.pub"),
            Err(SignError::OtherContent(_))
        ));
        assert!(matches!(
            case.check(Signed::Run, &case.seal, "key.pub"),
            Err(SignError::OtherContent(_))
        ));
        assert!(matches!(
            case.check(Signed::Lock, &case.seal, "other.pub"),
            Err(SignError::OtherKey { .. })
        ));
    }

    #[test]
    fn no_byte_of_a_signature_changes_unseen() {
        let case = Case::new();
        let path = case.sign();
        let text = fs::read(&path).unwrap();
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            assert!(
                case.check(Signed::Lock, &case.seal, "key.pub").is_err(),
                "byte {at}"
            );
            assert!(
                signature_beside(Signed::Lock, &case.seal, &case.path("a.lock")).is_none(),
                "byte {at}"
            );
        }
    }

    #[test]
    fn keys_are_told_from_what_is_none() {
        let case = Case::new();
        let wrong = PrivateKey::read(&case.path("key.pub")).err().unwrap();
        assert!(
            wrong.to_string().contains("private")
                && wrong.hint().is_some()
                && wrong.kind() == TroubleKind::Wrong
        );
        case.sign();
        let wrong = case.check(Signed::Lock, &case.seal, "key").unwrap_err();
        assert!(wrong.to_string().contains("public") && wrong.hint().unwrap().contains("pubout"));
        assert!(!PrivateKey::read(&case.path("key")).unwrap().is_exposed);
        fs::set_permissions(case.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(PrivateKey::read(&case.path("key")).unwrap().is_exposed);
    }
}
