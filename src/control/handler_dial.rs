//! Inbound streams to the sockets of the clients that handle them (COMPATIBILITY.md 5.2).

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
use libp2p::PeerId;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    dial_turn::{DIAL_TIMEOUT, turn},
    guard::Guard,
    persistent::Connections,
    pipe::Pipe,
    socket::Socket,
};
use crate::{
    descriptors::{Descriptors, HANDLER_RESERVE},
    events::{Event, Events, Kind},
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    shutdown::Drain,
    streams::{InboundStream, Listening, ProtocolName, Serve, Target, UserStream},
    telemetry::Chain,
    wire::{frame, pb},
};

/// Handler dials under way (SECURITY.md 3); a stream beyond waits as long as one may take, then it
/// is reset.
pub(crate) const MAX_DIALS: usize = 1024;
fixed_limit!("handler connections being made", MAX_DIALS);

/// Bytes echoed at once.
const ECHO_CHUNK: usize = 16 * 1024;

/// Serves inbound streams by dialing their handlers as far as `guard` allows, or by handing
/// calls to those of `persistent`, as long as `descriptors` has more than the reserve. Once
/// `closing` is cancelled, streams whose handler has not been reached are reset.
#[must_use]
pub fn serve(
    guard: Arc<Guard>,
    persistent: Arc<Connections>,
    descriptors: Descriptors,
    events: Events,
    closing: CancellationToken,
    drain: Drain,
) -> Serve {
    let shared = Arc::new(Shared {
        guard,
        persistent,
        descriptors,
        events,
        closing,
        drain,
        dials: Semaphore::new(MAX_DIALS),
    });
    Box::new(move |inbound| {
        // Boxed before the rest, so that what lasts does not carry the larger state of the dial
        // along.
        let dial = Box::pin(handler_dial(inbound, shared.clone()));
        async move {
            let pipe = match dial.await {
                Some(Lasting::Pipe(pipe)) => pipe,
                Some(Lasting::Echo(stream)) => {
                    if let Err(error) = Box::pin(echo(stream)).await {
                        tracing::debug!(%error, "echo ended");
                    }
                    return;
                }
                None => return,
            };
            pipe.await;
        }
        .boxed()
    })
}

/// What a stream is used for, once that is settled. Every peer that pings has one.
enum Lasting {
    Pipe(Pipe),
    Echo(UserStream),
}

/// What all inbound streams share.
struct Shared {
    guard: Arc<Guard>,
    persistent: Arc<Connections>,
    descriptors: Descriptors,
    events: Events,
    dials: Semaphore,
    closing: CancellationToken,
    drain: Drain,
}

impl Shared {
    /// A connection to a handler, for a stream that `peer` has opened.
    async fn reach(
        &self,
        handler: &Listening,
        peer: PeerId,
        protocol: &ProtocolName,
    ) -> Option<Socket> {
        let connect = self.guard.connect(handler.origin, &handler.addr);
        let reason = match timeout(DIAL_TIMEOUT, connect).await {
            Ok(Ok(socket)) => return Some(socket),
            Ok(Err(error)) => {
                tracing::debug!(%peer, %protocol, handler = %handler.addr, error = %Chain(&error), "handler unreachable");
                error.to_string()
            }
            Err(_) => {
                Limit::HandlerTime.hit();
                tracing::debug!(%peer, %protocol, handler = %handler.addr, "handler does not accept");
                "does not accept".to_owned()
            }
        };
        self.events
            .tell(Kind::HandlerFailed, || Event::HandlerFailed {
                peer,
                protocol: Bytes::copy_from_slice(protocol.as_bytes()),
                handler: handler.addr.clone(),
                reason,
            });
        None
    }
}

async fn handler_dial(inbound: InboundStream, shared: Arc<Shared>) -> Option<Lasting> {
    let InboundStream {
        peer,
        remote,
        protocol,
        mut stream,
        targets,
        dials,
        account,
        connection: _,
    } = inbound;
    let mut turns = None;
    for target in targets {
        let handler = match target {
            Target::Service(_) => continue,
            Target::Echo | Target::Ping => return Some(Lasting::Echo(stream)),
            Target::Persistent(id) => {
                if let Some(place) = shared.persistent.place(id) {
                    drop(turns);
                    place.serve(peer, protocol, stream, &account).await;
                    return None;
                }
                tracing::debug!(%peer, %protocol, "handler of calls gone or busy");
                // A caller waits for the end, it does not write on.
                stream = stream.close_only();
                continue;
            }
            Target::Socket(handler) => handler,
        };
        if turns.is_none() {
            // The peer's own turn first: whoever waits for it takes none of the others'.
            let taking = async {
                let own = turn(&dials, Limit::PeerDials).await?;
                Some((own, turn(&shared.dials, Limit::HandlerDials).await?))
            };
            turns = Some(shared.closing.run_until_cancelled(taking).await??);
        }
        if !shared.descriptors.can_spare(HANDLER_RESERVE) {
            Limit::HandlerDescriptors.hit();
            return None;
        }
        let reaching = shared.reach(&handler, peer, &protocol);
        let Some(socket) = shared.closing.run_until_cancelled(reaching).await? else {
            continue;
        };
        let info = frame::encode(&pb::StreamInfo {
            peer: peer.to_bytes().into(),
            addr: remote.to_vec().into(),
            proto: Bytes::copy_from_slice(protocol.as_bytes()),
        });
        let pipe = Pipe::new(socket, stream, Bytes::new(), info, shared.drain.clone());
        return Some(Lasting::Pipe(pipe));
    }
    // The protocol was acknowledged; a close lets the opener read that and then the end,
    // where a reset could overtake it.
    let _ = shared.closing.run_until_cancelled(stream.close()).await;
    None
}

async fn echo(mut stream: UserStream) -> io::Result<()> {
    loop {
        // An idle stream holds a few bytes only.
        let mut buffer = vec![0; 64];
        let mut n = stream.read(&mut buffer).await?;
        if n == 0 {
            return stream.close().await;
        }
        if n == buffer.len() {
            buffer.resize(ECHO_CHUNK, 0);
            if let Some(more) = stream.read(&mut buffer[n..]).now_or_never() {
                n += more?;
            }
        }
        stream.blocked(n);
        stream.write_all(&buffer[..n]).await?;
        stream.flush().await?;
        stream.blocked(0);
    }
}
