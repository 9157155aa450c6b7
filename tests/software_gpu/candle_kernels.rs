//! Takes the place of the build script of `candle-kernels` where there is no GPU: no kernel is compiled here. A module is
//! its name, and the software driver knows the kernels of all modules by theirs.

use std::path::PathBuf;
use std::{env, fs};

const MODULES: [&str; 11] = [
    "affine",
    "binary",
    "cast",
    "conv",
    "fill",
    "indexing",
    "quantized",
    "reduce",
    "sort",
    "ternary",
    "unary",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name| PathBuf::from(env::var_os(name).expect("cargo sets it"));
    let constants: String = MODULES
        .iter()
        .map(|name| format!("pub const {}: &str = \"{name}\";\n", name.to_uppercase()))
        .collect();
    let target = variable("OUT_DIR").join("ptx.rs");
    fs::write(target, constants).expect("the folder for results can be written");
    // Beside the copy of this crate lies the software driver.
    let libraries = variable("CARGO_MANIFEST_DIR").with_file_name("lib");
    println!("cargo::rustc-link-search=native={}", libraries.display());
}
