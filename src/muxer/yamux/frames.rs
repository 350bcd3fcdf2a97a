//! yamux frame headers, and where they are in a byte stream.

pub(super) const HEADER: usize = 12;
pub(super) const FLAG_SYN: u16 = 1;
pub(super) const FLAG_FIN: u16 = 4;
pub(super) const FLAG_RST: u16 = 8;
pub(super) const TYPE_DATA: u8 = 0;
pub(super) const TYPE_WINDOW_UPDATE: u8 = 1;
pub(super) const TYPE_GO_AWAY: u8 = 3;

#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) flags: u16,
    pub(super) stream: u32,
    pub(super) body: u32,
}

impl Header {
    pub(super) fn parse(bytes: [u8; HEADER]) -> Self {
        let kind = bytes[1];
        let length = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        Self {
            kind,
            flags: u16::from_be_bytes([bytes[2], bytes[3]]),
            stream: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            // Only data frames have a body; elsewhere the field is a credit or a code.
            body: if kind == TYPE_DATA { length } else { 0 },
        }
    }
}

pub(super) fn reset_frame(stream: u32) -> [u8; HEADER] {
    let [a, b, c, d] = stream.to_be_bytes();
    let [f, g] = FLAG_RST.to_be_bytes();
    [0, TYPE_DATA, f, g, a, b, c, d, 0, 0, 0, 0]
}

/// Follows frame boundaries in a byte stream.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    header: [u8; HEADER],
    filled: usize,
    body: usize,
}

impl Scanner {
    pub(super) fn at_boundary(&self) -> bool {
        self.filled == 0
    }

    /// The length of the body that has begun and is not complete, in bytes.
    pub(super) fn incomplete(&self) -> u32 {
        if self.filled == HEADER {
            Header::parse(self.header).body
        } else {
            0
        }
    }

    /// Calls `on_frame` for each frame whose last byte is in `bytes`.
    pub(super) fn scan(&mut self, mut bytes: &[u8], mut on_frame: impl FnMut(&Header)) {
        while !bytes.is_empty() {
            if self.filled < HEADER {
                let n = (HEADER - self.filled).min(bytes.len());
                self.header[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
                self.filled += n;
                bytes = &bytes[n..];
                if self.filled < HEADER {
                    return;
                }
                self.body = Header::parse(self.header).body as usize;
            }
            let n = self.body.min(bytes.len());
            self.body -= n;
            bytes = &bytes[n..];
            if self.body == 0 {
                self.filled = 0;
                on_frame(&Header::parse(self.header));
            }
        }
    }
}
