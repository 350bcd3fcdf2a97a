//! A name server of the test's own, on UDP and TCP, and a machine that asks it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use std::thread;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType, rdata::TXT};

use super::{Launch, namespace};

/// What an answer over UDP may have without extensions (RFC 1035).
const UDP_SIZE: usize = 512;

/// A name server on port 53 of an address of the loopback range.
pub struct NameServer {
    pub address: Ipv4Addr,
    shared: Arc<Shared>,
}

/// What a slow server takes for an answer.
const SLOW: Duration = Duration::from_millis(300);

/// Questions that get no answer, by what their name begins with and their kind.
struct Muted(String, Option<RecordType>);

#[derive(Default)]
struct Shared {
    records: Mutex<Vec<(String, RData)>>,
    muted: Mutex<Vec<Muted>>,
    slow: AtomicBool,
    over_tcp: AtomicUsize,
    asked: AtomicUsize,
}

impl NameServer {
    /// None where port 53 may not be bound.
    pub fn start(address: Ipv4Addr) -> Option<Self> {
        let shared = Arc::<Shared>::default();
        let bound = UdpSocket::bind((address, 53))
            .and_then(|udp| Ok((udp, TcpListener::bind((address, 53))?)));
        let (udp, tcp) = match bound {
            Ok(bound) => bound,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                println!("not run: port 53 may not be bound: {error}");
                return None;
            }
            Err(error) => panic!("{address}:53: {error}"),
        };
        let zone = Arc::clone(&shared);
        thread::spawn(move || zone.serve_udp(&udp));
        let zone = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let _ = zone.serve_tcp(stream.expect("accept"));
            }
        });
        Some(Self { address, shared })
    }

    /// A TXT record for `/dnsaddr/<name>`.
    pub fn dnsaddr(&self, name: &str, address: &str) {
        let text = TXT::new(vec![format!("dnsaddr={address}")]);
        self.add(&format!("_dnsaddr.{name}."), RData::TXT(text));
    }

    /// An A record.
    pub fn host(&self, name: &str, address: Ipv4Addr) {
        self.add(&format!("{name}."), RData::A(address.into()));
    }

    /// Answers after 300 ms only.
    pub fn slow_down(&self) {
        self.shared.slow.store(true, Ordering::Relaxed);
    }

    /// Has no answer to questions of this `kind`, or of any, about names that begin with `prefix`.
    pub fn mute(&self, prefix: &str, kind: Option<RecordType>) {
        let mut muted = self.shared.muted.lock().expect("muted");
        muted.push(Muted(prefix.to_owned(), kind));
    }

    fn add(&self, name: &str, data: RData) {
        let mut records = self.shared.records.lock().expect("records");
        records.push((name.to_owned(), data));
    }

    /// Questions so far.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// Questions over TCP so far, because an answer did not fit.
    pub fn asked_over_tcp(&self) -> usize {
        self.shared.over_tcp.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).expect("a question");
            let Some(mut answer) = self.answer(&buffer[..length]) else {
                continue;
            };
            if self.slow.load(Ordering::Relaxed) {
                thread::sleep(SLOW);
            }
            if answer.to_vec().expect("an answer").len() > UDP_SIZE {
                answer = answer.truncate();
            }
            // Who asked may have left.
            let _ = socket.send_to(&answer.to_vec().expect("an answer"), from);
        }
    }

    fn serve_tcp(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut question)?;
            self.over_tcp.fetch_add(1, Ordering::Relaxed);
            let Some(answer) = self.answer(&question) else {
                continue;
            };
            let answer = answer.to_vec().expect("an answer");
            let length = u16::try_from(answer.len()).expect("a short answer");
            stream.write_all(&length.to_be_bytes())?;
            stream.write_all(&answer)?;
        }
    }

    fn is_muted(&self, question: &Message) -> bool {
        let muted = self.muted.lock().expect("muted");
        let is_muted = |Muted(prefix, kind): &Muted| {
            question.queries.iter().any(|query| {
                let name = query.name().to_ascii().to_lowercase();
                name.starts_with(prefix) && kind.is_none_or(|kind| kind == query.query_type())
            })
        };
        muted.iter().any(is_muted)
    }

    /// None if there shall be none.
    fn answer(&self, question: &[u8]) -> Option<Message> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let question = Message::from_vec(question).expect("a question");
        if self.is_muted(&question) {
            return None;
        }
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_available = true;
        let records = self.records.lock().expect("records");
        for query in &question.queries {
            let of_name = || {
                let name = query.name().to_ascii().to_lowercase();
                records.iter().filter(move |(known, _)| *known == name)
            };
            if of_name().next().is_none() {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            for (_, data) in of_name().filter(|(_, data)| data.record_type() == query.query_type())
            {
                let record = Record::from_rdata(query.name().clone(), 60, data.clone());
                answer.add_answer(record);
            }
            answer.add_query(query.clone());
        }
        Some(answer)
    }
}

/// A launch on a machine whose `/etc/resolv.conf` and `/etc/hosts` are the files of these names
/// in `dir`. None where that is not allowed.
pub fn machine(dir: &Path) -> Option<Launch> {
    let dir = dir.display();
    namespace::launch_of(
        &["--mount"],
        &format!(
            "mount --bind {dir}/resolv.conf /etc/resolv.conf; mount --bind {dir}/hosts /etc/hosts"
        ),
    )
}
