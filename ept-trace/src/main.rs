//! `ept-trace`: see the library, and `ept-trace --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ept_trace::cli::run()
}
