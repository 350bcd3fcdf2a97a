//! A client of the control socket: blocking, one request at a time.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use rp2pd::wire::frame::{self, DEFAULT_MAX_FRAME};
use rp2pd::wire::pb::{self, dht_request, dht_response, ps_request, request, response};

/// Longest wait for any answer: a daemon that hangs fails its measurement, not the run.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of messages read at once.
const FEED_CHUNK: usize = 128 * 1024;

/// Code of `/unix` in a binary multiaddr.
const UNIX_CODE: u64 = 400;

/// A peer as IDENTIFY describes it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) id: Bytes,
    pub(crate) addrs: Vec<Bytes>,
}

/// A control connection in request mode.
#[derive(Debug)]
pub(crate) struct Control {
    socket: UnixStream,
    received: BytesMut,
}

impl Control {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let socket = UnixStream::connect(path).context("connect to the control socket")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            received: BytesMut::new(),
        })
    }

    pub(crate) fn identify(&mut self) -> Result<Peer> {
        let answer = self.call(&request(request::Type::Identify))?;
        let identify = answer.identify.context("IDENTIFY without identify")?;
        Ok(Peer {
            id: identify.id,
            addrs: identify.addrs,
        })
    }

    pub(crate) fn connect(&mut self, peer: &Peer) -> Result<()> {
        let mut call = request(request::Type::Connect);
        call.connect = Some(pb::ConnectRequest {
            peer: Some(peer.id.clone()),
            addrs: peer.addrs.clone(),
            timeout: Some(20),
        });
        self.call(&call).context("CONNECT").map(drop)
    }

    pub(crate) fn disconnect(&mut self, peer: &Peer) -> Result<()> {
        let mut call = request(request::Type::Disconnect);
        call.disconnect = Some(pb::DisconnectRequest {
            peer: Some(peer.id.clone()),
        });
        self.call(&call).context("DISCONNECT").map(drop)
    }

    /// Makes the daemon hand streams of `proto` to the unix socket `listener`.
    pub(crate) fn handle(&mut self, proto: &str, listener: &Path) -> Result<()> {
        let path = listener.as_os_str().as_bytes();
        let mut addr = BytesMut::new();
        for number in [UNIX_CODE, path.len() as u64] {
            let mut buffer = unsigned_varint::encode::u64_buffer();
            addr.put_slice(unsigned_varint::encode::u64(number, &mut buffer));
        }
        addr.put_slice(path);
        let mut call = request(request::Type::StreamHandler);
        call.stream_handler = Some(pb::StreamHandlerRequest {
            addr: Some(addr.freeze()),
            proto: vec![proto.to_owned().into()],
            // Hivemind's daemon closes the connection if it is absent.
            balanced: Some(false),
        });
        self.call(&call).context("STREAM_HANDLER").map(drop)
    }

    /// Turns the connection into a stream to `peer`.
    pub(crate) fn stream(mut self, peer: &Peer, proto: &str) -> Result<UnixStream> {
        let mut call = request(request::Type::StreamOpen);
        call.stream_open = Some(pb::StreamOpenRequest {
            peer: Some(peer.id.clone()),
            proto: vec![proto.to_owned().into()],
            timeout: Some(20),
        });
        self.call(&call).context("STREAM_OPEN")?;
        // The handlers of the load generator never speak first.
        ensure!(
            self.received.is_empty(),
            "unexpected bytes after STREAM_OPEN"
        );
        Ok(self.socket)
    }

    pub(crate) fn publish(&mut self, topic: &str, data: &[u8]) -> Result<()> {
        let data = Some(Bytes::copy_from_slice(data));
        let call = pubsub(ps_request::Type::Publish, topic, data);
        self.call(&call).context("PUBLISH").map(drop)
    }

    /// Turns the connection into a subscription that ends after `quiet` without a message.
    pub(crate) fn subscribe(mut self, topic: &str, quiet: Duration) -> Result<Feed> {
        let call = pubsub(ps_request::Type::Subscribe, topic, None);
        self.call(&call).context("SUBSCRIBE")?;
        self.socket.set_read_timeout(Some(quiet))?;
        let (socket, received) = (self.socket, self.received);
        Ok(Feed { socket, received })
    }

    /// Turns the connection into a persistent one: its socket, and what came already.
    pub(crate) fn upgrade(mut self) -> Result<(UnixStream, BytesMut)> {
        self.call(&request(request::Type::PersistentConnUpgrade))
            .context("PERSISTENT_CONN_UPGRADE")?;
        Ok((self.socket, self.received))
    }

    pub(crate) fn find_peer(&mut self, peer: &Peer) -> Result<()> {
        let mut query = query(dht_request::Type::FindPeer);
        query.peer = Some(peer.id.clone());
        self.dht(query).context("FIND_PEER").map(drop)
    }

    /// How many there are.
    pub(crate) fn closest_peers(&mut self, key: &[u8]) -> Result<usize> {
        let mut query = query(dht_request::Type::GetClosestPeers);
        query.key = Some(Bytes::copy_from_slice(key));
        self.dht_stream(query).context("GET_CLOSEST_PEERS")
    }

    pub(crate) fn provide(&mut self, cid: &Bytes) -> Result<()> {
        let mut query = query(dht_request::Type::Provide);
        query.cid = Some(cid.clone());
        self.dht(query).context("PROVIDE").map(drop)
    }

    /// How many were found, at most `count`.
    pub(crate) fn find_providers(&mut self, cid: &Bytes, count: i32) -> Result<usize> {
        let mut query = query(dht_request::Type::FindProviders);
        query.cid = Some(cid.clone());
        query.count = Some(count);
        self.dht_stream(query).context("FIND_PROVIDERS")
    }

    pub(crate) fn put_value(&mut self, key: &Bytes, value: &Bytes) -> Result<()> {
        let mut query = query(dht_request::Type::PutValue);
        query.key = Some(key.clone());
        query.value = Some(value.clone());
        self.dht(query).context("PUT_VALUE").map(drop)
    }

    pub(crate) fn get_value(&mut self, key: &Bytes) -> Result<Bytes> {
        let mut query = query(dht_request::Type::GetValue);
        query.key = Some(key.clone());
        let answer = self.dht(query).context("GET_VALUE")?;
        let value = answer.and_then(|answer| answer.value);
        value.context("GET_VALUE without a value")
    }

    fn dht(&mut self, query: pb::DhtRequest) -> Result<Option<pb::DhtResponse>> {
        let mut call = request(request::Type::Dht);
        call.dht = Some(query);
        Ok(self.call(&call)?.dht)
    }

    /// How many values came before END.
    fn dht_stream(&mut self, query: pb::DhtRequest) -> Result<usize> {
        let begin = self.dht(query)?.context("no BEGIN")?;
        ensure!(begin.r#type() == dht_response::Type::Begin, "no BEGIN");
        let mut count = 0;
        loop {
            let frame = read_frame(&mut self.socket, &mut self.received)?;
            if pb::DhtResponse::decode(frame)?.r#type() == dht_response::Type::End {
                return Ok(count);
            }
            count += 1;
        }
    }

    fn call(&mut self, request: &pb::Request) -> Result<pb::Response> {
        self.socket.write_all(&frame::encode(request))?;
        let answer = read_frame(&mut self.socket, &mut self.received)?;
        let answer = pb::Response::decode(answer)?;
        if answer.r#type() == response::Type::Error {
            bail!("{}", answer.error.unwrap_or_default().msg);
        }
        Ok(answer)
    }
}

fn query(kind: dht_request::Type) -> pb::DhtRequest {
    pb::DhtRequest {
        r#type: Some(kind as i64),
        ..Default::default()
    }
}

fn pubsub(kind: ps_request::Type, topic: &str, data: Option<Bytes>) -> pb::Request {
    let mut call = request(request::Type::Pubsub);
    call.pubsub = Some(pb::PsRequest {
        r#type: Some(kind as i64),
        topic: Some(topic.to_owned().into()),
        data,
    });
    call
}

/// A subscription.
#[derive(Debug)]
pub(crate) struct Feed {
    socket: UnixStream,
    received: BytesMut,
}

impl Feed {
    /// The next message's payload; none if it is quiet.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(frame) = frame::take(&mut self.received, DEFAULT_MAX_FRAME)? {
                return Ok(Some(pb::PsMessage::decode(frame)?.data.unwrap_or_default()));
            }
            let held = self.received.len();
            self.received.resize(held + FEED_CHUNK, 0);
            let read = self.socket.read(&mut self.received[held..]);
            self.received.truncate(held + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => bail!("the subscription has ended"),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).context("read a message"),
            }
        }
    }
}

fn request(kind: request::Type) -> pb::Request {
    pb::Request {
        r#type: Some(kind as i64),
        ..Default::default()
    }
}

/// Reads one frame; what follows it stays in `received`.
pub(crate) fn read_frame(socket: &mut impl Read, received: &mut BytesMut) -> Result<Bytes> {
    let mut chunk = [0; 4096];
    loop {
        if let Some(frame) = frame::take(received, DEFAULT_MAX_FRAME)? {
            return Ok(frame);
        }
        let count = socket.read(&mut chunk).context("read a frame")?;
        ensure!(count > 0, "closed before a whole frame");
        received.put_slice(&chunk[..count]);
    }
}
