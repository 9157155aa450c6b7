//! Containers: the interpreter of an image that is named by its digest, started by podman or docker. The stage's folder has
//! the same path inside as outside, and there is no network.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::lock::is_on_path;
use contract::{Device, Fault, StageContext, Trouble};

/// What the digest of an image begins with.
const DIGEST: &str = "@sha256:";

/// Hexadecimal digits of a digest.
const DIGITS: usize = 64;

/// Programs that run containers, the first that is found.
const ENGINES: [&str; 2] = ["podman", "docker"];

/// The digest of an image.
///
/// # Errors
/// If it is not named by one: a tag means another image tomorrow.
pub(in crate::python) fn digest(image: &str) -> Result<&str, Fault> {
    let wrong = || {
        let reason =
            "names an image by its digest, `NAME@sha256:…`: `podman images --digests` lists them";
        Fault::new("environment.image", reason)
    };
    let (name, digits) = image.split_once(DIGEST).ok_or_else(wrong)?;
    let is_right = digits.len() == DIGITS
        && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        && !name.is_empty()
        && !name.starts_with('-')
        && !name.contains(char::is_whitespace);
    is_right.then_some(digits).ok_or_else(wrong)
}

/// The program that runs containers.
///
/// # Errors
/// If there is none.
pub(super) fn engine(image: &str) -> Result<&'static str, Trouble> {
    let found = ENGINES.into_iter().find(|name| is_on_path(name));
    found.ok_or_else(|| {
        let message = format!("the image `{image}` needs podman or docker, and neither is on PATH");
        let hint = "install one, or name an interpreter that has the packages: `environment: {python: PATH}`";
        Trouble::new(message).hint(hint)
    })
}

/// The command line up to the interpreter's own arguments.
///
/// # Errors
/// If neither podman nor docker is installed.
pub(super) fn arguments(
    image: &str,
    python: &Path,
    variables: &BTreeMap<String, OsString>,
    folder: &Path,
    context: &StageContext<'_>,
) -> Result<Vec<String>, Trouble> {
    let engine = engine(image)?;
    let place = folder.display();
    let mut arguments = vec![
        engine.to_owned(),
        "run".to_owned(),
        "--rm".to_owned(),
        "--interactive".to_owned(),
        format!("--name={}", name(folder)),
        "--network=none".to_owned(),
        "--security-opt=label=disable".to_owned(),
        format!("--volume={place}:{place}"),
        format!("--workdir={place}"),
    ];
    if engine == "docker" {
        // What it writes is the user's. In podman the user is root inside.
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        arguments.push(format!("--user={}:{}", user.as_raw(), group.as_raw()));
    }
    if let Device::Cuda(_) = context.device {
        arguments.push(match engine {
            "docker" => "--gpus=all".to_owned(),
            _ => "--device=nvidia.com/gpu=all".to_owned(),
        });
    }
    for (name, value) in variables {
        // Where programs and homes lie is another matter in there.
        if !matches!(name.as_str(), "PATH" | "HOME" | "TMPDIR") {
            arguments.push(format!("--env={name}={}", value.to_string_lossy()));
        }
    }
    arguments.extend(["--env=HOME=/tmp", "--env=TMPDIR=/tmp"].map(str::to_owned));
    arguments.push(format!("--entrypoint={}", python.display()));
    arguments.push(image.to_owned());
    Ok(arguments)
}

/// What removes the container of a stage, whatever its state.
///
/// # Errors
/// If neither podman nor docker is installed.
pub(super) fn clears(image: &str, folder: &Path) -> Result<Vec<String>, Trouble> {
    let engine = engine(image)?;
    let words = [engine, "rm", "--force", "--volumes"];
    let mut words = words.map(str::to_owned).to_vec();
    if engine == "podman" {
        // It has had its time when it was asked to end.
        words.push("--time=0".to_owned());
    }
    words.push(name(folder));
    Ok(words)
}

/// The name of the container, after the folder of the stage, which no other has.
fn name(folder: &Path) -> String {
    let folder = folder.file_name().unwrap_or_default().to_string_lossy();
    format!("runner-{folder}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_digest() {
        let digits = "0123456789abcdef".repeat(4);
        let image = format!("docker.io/a/b@sha256:{digits}");
        assert_eq!(digest(&image), Ok(digits.as_str()));
        let short = &image[..image.len() - 1];
        let option = format!("--privileged@sha256:{digits}");
        for wrong in ["a/b:1.0", short, &option, &format!("@sha256:{digits}")] {
            let told = digest(wrong).unwrap_err();
            assert!(told.to_string().contains("by its digest"), "{told}");
        }
    }
}
