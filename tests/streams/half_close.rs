//! One direction ends, the other goes on; Go loses every late reply.

use std::io::{Read, Write};

use super::*;

fn cycles(from_opener: bool) {
    let (a, b, handler) = pair();
    let fds = (a.fds(), b.fds());
    let cycles = count("RP2PD_TEST_HALF_CLOSES", 1000);
    for cycle in 0..cycles {
        let (near, far) = stream(&a, &b, &handler);
        let (mut first, mut second) = if from_opener {
            (near, far)
        } else {
            (far, near)
        };
        let question = format!("question {cycle}").repeat(1 + cycle % 50);
        let reply = format!("reply {cycle}").repeat(1 + cycle % 70);
        first.write_all(question.as_bytes()).expect("write");
        first.socket.shutdown_write().expect("half-close");
        let mut got = String::new();
        second
            .read_to_string(&mut got)
            .expect("the end of the question");
        assert_eq!(got, question);
        // Only now, with one direction ended on all the way, comes the reply.
        second.write_all(reply.as_bytes()).expect("the late reply");
        second.socket.shutdown_write().expect("half-close");
        got.clear();
        first
            .read_to_string(&mut got)
            .expect("the end of the reply");
        assert_eq!(got, reply);
    }
    assert_fds(&a, fds.0, "the opener");
    assert_fds(&b, fds.1, "the handler's daemon");
}

#[test]
fn the_opener_may_finish_first() {
    cycles(true);
}

#[test]
fn the_handler_may_finish_first() {
    cycles(false);
}
