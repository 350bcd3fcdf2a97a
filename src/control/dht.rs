//! DHT requests: one answer, or many between BEGIN and END (COMPATIBILITY.md 4.15).

use std::{future::Future, io, time::Duration};

use futures::{
    FutureExt as _, StreamExt as _,
    stream::{self, BoxStream},
};
use libp2p::{PeerId, identity::PublicKey};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    context::MAX_BATCH,
    output::Output,
    request::{DhtRequest, Query},
    response,
    socket::Socket,
};
use crate::{
    dht::{Dht, QueryError},
    wire::pb,
};

/// How a request ended.
#[derive(Debug)]
pub(super) enum Served {
    /// With this answer.
    Answer(Box<pb::Response>),
    /// With all its frames written.
    Streamed,
    /// The client has gone, or the daemon ends: the query was dropped.
    Abandoned,
}

/// How far the output was written.
enum Flushed {
    All,
    /// Not entirely by the deadline.
    Late,
    /// Not entirely, and the daemon ends.
    Closing,
}

/// The client of a query.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    pub(super) socket: &'a mut Socket,
    /// Frames to be written; nothing is left in it afterwards.
    pub(super) output: &'a mut Output,
    /// Ends the query with the daemon.
    pub(super) closing: &'a CancellationToken,
}

impl Asker<'_> {
    /// Runs the query to its end.
    ///
    /// # Errors
    /// If the client can no longer be written to.
    pub(super) async fn serve(mut self, dht: &Dht, request: DhtRequest) -> io::Result<Served> {
        let deadline = Instant::now() + request.timeout;
        match request.query {
            Query::FindPeer { peer } => {
                let found = dht.find_peer(peer, deadline);
                self.answer(found, |peer| response::dht(response::dht_peer(&peer)))
                    .await
            }
            Query::PublicKey { peer } => {
                let key = dht.public_key(peer, deadline);
                let value = |key: PublicKey| response::dht_value(key.encode_protobuf());
                self.answer(key, |key| response::dht(value(key))).await
            }
            Query::GetValue { key } => {
                let value = dht.get_value(key, deadline);
                self.answer(value, |value| response::dht(response::dht_value(value)))
                    .await
            }
            Query::PutValue { key, value } => {
                let put = dht.put_value(key, value, deadline);
                self.answer(put, |()| response::ok()).await
            }
            Query::Provide { key } => {
                let provided = dht.provide(key, deadline);
                self.answer(provided, |()| response::ok()).await
            }
            Query::FindProviders { key, count } => {
                let providers = dht.find_providers(key, count, deadline);
                let frames = providers.map(|provider| response::dht_peer(&provider));
                self.stream(frames.boxed(), deadline).await
            }
            Query::SearchValue { key } => {
                let frames = dht.search_value(key, deadline).map(response::dht_value);
                self.stream(frames.boxed(), deadline).await
            }
            Query::ClosestPeers { key } => {
                let peers = dht.closest_peers(&key, deadline);
                match self.unless_gone(peers).await {
                    None => Ok(Served::Abandoned),
                    Some(Err(error)) => Ok(failed(&error)),
                    Some(Ok(peers)) => {
                        let values = peers.into_iter().map(PeerId::to_bytes);
                        let frames = stream::iter(values.map(response::dht_value));
                        self.stream(frames.boxed(), deadline).await
                    }
                }
            }
        }
    }

    async fn answer<T>(
        &self,
        query: impl Future<Output = Result<T, QueryError>>,
        reply: impl FnOnce(T) -> pb::Response,
    ) -> io::Result<Served> {
        Ok(match self.unless_gone(query).await {
            None => Served::Abandoned,
            Some(Err(error)) => failed(&error),
            Some(Ok(found)) => Served::Answer(Box::new(reply(found))),
        })
    }

    /// Writes BEGIN, `values` as they come, and END. A client that has not read what was found
    /// by the `deadline` gets no more of it, so that it cannot keep a query for ever.
    async fn stream(
        &mut self,
        mut values: BoxStream<'_, pb::DhtResponse>,
        deadline: Instant,
    ) -> io::Result<Served> {
        self.output
            .put_always(&response::dht(response::dht_begin()));
        loop {
            let found = match values.next().now_or_never() {
                Some(found) => found,
                None => {
                    match self.flush_by(deadline).await? {
                        Flushed::All => {}
                        Flushed::Late => break,
                        Flushed::Closing => return Ok(Served::Abandoned),
                    }
                    match self.unless_gone(values.next()).await {
                        Some(found) => found,
                        None => return Ok(Served::Abandoned),
                    }
                }
            };
            let Some(value) = found else { break };
            let put = self.output.put(&value);
            if put.is_err() || self.output.len() >= MAX_BATCH {
                match self.flush_by(deadline).await? {
                    Flushed::All => {}
                    Flushed::Late => break,
                    Flushed::Closing => return Ok(Served::Abandoned),
                }
                // What has no room alone has none at all.
                if put.is_err() && self.output.put(&value).is_err() {
                    break;
                }
            }
        }
        drop(values);
        self.output.put_always(&response::dht_end());
        // The query has ended: only the session waits for a client that does not read.
        match self.flush().await? {
            Flushed::Closing => Ok(Served::Abandoned),
            Flushed::All | Flushed::Late => Ok(Served::Streamed),
        }
    }

    async fn flush_by(&mut self, deadline: Instant) -> io::Result<Flushed> {
        let flushed = timeout_at(deadline, self.flush()).await;
        flushed.unwrap_or(Ok(Flushed::Late))
    }

    /// Writes what waits, unless the daemon ends first.
    ///
    /// # Cancel safety
    /// What is left to write stays.
    async fn flush(&mut self) -> io::Result<Flushed> {
        while !self.output.is_empty() {
            let written = tokio::select! {
                biased;
                written = self.output.write_some(self.socket) => written?,
                () = self.closing.cancelled() => return Ok(Flushed::Closing),
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(Flushed::All)
    }

    /// `None` if nobody waits for the answer any longer. A client that has only ended its own
    /// side still waits; over tcp that looks the same as one that has gone.
    async fn unless_gone<T>(&self, query: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = query => Some(done),
            () = self.closing.cancelled() => None,
            () = self.socket.gone(Duration::ZERO) => None,
        }
    }
}

fn failed(error: &QueryError) -> Served {
    Served::Answer(Box::new(response::error(response::query_error(error))))
}

#[cfg(test)]
mod tests;
