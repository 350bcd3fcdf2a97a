//! The `rp2pd` program.

use std::{io::Write, process::ExitCode};

use rp2pd::{
    cli::{self, Command},
    config::Config,
    control::listener::Listener,
    daemon,
};

fn main() -> ExitCode {
    let args = match cli::parse(std::env::args_os()) {
        Ok(Command::Daemon(args)) => args,
        Ok(Command::Keygen(_)) => return ExitCode::FAILURE,
        Err(stop) => {
            let _ = std::io::stderr().write_all(stop.text.as_bytes());
            return ExitCode::from(stop.code);
        }
    };
    let result = Config::load(&args)
        .map_err(anyhow::Error::from)
        .and_then(|config| {
            for notice in &config.notices {
                daemon::notice(notice);
            }
            let listener = Listener::bind(&config.listen, config.listen_mode, config.listen_group)?;
            daemon::run(
                &config,
                &libp2p::identity::Keypair::generate_ed25519(),
                listener,
            )
        });
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            daemon::notice(&format!("{error}"));
            ExitCode::FAILURE
        }
    }
}
