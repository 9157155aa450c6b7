//! On what a run ran: the program's version, the machine, the device, threads, the state of the repository, and the
//! environment variables that matter. It is recorded, shown and compared; nothing of it enters a key. Values that look
//! like secrets are never kept.

mod git;
mod gpu;
mod probe;
mod secrets;
mod variables;

use std::path::Path;

use contract::{Device, Hardware};
use indexmap::IndexMap;
use serde_json::{Value, json};

pub use secrets::{recordable, without_credentials};
pub use variables::is_setting;

/// The commit of runner's own sources, where whoever built the program said it (`RUNNER_COMMIT` at build time, as
/// `just build` sets it). A build outside git has none, and is the same everywhere.
const COMMIT: Option<&str> = option_env!("RUNNER_COMMIT");

/// What the command line decided about a run.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    pub device: Device,
    pub numeric_class: &'a str,
    pub hardware: &'a dyn Hardware,
    pub threads: usize,
    /// The folder of the pipeline file.
    pub folder: &'a Path,
}

/// What is known at once: enough for a run in which nothing is left to do.
pub fn brief(setting: &Setting<'_>) -> IndexMap<String, Value> {
    let machine = rustix::system::uname();
    let text = |value: &std::ffi::CStr| Value::from(value.to_string_lossy().into_owned());
    let device = match setting.device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(ordinal) => format!("cuda:{ordinal}"),
    };
    IndexMap::from([
        ("runner".to_owned(), json!(env!("CARGO_PKG_VERSION"))),
        ("host".to_owned(), text(machine.nodename())),
        ("system".to_owned(), text(machine.sysname())),
        ("release".to_owned(), text(machine.release())),
        ("processor".to_owned(), json!(processor())),
        ("device".to_owned(), json!(device)),
        ("numeric_class".to_owned(), json!(setting.numeric_class)),
        ("threads".to_owned(), json!(setting.threads)),
    ])
}

/// Everything. It asks git and the GPU's driver, which takes some milliseconds, and never more than a second or two.
pub fn capture(setting: &Setting<'_>) -> IndexMap<String, Value> {
    let (repositories, gpu) = std::thread::scope(|scope| {
        let gpu = scope.spawn(|| gpu::describe(setting.device, setting.numeric_class));
        (git::states(setting.folder), gpu.join().unwrap_or_default())
    });
    let mut environment = brief(setting);
    if let Some(commit) = COMMIT.filter(|commit| !commit.is_empty()) {
        environment.insert("runner_commit".to_owned(), commit.into());
    }
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            environment.insert(name.to_owned(), value);
        }
    };
    let info = rustix::system::sysinfo();
    #[expect(
        clippy::useless_conversion,
        reason = "the type differs between platforms"
    )]
    let memory = u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit));
    add("architecture", Some(std::env::consts::ARCH.into()));
    add("simd", simd(setting.hardware).map(Value::from));
    let cores = std::thread::available_parallelism().ok();
    add("cores", cores.map(|cores| cores.get().into()));
    add("memory", Some(memory.into()));
    add("memory_limit", memory_limit().map(Value::from));
    add("libc", libc().map(Value::from));
    add("container", container().map(Value::from));
    add("gpu", gpu);
    let (here, pipeline) = repositories;
    add("git", here.map(|state| json!(state)));
    add("pipeline_git", pipeline.map(|state| json!(state)));
    let variables = variables::that_matter(std::env::vars_os());
    if !variables.is_empty() {
        add("variables", Some(variables.into()));
    }
    environment
}

/// The processor's name as Linux tells it.
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut names = text.lines().filter(|line| line.starts_with("model name"));
    match names.next().and_then(|line| line.split_once(':')) {
        Some((_, name)) => name.trim().to_owned(),
        None => std::env::consts::ARCH.to_owned(),
    }
}

/// The widest instructions that kernels on the CPU use: the last part of its numeric class.
fn simd(hardware: &dyn Hardware) -> Option<String> {
    let class = hardware.class(Device::Cpu).ok()?;
    class.rsplit('/').next().map(str::to_owned)
}

/// What the control group allows, where it allows less than there is.
fn memory_limit() -> Option<u64> {
    let text = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?;
    text.trim().parse().ok()
}

#[cfg(target_env = "gnu")]
fn libc() -> Option<String> {
    unsafe extern "C" {
        /// The version of the GNU C library that the process runs with.
        safe fn gnu_get_libc_version() -> *const std::ffi::c_char;
    }
    // SAFETY: the library returns a constant text that ends with a zero.
    let version = unsafe { std::ffi::CStr::from_ptr(gnu_get_libc_version()) };
    Some(format!("glibc {}", version.to_str().ok()?))
}

#[cfg(not(target_env = "gnu"))]
fn libc() -> Option<String> {
    None
}

/// In what kind of container the process seems to run.
fn container() -> Option<String> {
    let exists = |path: &str| Path::new(path).exists();
    let set = |name: &str| std::env::var_os(name).is_some();
    let kind = match () {
        () if set("APPTAINER_CONTAINER") || set("SINGULARITY_CONTAINER") => "apptainer",
        () if set("KUBERNETES_SERVICE_HOST") => "kubernetes",
        () if exists("/run/.containerenv") => "podman",
        () if exists("/.dockerenv") => "docker",
        // What systemd's convention asks other engines to say.
        () => &std::env::var("container").unwrap_or_default(),
    };
    (!kind.is_empty()).then(|| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_begins_with_the_brief() {
        let folder = tempfile::tempdir().unwrap();
        let setting = Setting {
            device: Device::Cpu,
            numeric_class: "cpu/test",
            hardware: contract::Catalogue::of(Vec::new()).hardware,
            threads: 3,
            folder: folder.path(),
        };
        let (brief, whole) = (brief(&setting), capture(&setting));
        for (name, value) in &brief {
            assert_eq!(whole.get(name), Some(value), "{name}");
        }
        assert!(
            whole["cores"].as_u64().unwrap() >= 1 && whole["memory"].as_u64().unwrap() > 1 << 20
        );
        assert!(!whole.contains_key("gpu"), "no GPU is used");
    }
}
