//! What the tap is to do, told in the simplest way.

use std::collections::{BTreeMap, BTreeSet};

use super::super::streams::RemoteEnd;

const SYN: u8 = 1;
const FIN: u8 = 4;
const RST: u8 = 8;

#[derive(Debug)]
struct Stream {
    end: RemoteEnd,
    unread: i64,
}

impl Stream {
    fn finish(&mut self, end: RemoteEnd) {
        if self.end == RemoteEnd::Open {
            self.end = end;
        }
    }
}

/// The state of one connection.
#[derive(Debug, Default)]
pub(super) struct Model {
    streams: BTreeMap<u32, Stream>,
    aborted: BTreeSet<u32>,
    lost: bool,
    violated: bool,
    /// Received, not yet a whole frame.
    partial: Vec<u8>,
    /// Written and not flushed.
    pending: Vec<u8>,
}

impl Model {
    pub(super) fn count(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn unread(&self) -> i64 {
        self.streams.values().map(|stream| stream.unread).sum()
    }

    pub(super) fn ids(&self) -> Vec<u32> {
        self.streams.keys().copied().collect()
    }

    pub(super) fn violated(&self) -> bool {
        self.violated
    }

    /// What has been written and is not flushed.
    pub(super) fn sent(&self) -> Vec<u8> {
        self.pending.clone()
    }

    /// How the stream ended, for somebody who holds it from now on.
    pub(super) fn own(&mut self, id: u32) -> RemoteEnd {
        let lost = self.lost;
        let stream = self.entry(id);
        if lost {
            stream.finish(RemoteEnd::Reset);
        }
        stream.end
    }

    fn entry(&mut self, id: u32) -> &mut Stream {
        self.streams.entry(id).or_insert(Stream {
            end: RemoteEnd::Open,
            unread: 0,
        })
    }

    pub(super) fn release(&mut self, id: u32, abort: bool) {
        self.streams.remove(&id);
        if abort && !self.lost {
            self.aborted.insert(id);
        }
    }

    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.aborted.clear();
        for stream in self.streams.values_mut() {
            stream.finish(RemoteEnd::Reset);
        }
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Some((frame, rest)) = self.partial.split_first_chunk::<12>() {
            let frame = *frame;
            let length = [frame[8], frame[9], frame[10], frame[11]];
            let body = match frame[1] {
                0 => u32::from_be_bytes(length),
                _ => 0,
            };
            if rest.len() < body as usize {
                return;
            }
            self.partial = rest[body as usize..].to_vec();
            let id = u32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
            self.frame(frame[1], frame[3], id, body.into());
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, id: u32, body: i64) {
        // Pings and farewells concern no stream.
        if kind > 1 {
            return;
        }
        let end = match flags {
            flags if flags & RST != 0 => RemoteEnd::Reset,
            flags if flags & FIN != 0 => RemoteEnd::Finished,
            _ => RemoteEnd::Open,
        };
        if flags & SYN != 0 && flags & RST == 0 {
            self.entry(id);
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.finish(end);
            stream.unread += body;
        }
    }

    pub(super) fn write(&mut self, mut header: [u8; 12], body: &[u8]) {
        let farewell = 3;
        self.violated |= header[1] == farewell && header[8..] != [0; 4];
        let finish = header[3] & FIN != 0 && (header[1] != 0 || body.is_empty());
        let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        if finish && self.aborted.remove(&id) {
            header = reset(id);
        }
        self.pending.extend_from_slice(&header);
        self.pending.extend_from_slice(body);
    }

    /// What is sent: the frames written, then a reset for each stream that is owed one.
    pub(super) fn flush(&mut self, sent: &[u8]) {
        let (frames, resets) = sent.split_at(self.pending.len().min(sent.len()));
        assert_eq!(frames, self.pending, "frames are sent as they were written");
        self.pending.clear();
        assert_eq!(resets.len() % 12, 0, "resets are whole frames");
        let resets: BTreeSet<&[u8]> = resets.chunks(12).collect();
        let owed: Vec<_> = std::mem::take(&mut self.aborted)
            .into_iter()
            .map(reset)
            .collect();
        let owed: BTreeSet<&[u8]> = owed.iter().map(|frame| &frame[..]).collect();
        assert_eq!(resets, owed, "each stream that was given up is reset once");
    }
}

fn reset(id: u32) -> [u8; 12] {
    let mut frame = [0; 12];
    frame[3] = RST;
    frame[4..8].copy_from_slice(&id.to_be_bytes());
    frame
}
