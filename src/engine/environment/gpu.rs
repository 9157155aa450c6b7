//! The GPU that a run uses: its name, its driver, the CUDA version. Asked only where one is used.

use std::fs;
use std::process::Command;
use std::time::Duration;

use contract::Device;
use serde_json::{Map, Value, json};

use super::probe::ask;

/// A driver that is not loaded yet may take its time.
const LIMIT: Duration = Duration::from_millis(2000);

/// What is known about the GPUs of this machine; `None` on the CPU.
pub(super) fn describe(device: Device, numeric_class: &str) -> Option<Value> {
    if device == Device::Cpu {
        return None;
    }
    let query = [
        "--query-gpu=name,driver_version,memory.total",
        "--format=csv,noheader,nounits",
    ];
    let mut found = match ask(Command::new("nvidia-smi").args(query), LIMIT) {
        Some(text) => of_table(&text),
        None => of_driver(),
    };
    if let Some(version) = cuda_version(numeric_class) {
        found.insert("cuda".to_owned(), version.into());
    }
    Some(found.into())
}

/// The version of CUDA in a class such as `cuda/sm_90/13.0/1`.
fn cuda_version(numeric_class: &str) -> Option<&str> {
    numeric_class.strip_prefix("cuda/")?.split('/').nth(1)
}

/// Reads lines such as `NVIDIA H100 80GB HBM3, 580.82.07, 81559`.
fn of_table(text: &str) -> Map<String, Value> {
    let (mut found, mut names) = (Map::new(), Vec::new());
    for line in text.lines() {
        let mut cells = line.split(',').map(str::trim);
        names.extend(cells.next().map(str::to_owned));
        // Of the driver and the memory, the first device's count.
        if let Some(driver) = cells.next() {
            found.entry("driver").or_insert(driver.into());
        }
        if let Some(Ok(mebibytes)) = cells.next().map(str::parse::<u64>) {
            found.entry("memory").or_insert((mebibytes << 20).into());
        }
    }
    found.insert("count".to_owned(), names.len().into());
    add_names(&mut found, names);
    found
}

/// How CUDA numbers the devices is its own affair; where they differ, all are named.
fn add_names(found: &mut Map<String, Value>, mut names: Vec<String>) {
    names.dedup();
    let name = match &names[..] {
        [] => return,
        [name] => json!(name),
        names => json!(names),
    };
    found.insert("name".to_owned(), name);
}

/// What the driver itself tells, without a program beside it.
fn of_driver() -> Map<String, Value> {
    let mut found = Map::new();
    let version = fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    if let Some(driver) = driver_version(&version) {
        found.insert("driver".to_owned(), driver.into());
    }
    let mut names = Vec::new();
    let folders = fs::read_dir("/proc/driver/nvidia/gpus").into_iter();
    for folder in folders.flatten().flatten() {
        let information = fs::read_to_string(folder.path().join("information"));
        let information = information.unwrap_or_default();
        let mut lines = information.lines();
        if let Some(name) = lines.find_map(|line| line.strip_prefix("Model:")) {
            names.push(name.trim().to_owned());
        }
    }
    if !names.is_empty() {
        found.insert("count".to_owned(), names.len().into());
    }
    names.sort();
    add_names(&mut found, names);
    found
}

/// The version in `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.82.07  Thu …`.
fn driver_version(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("NVRM version"))?;
    line.split_whitespace().find(|word| {
        word.contains('.')
            && word
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_devices_are_named_once_and_different_ones_all() {
        let one = of_table(
            "NVIDIA H100 80GB HBM3, 580.82.07, 81559\nNVIDIA H100 80GB HBM3, 580.82.07, 81559\n",
        );
        assert_eq!(
            (&one["name"], &one["count"]),
            (&json!("NVIDIA H100 80GB HBM3"), &json!(2))
        );
        assert_eq!(
            (&one["driver"], &one["memory"]),
            (&json!("580.82.07"), &json!(81559_u64 << 20))
        );
        let two = of_table("A, 1.2, 10\nB, 1.2, 20\n");
        assert_eq!(two["name"], json!(["A", "B"]));
    }

    #[test]
    fn versions_are_found() {
        let text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.82.07  Thu Aug 28 02:00:00 UTC 2025\nGCC version: 12\n";
        assert_eq!(driver_version(text), Some("580.82.07"));
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build\n";
        assert_eq!(driver_version(open), Some("580.82.07"));
        assert_eq!(cuda_version("cuda/sm_90/13.0/1"), Some("13.0"));
        assert_eq!(cuda_version("cpu/x86_64/avx2"), None);
    }
}
