//! How libtorch's threads wait for each other.
//!
//! libgomp's threads spin while they wait, and a thread that spins takes the core from the one it waits for as soon as
//! more threads run than there are cores: our decoding threads, or another program. On two cores with one other busy
//! process `predict` over 128 pictures took 14.0 s spinning and 2.2 s sleeping. libgomp reads its policy before `main`, so a
//! command that runs long starts itself once more under the policy it wants; that costs the 0.2 s of loading libtorch, which
//! short commands are spared.

/// Variables by which a user decides this; any of them is left as it is.
const POLICY: [&str; 2] = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"];

/// Starts this program once more, in this process's place, with threads that sleep while they wait. Returns where that
/// is decided already or cannot be done.
#[cfg(target_os = "linux")]
pub(super) fn sleep_while_waiting() {
    use std::os::unix::process::CommandExt;
    if POLICY.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut again = std::process::Command::new(program);
        // On success this does not return; without it everything works, only slower.
        let _ = again.args(std::env::args_os().skip(1)).env(POLICY[0], "passive").exec();
    }
}

/// Elsewhere threads wait as their system has it.
#[cfg(not(target_os = "linux"))]
pub(super) fn sleep_while_waiting() {}
