//! PROTOCOL.md against the program: which types it serves, and what it answers to the examples.

use std::path::Path;

use rp2pd::wire::pb::{Request, Response, request, response};

use super::node;
use super::support::control::typed;

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md");
    std::fs::read_to_string(path).expect("PROTOCOL.md")
}

/// The types that the document describes, with their names.
fn described(text: &str) -> Vec<(i64, String)> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| {
        let (name, rest) = row.split_once("` | ")?;
        let number = rest.split(' ').next()?.parse().ok()?;
        let section = format!(". {name} ({number}): ");
        let is_type = number > 100 && text.contains(&section);
        is_type.then(|| (number, name.to_owned()))
    })
    .collect()
}

#[test]
fn the_types_are_those_that_the_daemon_serves() {
    let daemon = node(&["-pubsub", "-dht"]);
    let described = described(&document());
    assert!(!described.is_empty(), "the reader is wrong");
    for kind in 100..120 {
        let request = Request {
            r#type: Some(kind),
            ..typed(request::Type::Identify)
        };
        let answer = daemon.client().request(&request).expect("an answer");
        let text = answer.error.map(|error| error.msg).unwrap_or_default();
        let is_served = !text.starts_with("Unexpected request; unknown type");
        let name = request::Type::try_from(i32::try_from(kind).expect("small"));
        let name = name
            .map(|name| name.as_str_name().to_owned())
            .unwrap_or_default();
        let is_described = kind == 100 || described.contains(&(kind, name));
        assert_eq!(is_served, is_described, "type {kind}: {text:?}");
    }
}

#[test]
fn the_examples_are_answered_with_ok() {
    let daemon = node(&["-pubsub", "-dht"]);
    let text = document();
    let mut examples = 0;
    for example in text.split("\n```hex ").skip(1) {
        let (name, rest) = example.split_once('\n').expect("a name");
        let (hex, _) = rest.split_once("```").expect("an end");
        let bytes: Vec<u8> = hex
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).expect("hex"))
            .collect();
        let kind = request::Type::from_str_name(name).expect("a type");
        assert_eq!(
            bytes[1..3],
            [8, kind as u8],
            "{name}: its type is told first"
        );
        let mut client = daemon.client();
        client.send_raw(&bytes).expect("send");
        let answer: Response = client.receive().expect("an answer");
        assert_eq!(answer.r#type(), response::Type::Ok, "{name}: {answer:?}");
        examples += 1;
    }
    assert_eq!(examples, described(&text).len(), "one for each type");
}
