//! The `rp2pd` program: picks what to do and turns its end into an exit code.

// As in the library.
#![warn(
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod allocator;

use std::{io::Write as _, process::ExitCode, time::Duration};

use rp2pd::{
    cli::{self, Args, Command},
    config::Config,
    control::listener::Listener,
    daemon, healthcheck,
    identity::{self, Keypair},
    private_network, refusal,
    settings::Source,
    status::command,
    systemd, telemetry, validate,
    wire::maddr::ControlAddr,
    wss,
};

/// Time for the last lines to reach a slow reader. Clients show the last line of stderr as the
/// reason of a failed start.
const LAST_WORDS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
    allocator::configure();
    let result = match cli::parse(std::env::args_os()) {
        Ok(Command::Daemon(args)) if args.given.version == Some(true) => version(),
        Ok(Command::Daemon(args)) if args.given.healthcheck == Some(true) => check_health(&args),
        Ok(Command::Daemon(args)) => run(&args),
        Ok(Command::Ask(args, question)) => ask(&args, &question),
        Ok(Command::Keygen(args)) => keygen(&args),
        Ok(Command::Print(text)) => print(&text),
        Err(stop) => {
            // Nobody may be left to read it.
            let _ = std::io::stderr().write_all(stop.text.as_bytes());
            return ExitCode::from(stop.code);
        }
    };
    let code = result.unwrap_or_else(|error| {
        let text = refusal::text(&error);
        // Clients of a daemon show the last line of stderr as why it has not started.
        match error.is::<command::CommandError>() {
            true => telemetry::operator_lines(&text),
            false => telemetry::operator_line(&text),
        }
        ExitCode::FAILURE
    });
    telemetry::flush(LAST_WORDS);
    code
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn version() -> anyhow::Result<ExitCode> {
    print(&cli::version())
}

fn check_health(args: &Args) -> anyhow::Result<ExitCode> {
    healthcheck::check(&Config::load(args)?.listen)?;
    Ok(ExitCode::SUCCESS)
}

/// Pings that `ping` sends.
const PINGS: u32 = 4;

fn ask(args: &Args, question: &cli::Question) -> anyhow::Result<ExitCode> {
    let daemon = Config::load(args)?.listen;
    let tell = |line: String| {
        // Nobody may be left to read it.
        let _ = writeln!(std::io::stdout(), "{line}");
    };
    match question {
        cli::Question::Status { json } => print(&command::status(&daemon, *json)?),
        cli::Question::Probe(targets) => {
            command::probe(&daemon, targets, tell)?;
            Ok(ExitCode::SUCCESS)
        }
        cli::Question::Ping(target) => {
            command::ping(&daemon, target, PINGS, tell)?;
            Ok(ExitCode::SUCCESS)
        }
        cli::Question::Forward {
            name,
            peer,
            listen,
            keep,
        } => {
            command::forward(&daemon, name, peer, listen.as_deref(), *keep, tell)?;
            Ok(ExitCode::SUCCESS)
        }
        cli::Question::Expose {
            name,
            target,
            allow,
            keep,
        } => {
            command::expose(&daemon, name, target, allow, *keep, tell)?;
            Ok(ExitCode::SUCCESS)
        }
        cli::Question::Call { verb, part } => call(&daemon, verb, part),
        cli::Question::Tunnels => print(&command::list(&daemon)?),
        cli::Question::CloseTunnels(ids) => {
            command::close(&daemon, ids)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// 0 for OK, 1 for an ERROR, 2 for what is no request, 3 without an answer.
fn call(daemon: &ControlAddr, verb: &str, part: &str) -> anyhow::Result<ExitCode> {
    let tell = |line: String| writeln!(std::io::stdout(), "{line}");
    let code = match command::call(daemon, verb, part, tell) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            let code = match error {
                command::CommandError::Call(_) | command::CommandError::Stream => 2,
                _ => 3,
            };
            telemetry::operator_lines(&refusal::text(&error.into()));
            code
        }
    };
    Ok(ExitCode::from(code))
}

fn keygen(args: &cli::KeygenArgs) -> anyhow::Result<ExitCode> {
    let peer = identity::generate(args)?;
    writeln!(std::io::stdout(), "Peer ID: {peer}")?;
    // Programs read stdout; nobody may be left to read this.
    let path = std::path::absolute(&args.file).unwrap_or_else(|_| args.file.clone());
    let _ = writeln!(std::io::stderr(), "Key file: {}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // Before there are threads.
    let inherited = systemd::control_socket()?;
    let config = Config::load(args)?;
    let keypair = match &config.identity_file {
        Some(path) => {
            if config.create_identity && args.given.validate != Some(true) {
                identity::create_if_missing(path)?;
            }
            let loaded = identity::load(path)?;
            loaded
                .warning
                .iter()
                .for_each(|text| telemetry::operator_line(text));
            loaded.keypair
        }
        None => Keypair::generate_ed25519(),
    };
    let network = config.pnet_key.as_deref().map(private_network::load);
    let network = network.transpose()?;
    let (wss, warnings) = wss::load(&config.wss)?;
    for notice in config.notices.iter().chain(&warnings) {
        telemetry::operator_line(notice);
    }
    if args.given.validate == Some(true) {
        let table = validate::table(&config, daemon::system(&config));
        // The exit code is the answer; nobody may be left to read the table.
        let _ = std::io::stdout().write_all(table.as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    let logs = telemetry::init();
    let listener = match inherited {
        Some(inherited) => {
            let listener = Listener::inherited(inherited)?;
            if config.sources.source("listen") != Source::Default
                && *listener.addr() != config.listen
            {
                telemetry::operator_line(&format!(
                    "the service manager has passed the socket {}: -listen={} is not used",
                    listener.addr(),
                    config.listen
                ));
            }
            listener
        }
        None => Listener::bind(&config.listen, config.listen_mode, config.listen_group)?,
    };
    let secrets = daemon::Secrets {
        keypair,
        network,
        wss,
    };
    let end = daemon::run(&config, &secrets, listener);
    logs.flush(LAST_WORDS);
    Ok(match end? {
        daemon::End::Clean | daemon::End::Forced => ExitCode::SUCCESS,
        daemon::End::SwarmLost => ExitCode::from(70),
    })
}
