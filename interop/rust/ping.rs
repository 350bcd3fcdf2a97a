//! A rust-libp2p node for the matrix on this machine:
//!
//! ```text
//! ping listen TRANSPORT SECURITY MUXER          prints its address, serves until it is ended
//! ping dial TRANSPORT SECURITY MUXER ADDRESS    prints two numbers, in milliseconds: from the
//!                                               dial to the first answer, and one round trip
//! ```
//!
//! The library's own transports, muxers and ping, none of rp2pd's.

use std::error::Error;
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncWrite, StreamExt as _};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, SwarmBuilder, Transport, identify, noise, ping, quic, tcp, tls, websocket,
};
use libp2p_mplex::Config as Mplex;
use libp2p_yamux::Config as Yamux;

type Failure = Box<dyn Error + Send + Sync>;
type Connected = Boxed<(PeerId, StreamMuxerBox)>;

const PATIENCE: Duration = Duration::from_secs(60);

/// Daemons take nobody who does not answer identify.
#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

impl Behaviour {
    fn new(keys: &Keypair) -> Self {
        let identify = identify::Config::new("/interop/1.0.0".into(), keys.public());
        Self {
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping::Config::new()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let (job, link) = words.split_first().ok_or("listen or dial")?;
    let [transport, security, muxer, address @ ..] = link else {
        return Err("TRANSPORT SECURITY MUXER".into());
    };
    let keys = Keypair::generate_ed25519();
    let mut swarm = SwarmBuilder::with_existing_identity(keys)
        .with_tokio()
        .with_other_transport(|keys| connected(keys, transport, security, muxer))?
        .with_behaviour(Behaviour::new)?
        .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
        .build();
    let (me, begin) = (*swarm.local_peer_id(), Instant::now());
    match (*job, address) {
        ("listen", []) => drop(swarm.listen_on(listen(transport).parse()?)?),
        ("dial", [address]) => swarm.dial(address.parse::<Multiaddr>()?)?,
        _ => return Err("listen, or dial with an address".into()),
    }
    loop {
        let event = swarm.select_next_some();
        let event = match *job {
            "dial" => tokio::time::timeout(PATIENCE, event).await?,
            _ => event.await,
        };
        match event {
            SwarmEvent::NewListenAddr { address, .. } => println!("{address}/p2p/{me}"),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping)) if *job == "dial" => {
                let (all, one) = (begin.elapsed(), ping.result?);
                println!("{} {}", milliseconds(all), milliseconds(one));
                return Ok(());
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn listen(transport: &str) -> &'static str {
    match transport {
        "ws" => "/ip4/127.0.0.1/tcp/0/ws",
        "quic-v1" => "/ip4/127.0.0.1/udp/0/quic-v1",
        _ => "/ip4/127.0.0.1/tcp/0",
    }
}

fn connected(
    keys: &Keypair,
    transport: &str,
    security: &str,
    muxer: &str,
) -> Result<Connected, Failure> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    match transport {
        "tcp" => upgraded(tcp, keys, security, muxer),
        "ws" => upgraded(websocket::Config::new(tcp), keys, security, muxer),
        "quic-v1" => {
            let quic = quic::tokio::Transport::new(quic::Config::new(keys));
            Ok(quic
                .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
                .boxed())
        }
        _ => Err(format!("no transport {transport:?}").into()),
    }
}

fn upgraded<T>(
    transport: T,
    keys: &Keypair,
    security: &str,
    muxer: &str,
) -> Result<Connected, Failure>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    let upgrade = transport.upgrade(Version::V1);
    Ok(match (security, muxer) {
        ("noise", "yamux") => upgrade
            .authenticate(noise::Config::new(keys)?)
            .multiplex(Yamux::default())
            .boxed(),
        ("noise", "mplex") => upgrade
            .authenticate(noise::Config::new(keys)?)
            .multiplex(Mplex::default())
            .boxed(),
        ("tls", "yamux") => upgrade
            .authenticate(tls::Config::new(keys)?)
            .multiplex(Yamux::default())
            .boxed(),
        ("tls", "mplex") => upgrade
            .authenticate(tls::Config::new(keys)?)
            .multiplex(Mplex::default())
            .boxed(),
        _ => return Err(format!("no {security:?} with {muxer:?}").into()),
    })
}
