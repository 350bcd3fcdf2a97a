//! UPnP Internet Gateway Devices, versions 1 and 2.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use rand::Rng as _;
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    error::MappingError,
    http::{element, exchange},
};
use crate::{fixed_limits::fixed_limit, node::Port};

/// Where devices are searched for.
const MULTICAST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);

/// Kinds of devices and services to search for: routers answer one or the other.
const WANTED: [&str; 4] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "upnp:rootdevice",
];

/// When a search is repeated: datagrams get lost.
const REPETITIONS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// Time for answers after the last repetition.
const WAIT: Duration = Duration::from_secs(2);

/// Descriptions fetched in one search (SECURITY.md 3).
const MAX_DESCRIPTIONS: usize = 4;
fixed_limit!(
    "port mapping: descriptions fetched in one search",
    MAX_DESCRIPTIONS
);

/// Ports tried while those before are taken.
const MAX_TRIES: usize = 4;

/// The port is taken (`ConflictInMappingEntry`).
const CONFLICT: u16 = 718;

/// A router's service that maps ports.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Igd {
    control: SocketAddrV4,
    path: String,
    service: String,
    /// This host's address towards the router.
    own: Ipv4Addr,
}

impl Igd {
    /// Searches for the service at `gateway`. What others answer is not looked at.
    pub(super) async fn find(gateway: Ipv4Addr) -> Result<Self, MappingError> {
        let own = own_address(gateway).await?;
        let socket = UdpSocket::bind((own, 0)).await?;
        let begun = Instant::now();
        let mut seen: Vec<(SocketAddrV4, String)> = Vec::new();
        let mut searched = 0;
        let mut buffer = [0; 2048];
        loop {
            let next = REPETITIONS.get(searched).map(|after| begun + *after);
            let until = next.unwrap_or(begun + REPETITIONS[REPETITIONS.len() - 1] + WAIT);
            match timeout_at(until, socket.recv_from(&mut buffer)).await {
                Ok(Ok((length, from))) => {
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    let Some(at) = location(&text, gateway).filter(|_| from.ip() == gateway) else {
                        continue;
                    };
                    if seen.contains(&at) || seen.len() >= MAX_DESCRIPTIONS {
                        continue;
                    }
                    if let Ok(found) = describe(&at, own).await {
                        return Ok(found);
                    }
                    seen.push(at);
                }
                // An ICMP error of an earlier datagram.
                Ok(Err(_)) => sleep_until(until).await,
                Err(_) if next.is_some() => {
                    search(&socket, gateway).await?;
                    searched += 1;
                }
                Err(_) => return Err(MappingError::NoAnswer),
            }
        }
    }

    pub(super) async fn external_ip(&self) -> Result<Ipv4Addr, MappingError> {
        let answer = self.call("GetExternalIPAddress", "").await?;
        let ip = element(&answer, "NewExternalIPAddress").and_then(|ip| ip.parse().ok());
        ip.ok_or(MappingError::Malformed)
    }

    pub(super) async fn map(
        &self,
        port: Port,
        wanted: u16,
        lifetime: Duration,
    ) -> Result<u16, MappingError> {
        let mut external = wanted;
        for _ in 0..MAX_TRIES {
            let arguments = format!(
                "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort>\
                 <NewProtocol>{}</NewProtocol><NewInternalPort>{}</NewInternalPort>\
                 <NewInternalClient>{}</NewInternalClient><NewEnabled>1</NewEnabled>\
                 <NewPortMappingDescription>libp2p</NewPortMappingDescription>\
                 <NewLeaseDuration>{}</NewLeaseDuration>",
                if port.udp { "UDP" } else { "TCP" },
                port.number,
                self.own,
                lifetime.as_secs(),
            );
            match self.call("AddPortMapping", &arguments).await {
                Ok(_) => return Ok(external),
                Err(MappingError::Refused(CONFLICT)) => {
                    external = rand::rng().random_range(10_000..60_000);
                }
                Err(error) => return Err(error),
            }
        }
        Err(MappingError::Refused(CONFLICT))
    }

    async fn call(&self, action: &str, arguments: &str) -> Result<String, MappingError> {
        let Self { path, service, .. } = self;
        let head = format!(
            "POST {path} HTTP/1.1\r\nContent-Type: text/xml; charset=\"utf-8\"\r\n\
             SOAPAction: \"{service}#{action}\"\r\n"
        );
        let body = format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope \
             xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action} xmlns:u=\"{service}\">{arguments}</u:{action}></s:Body></s:Envelope>\r\n"
        );
        let answer = exchange(self.control, &head, &body).await?;
        if answer.status == 200 {
            return Ok(answer.text);
        }
        let code = element(&answer.text, "errorCode").and_then(|code| code.parse().ok());
        Err(MappingError::Refused(code.unwrap_or(answer.status)))
    }
}

/// This host's address on the way to `gateway`. Nothing is sent.
async fn own_address(gateway: Ipv4Addr) -> Result<Ipv4Addr, MappingError> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect((gateway, MULTICAST.port())).await?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(own) => Ok(own),
        IpAddr::V6(_) => Err(MappingError::NoGateway),
    }
}

/// Asks everybody, and the router by its address: some answer one alone.
async fn search(socket: &UdpSocket, gateway: Ipv4Addr) -> Result<(), MappingError> {
    for wanted in WANTED {
        let request = format!(
            "M-SEARCH * HTTP/1.1\r\nHOST: {MULTICAST}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
             ST: {wanted}\r\n\r\n"
        );
        socket.send_to(request.as_bytes(), MULTICAST).await?;
        let direct = SocketAddrV4::new(gateway, MULTICAST.port());
        socket.send_to(request.as_bytes(), direct).await?;
    }
    Ok(())
}

/// Where an answer says that the description is, if that is on `gateway`.
fn location(answer: &str, gateway: Ipv4Addr) -> Option<(SocketAddrV4, String)> {
    let url = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location")
            .then_some(value.trim())
    })?;
    at(url, gateway)
}

/// The parts of a URL on `gateway`, whose path has no characters but visible ASCII ones.
fn at(url: &str, gateway: Ipv4Addr) -> Option<(SocketAddrV4, String)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = match host.contains(':') {
        true => host.parse().ok()?,
        false => SocketAddrV4::new(host.parse().ok()?, 80),
    };
    let path = if path.is_empty() { "/" } else { path };
    let harmless = path.bytes().all(|byte| byte.is_ascii_graphic());
    (*host.ip() == gateway && harmless).then(|| (host, path.to_owned()))
}

/// Reads the description at `place`.
async fn describe(place: &(SocketAddrV4, String), own: Ipv4Addr) -> Result<Igd, MappingError> {
    let (server, path) = place;
    let answer = exchange(*server, &format!("GET {path} HTTP/1.1\r\n"), "").await?;
    if answer.status != 200 {
        return Err(MappingError::Refused(answer.status));
    }
    service(&answer.text, *server, own).ok_or(MappingError::Malformed)
}

/// The service in a description that maps ports.
fn service(description: &str, server: SocketAddrV4, own: Ipv4Addr) -> Option<Igd> {
    let services = description.split("<service>").skip(1);
    let mut found = services.filter_map(|text| {
        let kind = element(text, "serviceType")?;
        let name = kind.strip_prefix("urn:schemas-upnp-org:service:")?;
        let (name, version) = name.split_once(':')?;
        let known = matches!(name, "WANIPConnection" | "WANPPPConnection");
        (known && matches!(version, "1" | "2")).then_some(())?;
        let url = element(text, "controlURL")?;
        let (control, path) = match url.strip_prefix('/') {
            Some(_) => at(&format!("http://{server}{url}"), *server.ip())?,
            None if url.contains("://") => at(url, *server.ip())?,
            None => at(&format!("http://{server}/{url}"), *server.ip())?,
        };
        Some(Igd {
            control,
            path,
            service: kind.to_owned(),
            own,
        })
    });
    found.next()
}

#[cfg(test)]
mod tests;
