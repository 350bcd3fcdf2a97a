//! The `rp2pd` program.

use std::{process::ExitCode, time::Duration};

use libp2p::identity::Keypair;
use rp2pd::{
    banner,
    cli::{self, Args, Command, KeygenArgs},
    config::Config,
    control::listener::Listener,
    daemon::{self, End},
    healthcheck, identity,
    telemetry::{self, operator_line},
};

/// The swarm is gone: a fault of the program (`EX_SOFTWARE`).
const SWARM_LOST: u8 = 70;

/// How long the last log lines may take when nobody reads them.
const LOG_FLUSH: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Command::Daemon(args)) if args.version => {
            banner::print(concat!("rp2pd ", env!("CARGO_PKG_VERSION"), "\n"));
            ExitCode::SUCCESS
        }
        Ok(Command::Daemon(args)) => exit(start(&args)),
        Ok(Command::Keygen(args)) => exit(keygen(&args)),
        Err(stop) => {
            telemetry::raw_text(&stop.text);
            ExitCode::from(stop.code)
        }
    }
}

/// The reason of a failure is the last line of stderr: Hivemind shows that one to its user.
fn exit(result: anyhow::Result<u8>) -> ExitCode {
    result.map_or_else(
        |error| {
            operator_line(&error.to_string());
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

fn start(args: &Args) -> anyhow::Result<u8> {
    let config = Config::load(args)?;
    if args.healthcheck {
        healthcheck::run(&config.listen)?;
        return Ok(0);
    }
    for notice in &config.notices {
        operator_line(notice);
    }
    let keypair = match &config.identity_file {
        Some(path) => {
            let loaded = identity::load(path)?;
            if let Some(warning) = loaded.warning {
                operator_line(&warning);
            }
            loaded.keypair
        }
        None => Keypair::generate_ed25519(),
    };
    if args.validate {
        return Ok(0);
    }
    // Before any thread exists: binding sets the umask for a moment.
    let listener = Listener::bind(&config.listen, config.listen_mode, config.listen_group)?;
    let logs = telemetry::init();
    let end = daemon::run(&config, &keypair, listener);
    logs.flush(LOG_FLUSH);
    Ok(match end? {
        End::Clean => 0,
        End::Forced => 1,
        End::SwarmLost => SWARM_LOST,
    })
}

fn keygen(args: &KeygenArgs) -> anyhow::Result<u8> {
    let peer = identity::generate(args)?;
    banner::print(&format!("Peer ID: {peer}\n"));
    Ok(0)
}
