//! Hosts with public addresses, and NATs between them: network namespaces on one bridge, without
//! a way out. They need root, `ip` and, for a NAT, `nft`.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Launch;

/// A network namespace, there for as long as this is.
#[derive(Debug)]
pub struct Host {
    holder: Child,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Host {
    /// None where that is not allowed.
    fn new() -> Option<Self> {
        let holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut host = Self { holder };
        let mut line = [0];
        let output = host.holder.stdout.as_mut()?;
        std::io::Read::read_exact(output, &mut line).ok()?;
        Some(host)
    }

    /// Runs a shell script in the namespace.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, script: &str) {
        let status = self
            .command("sh")
            .args(["-e", "-c", script])
            .status()
            .expect("nsenter");
        assert!(status.success(), "{script}");
    }

    /// A command that runs `program` in the namespace.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.holder.id()));
        command.args(["--net", program]);
        command
    }

    /// A daemon in the namespace. Its control socket is reached from everywhere.
    #[must_use]
    pub fn launch(&self) -> Launch {
        self.enter(Launch::new())
    }

    /// Another program in the namespace, in the place of the daemon under test.
    #[must_use]
    pub fn launch_program(&self, program: impl AsRef<std::path::Path>) -> Launch {
        self.enter(Launch::new().binary(program))
    }

    /// `launch` in the namespace. The program is the one that it has so far.
    #[must_use]
    pub fn enter(&self, launch: Launch) -> Launch {
        let pid = self.holder.id();
        launch.shell(&format!("exec nsenter --target={pid} --net \"$0\" \"$@\""))
    }
}

/// The bridge.
#[derive(Debug)]
pub struct Lab {
    bridge: Host,
    cables: AtomicUsize,
}

impl Lab {
    /// None where that is not allowed, after saying so.
    #[must_use]
    pub fn new() -> Option<Self> {
        let root = rustix::process::geteuid().is_root();
        let bridge = if root { Host::new() } else { None };
        let Some(bridge) = bridge else {
            assert!(std::env::var_os("CI").is_none(), "no network namespaces");
            eprintln!("skipped: no network namespaces");
            return None;
        };
        bridge.run("ip link add br0 type bridge && ip link set br0 up");
        Some(Self {
            bridge,
            cables: AtomicUsize::new(0),
        })
    }

    /// A host with `address` (and prefix length) on the bridge, as `wan`.
    #[must_use]
    pub fn host(&self, address: &str) -> Host {
        let host = Host::new().expect("a namespace");
        let number = self.cables.fetch_add(1, Ordering::Relaxed);
        let pid = host.holder.id();
        self.bridge.run(&format!(
            "ip link add c{number} type veth peer name wan netns {pid}
             ip link set c{number} master br0 up"
        ));
        host.run(&format!(
            "ip addr add {address} dev wan
             ip link set wan up"
        ));
        host
    }

    /// A router with `address` on the bridge, and a host behind it that has
    /// `192.168.<net>.2`. The NAT lets in what answers, and nothing else.
    #[must_use]
    pub fn behind_nat(&self, address: &str, net: u8) -> (Host, Host) {
        self.behind(Nat::Port, address, net)
    }

    /// As [`Lab::behind_nat`], with a NAT of this kind.
    #[must_use]
    pub fn behind(&self, nat: Nat, address: &str, net: u8) -> (Host, Host) {
        let router = self.host(address);
        let inside = Host::new().expect("a namespace");
        router.run(&format!(
            "ip link add lan type veth peer name eth0 netns {}
             ip addr add 192.168.{net}.1/24 dev lan
             ip link set lan up
             sysctl -qw net.ipv4.ip_forward=1
             nft -f - <<'RULES'\n{}\nRULES",
            inside.holder.id(),
            nat.rules(net)
        ));
        inside.run(&format!(
            "ip addr add 192.168.{net}.2/24 dev eth0
             ip link set eth0 up
             ip route add default via 192.168.{net}.1"
        ));
        (router, inside)
    }
}

/// What a NAT lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// Everybody: full cone.
    Full,
    /// Hosts that were sent to.
    Address,
    /// Ports that were sent to.
    Port,
    /// As [`Nat::Port`], with another port for each destination: symmetric.
    Symmetric,
}

impl Nat {
    pub const ALL: [Self; 4] = [Self::Full, Self::Address, Self::Port, Self::Symmetric];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Address => "addr",
            Self::Port => "port",
            Self::Symmetric => "sym",
        }
    }

    /// The rules of a router to `192.168.<net>.2`.
    fn rules(self, net: u8) -> String {
        let host = format!("192.168.{net}.2");
        let transports = "meta l4proto { tcp, udp }";
        let answers = "iifname wan ct state established,related accept\niifname lan accept";
        let (pre, post, forward) = match self {
            Self::Full => (
                format!("iifname wan {transports} @th,16,16 >= 1024 dnat to {host}"),
                "",
                "accept",
            ),
            Self::Address => (
                format!("iifname wan ip saddr @seen {transports} dnat to {host}"),
                "",
                "iifname lan update @seen { ip daddr }
                 iifname lan accept
                 iifname wan ip saddr @seen accept
                 ct state established,related accept",
            ),
            Self::Port => (String::new(), "", answers),
            Self::Symmetric => (String::new(), "random,fully-random", answers),
        };
        // What is not answered must not be refused either: a reset ends a tcp dial.
        format!(
            "table ip t {{
               set seen {{ type ipv4_addr; flags timeout; timeout 3m; }}
               chain pre {{ type nat hook prerouting priority -100
                 {pre}
               }}
               chain post {{ type nat hook postrouting priority 100
                 oifname wan masquerade {post}
               }}
               chain forw {{ type filter hook forward priority 0; policy drop
                 {forward}
               }}
               chain inp {{ type filter hook input priority 0; policy drop
                 iifname lan accept
                 ct state established,related accept
               }}
             }}"
        )
    }
}
