//! Web browsers at the control socket.

use std::time::Instant;

use super::*;

pub fn http_is_refused_at_its_first_word() {
    for daemon in [Launch::new().tcp().spawn(), Launch::new().spawn()] {
        let methods = [
            "GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "CONNECT", "TRACE", "PRI",
        ];
        for method in methods {
            let started = Instant::now();
            let mut client = daemon.client();
            // Fewer bytes than the first one announces as a frame.
            client
                .send_raw(format!("{method} / HTTP/1.1\r\n").as_bytes())
                .expect("send");
            assert_eq!(turned_away(&mut client), "this is no HTTP server");
            // The limit of a frame that does not end is 30 s.
            assert!(started.elapsed().as_secs() < 10, "{method}");
        }
        assert_eq!(
            daemon.bites("HTTP on the control socket"),
            methods.len() as u64
        );
        // A frame whose length is the letter is none of them.
        let mut client = daemon.client();
        client.send_raw(&[b'G', 8]).expect("send");
        client.send_raw(&[0; 70]).expect("send");
        let answer: Response = client.receive().expect("an answer");
        assert_ne!(
            answer.error.map(|error| error.msg).as_deref(),
            Some("this is no HTTP server")
        );
    }
}
