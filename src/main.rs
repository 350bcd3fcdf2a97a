//! The `rp2pd` program.

use std::io::Write;
use std::process::ExitCode;

use rp2pd::cli::{self, Command};
use rp2pd::config::Config;

fn main() -> ExitCode {
    let mut stderr = std::io::stderr().lock();
    let args = match cli::parse(std::env::args_os()) {
        Ok(Command::Daemon(args)) => args,
        Ok(Command::Keygen(_)) => return ExitCode::FAILURE,
        Err(stop) => {
            // Nobody may be left to read it.
            let _ = stderr.write_all(stop.text.as_bytes());
            return ExitCode::from(stop.code);
        }
    };
    match Config::load(&args) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(stderr, "{error}");
            ExitCode::FAILURE
        }
    }
}
