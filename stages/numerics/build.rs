//! Compiles the CUDA kernels, one module per `.cu` file, where the feature `cuda` is on. nvcc is found as Candle finds it:
//! in `CUDA_HOME`, or on the path. With the software GPU of the tests a module is its name.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=src");
    let is_software = env::var_os("CARGO_FEATURE_SOFTWARE_GPU").is_some();
    let folder = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut list = "const MODULES: &[(&str, &[u8])] = &[\n".to_owned();
    for source in sources(Path::new("src")) {
        let name = source.file_stem().expect("a file has a name");
        let name = name.to_str().expect("names are plain");
        let module = folder.join(format!("{name}.fatbin"));
        if is_software {
            fs::write(&module, name).expect("the folder for results can be written");
        } else {
            compile(&source, &module);
        }
        let _ = writeln!(list, "    ({name:?}, include_bytes!({module:?})),");
    }
    list.push_str("];\n");
    fs::write(folder.join("modules.rs"), list).expect("the folder for results can be written");
}

/// All `.cu` files below a folder, in the order of their paths.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the crate has sources") {
        let path = entry.expect("the crate's sources can be read").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "cu") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// For H100 and H200, and as PTX for newer and for Ampere's devices.
fn compile(source: &Path, target: &Path) {
    let home = env::var_os("CUDA_HOME").or_else(|| env::var_os("CUDA_PATH"));
    let nvcc = home.map_or_else(
        || PathBuf::from("nvcc"),
        |home| Path::new(&home).join("bin/nvcc"),
    );
    let done = Command::new(&nvcc)
        .args(["-std=c++17", "-O3", "-fatbin", "-Xptxas", "-v"])
        .arg("-gencode=arch=compute_90,code=sm_90")
        .arg("-gencode=arch=compute_80,code=compute_80")
        .arg("-o")
        .arg(target)
        .arg(source)
        .status();
    match done {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("nvcc cannot compile {}: {status}", source.display()),
        Err(error) => panic!(
            "{}: {error}; the feature `cuda` needs nvcc, on the path or in CUDA_HOME",
            nvcc.display()
        ),
    }
}
