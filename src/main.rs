use rp2pd::{config::*, control::listener::Listener, wire::maddr::*, daemon};
fn main() {
    let mut c = Config { listen: ControlAddr::parse("/unix/tmp/p2pd.sock").unwrap(), listen_mode: 0o600, listen_group: None, quiet: false, identity_file: None, host_addrs: vec![], announce_addrs: vec![], no_listen: false, noise: true, tls: true, plaintext: false, muxer: Muxer::Yamux, echo: true, max_frame: 4<<20, shutdown_grace: std::time::Duration::from_secs(5) };
    for a in std::env::args().skip(1) {
        let (k, v) = a.trim_start_matches('-').split_once('=').map(|(a,b)|(a.to_string(),b.to_string())).unwrap_or((a.trim_start_matches('-').to_string(), "true".into()));
        match k.as_str() {
            "listen" => c.listen = ControlAddr::parse(&v).unwrap(),
            "hostAddrs" => c.host_addrs = v.split(',').map(|x| parse_multiaddr(x).unwrap()).collect(),
            "noise" => c.noise = v == "true", "tls" => c.tls = v == "true", "plaintext" => c.plaintext = v == "true",
            "muxer" => if v == "mplex" { c.muxer = Muxer::Mplex },
            "q" => c.quiet = true,
            _ => {}
        }
    }
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_writer(std::io::stderr).init();
    let l = Listener::bind(&c.listen, c.listen_mode, None).unwrap();
    let e = daemon::run(&c, &libp2p::identity::Keypair::generate_ed25519(), l);
    eprintln!("{e:?}");
}
