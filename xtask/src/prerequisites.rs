//! What a machine must have before anything starts. Everything missing is told at once, each with its remedy.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process::probe;

/// One program that a task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// rustc of the version that the workspace states.
    Rust,
    /// A C++17 compiler with its standard library.
    Cpp,
    /// Python 3 with pip.
    Pip,
    /// npm.
    Npm,
    /// cargo-deny.
    CargoDeny,
    /// Chromium.
    Chromium,
}

/// The version that `rust-version` in the root's manifest states.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// Fails with one line for each need that is not met.
pub(crate) fn check(needs: &[Need]) -> Result<()> {
    let missing: Vec<String> = needs
        .iter()
        .filter(|need| !need.met())
        .map(|need| need.hint())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this machine lacks:\n  {}", missing.join("\n  "))
}

impl Need {
    /// Whether the machine has it.
    pub(crate) fn met(self) -> bool {
        match self {
            Self::Rust => probe("rustc", &["--version"]).is_some_and(|text| new_enough(&text)),
            Self::Cpp => compiles_cpp(),
            Self::Pip => probe("python3", &["-m", "pip", "--version"]).is_some(),
            Self::Npm => probe("npm", &["--version"]).is_some(),
            Self::CargoDeny => probe("cargo-deny", &["--version"]).is_some(),
            Self::Chromium => probe("chromium", &["--version"]).is_some(),
        }
    }

    /// What is missing on this machine, and how to get it, in one line.
    pub(crate) fn hint(self) -> String {
        self.remedy(System::here())
    }

    /// One line: what is missing, what it is for, how to get it.
    fn remedy(self, system: System) -> String {
        let install = |debian: &str, fedora: &str, arch: &str, mac: &str| match system {
            System::Debian => format!("sudo apt-get install {debian}"),
            System::Fedora => format!("sudo dnf install {fedora}"),
            System::Arch => format!("sudo pacman -S {arch}"),
            System::Mac => mac.to_string(),
            System::Other => format!("install the package that Debian calls {debian}"),
        };
        match self {
            Self::Rust => format!("Rust {RUST_VERSION} or newer: rustup update stable"),
            Self::Cpp => format!(
                "a C++17 compiler, which compiles the bindings to libtorch: {}",
                install("g++", "gcc-c++", "gcc", "xcode-select --install")
            ),
            Self::Pip => format!(
                "Python 3 with pip, which fetches libtorch and the pretrained towers: {}",
                install("python3-pip", "python3-pip", "python-pip", "brew install python")
            ),
            Self::Npm => {
                format!(
                    "npm, which fetches the demo's pictures: {}",
                    install("npm", "nodejs-npm", "npm", "brew install node")
                )
            }
            Self::CargoDeny => {
                "cargo-deny, which checks licences and sources: cargo install --locked cargo-deny".to_string()
            }
            Self::Chromium => format!(
                "Chromium, in which the tests look at pages: {}",
                install("chromium", "chromium", "chromium", "brew install chromium")
            ),
        }
    }
}

/// Reads `rustc 1.95.0 (…)`. What cannot be read counts as too old.
fn new_enough(version: &str) -> bool {
    let numbers = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        Some((parts.next()??, parts.next()??))
    };
    let found = version
        .split_whitespace()
        .nth(1)
        .and_then(|text| numbers(text.split('-').next().unwrap_or(text)));
    found.is_some_and(|found| Some(found) >= numbers(RUST_VERSION))
}

/// Asks the compiler that torch-sys will use, in the way it will: a machine may have the program and not its headers.
fn compiles_cpp() -> bool {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_string());
    // CXX may hold a wrapper and flags, as `ccache g++`.
    let mut words = compiler.split_whitespace();
    let child = Command::new(words.next().unwrap_or("c++"))
        .args(words)
        .args(["-std=c++17", "-fsyntax-only", "-x", "c++", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let program = b"#include <optional>\nint main() { return std::optional<int>(0).value(); }\n";
    let sent = child
        .stdin
        .take()
        .is_some_and(|mut input| input.write_all(program).is_ok());
    child.wait().is_ok_and(|status| status.success()) && sent
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Debian,
    Fedora,
    Arch,
    Mac,
    Other,
}

impl System {
    fn here() -> Self {
        if cfg!(target_os = "macos") {
            return Self::Mac;
        }
        Self::from_release(&std::fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    /// Reads the ID and ID_LIKE lines of an os-release file.
    fn from_release(text: &str) -> Self {
        let ids = text
            .lines()
            .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")));
        for id in ids.flat_map(|ids| ids.trim_matches('"').split_whitespace()) {
            match id {
                "debian" | "ubuntu" => return Self::Debian,
                "fedora" | "rhel" | "centos" => return Self::Fedora,
                "arch" => return Self::Arch,
                _ => {}
            }
        }
        Self::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(new_enough("rustc 1.100.0 (abc 2027-01-01)"));
        assert!(new_enough("rustc 2.0.0-nightly (abc)"));
        assert!(new_enough(&format!("rustc {RUST_VERSION}.0")));
        assert!(!new_enough("rustc 1.9.0 (abc)"));
        assert!(!new_enough("command not found"));
    }

    #[test]
    fn remedies_name_the_systems_own_command() {
        let debian = System::from_release("NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n");
        assert_eq!(debian, System::Debian);
        assert!(Need::Cpp.remedy(debian).ends_with("sudo apt-get install g++"));
        let rocky = System::from_release("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n");
        assert!(Need::Cpp.remedy(rocky).ends_with("sudo dnf install gcc-c++"));
        assert_eq!(System::from_release(""), System::Other);
    }
}
