//! The `clipzoo` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    match clipzoo::zoo() {
        Ok(zoo) => clipzoo::cli(zoo).run(),
        Err(error) => {
            use std::io::Write;
            // Nothing can be done where stderr itself is gone.
            let _ = writeln!(std::io::stderr().lock(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
