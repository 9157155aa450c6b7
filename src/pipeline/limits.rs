//! How large what a file describes may become. A few lines can stand for more than any machine holds: texts that
//! double, lists of lists, combinations of axes. Each limit is far above what people write, and its message names it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Bytes of a pipeline, sweep or settings file.
pub const LARGEST_FILE: u64 = 64 << 20;

/// Bytes of one text that is put together from others.
pub const LONGEST_TEXT: usize = 1 << 20;

/// Deeper nesting is refused, so that walking a tree cannot exhaust the stack.
pub const DEEPEST: usize = 100;

/// Nodes that a file may stand for once its aliases are followed.
pub const MOST_NODES: usize = 4_000_000;

/// Bytes that one value may come to, references followed: about what its JSON takes.
pub const LARGEST_VALUE: u64 = 64 << 20;

/// Bytes of all parameters of all stages of a graph.
pub const MOST_PARAMETERS: u64 = 512 << 20;

/// Files that include each other one below the other.
pub const DEEPEST_INCLUDE: usize = 32;

/// Files of one pipeline.
pub const MOST_FILES: usize = 1000;

/// Instances of all stages of a pipeline.
pub const MOST_INSTANCES: usize = 200_000;

/// Bytes of the axis values in the name of an instance.
pub const LONGEST_LABEL: usize = 4096;

/// Bytes of all raw files that go along in a bundle, and of those that an import lays out in a folder.
pub const MOST_RAW_FILES: u64 = 64 << 30;

/// Reads a file of text that a person wrote. What is no file cannot block or fill the memory: a pipe would wait for
/// somebody who writes, and a device may never end.
///
/// # Errors
/// What is wrong, as the second half of a sentence that begins with "cannot read".
pub fn read_text(path: &Path) -> Result<String, String> {
    let bytes = read_regular(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::Other => error.to_string(),
        _ => plain(&error),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        format!(
            "it is not UTF-8 text (byte {} is the first that is wrong)",
            error.utf8_error().valid_up_to()
        )
    })
}

/// The bytes of a regular file of a sensible size.
///
/// # Errors
/// Those of the system, and of the kind `Other` what is there instead of such a file.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let mut bytes = Vec::with_capacity(file.metadata()?.len().min(LARGEST_FILE) as usize);
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(io::Error::other(format!(
            "it is larger than {} MiB",
            LARGEST_FILE >> 20
        )));
    }
    Ok(bytes)
}

/// Opens a regular file of any size.
///
/// # Errors
/// Those of the system, and of the kind `Other` what is there instead of such a file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // To open some devices already does something, so the first look is from outside.
    refuse_special(&std::fs::metadata(path)?)?;
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    refuse_special(&file.metadata()?)?;
    Ok(file)
}

fn refuse_special(metadata: &std::fs::Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "it is a folder",
        () if kind.is_fifo() => "it is a pipe, not a file",
        () if kind.is_socket() => "it is a socket, not a file",
        () => "it is a device, not a file",
    };
    Err(io::Error::other(what))
}

/// The system's words without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from(0o600)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        std::os::unix::fs::symlink(&pipe, folder.path().join("link")).unwrap();
        std::fs::write(folder.path().join("latin"), [b'a', 0xe4]).unwrap();
        File::create(folder.path().join("large"))
            .unwrap()
            .set_len(LARGEST_FILE + 1)
            .unwrap();
        let said = |name: &str| read_text(&folder.path().join(name)).unwrap_err();
        assert_eq!(said("pipe"), "it is a pipe, not a file");
        assert_eq!(said("link"), "it is a pipe, not a file");
        assert_eq!(said("socket"), "it is a socket, not a file");
        assert_eq!(said(""), "it is a folder");
        assert_eq!(said("nothing"), "there is no such file");
        assert_eq!(
            said("latin"),
            "it is not UTF-8 text (byte 1 is the first that is wrong)"
        );
        assert_eq!(said("large"), "it is larger than 64 MiB");
        assert_eq!(
            read_text(Path::new("/dev/zero")).unwrap_err(),
            "it is a device, not a file"
        );
    }
}
