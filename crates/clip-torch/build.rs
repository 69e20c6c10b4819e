//! Compiles the C++ shim against the libtorch that torch-sys links.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=cpp/shim.cpp");
    let mut build = cc::Build::new();
    // Its loops are for the processor's vectors in every profile.
    build.cpp(true).file("cpp/shim.cpp").warnings(false).opt_level(3);
    // libtorch's own headers use what C++17 lacks and compilers allow.
    build.flag_if_supported("-Wno-c++20-extensions");
    for folder in include() {
        build.include(folder);
    }
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "msvc") {
        build.flag("/std:c++17");
    } else {
        let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
        println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
        build.flag("-std=c++17").define("_GLIBCXX_USE_CXX11_ABI", abi.as_str());
    }
    build.compile("clip_torch_shim");
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
}

/// The folders of libtorch's headers: `LIBTORCH_INCLUDE` or `LIBTORCH`, as torch-sys reads them, else beside the library
/// folder that torch-sys found (as with `LIBTORCH_USE_PYTORCH=1`).
fn include() -> Vec<PathBuf> {
    let named = ["LIBTORCH_INCLUDE", "LIBTORCH"].into_iter().find_map(|name| {
        println!("cargo:rerun-if-env-changed={name}");
        env::var_os(name).map(PathBuf::from)
    });
    let found = || {
        let lib = PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB")?);
        lib.parent().map(Path::to_owned)
    };
    let Some(root) = named.or_else(found) else {
        panic!("libtorch is not found; run `cargo xtask setup`, or set LIBTORCH");
    };
    let include = root.join("include");
    assert!(
        include.join("ATen/ops/_fused_adamw.h").is_file(),
        "{} holds no headers of libtorch; run `cargo xtask setup`, or set LIBTORCH",
        include.display()
    );
    vec![include.join("torch/csrc/api/include"), include]
}
