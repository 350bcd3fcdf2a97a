use proptest::prelude::*;

use super::*;

const BYTES: [u8; 32] = *b"\n0123456789abcdef0123456789ABCDE";

fn file(encoding: &str, key: &[u8]) -> Vec<u8> {
    [
        format!("/key/swarm/psk/1.0.0/\n{encoding}\n").as_bytes(),
        key,
    ]
    .concat()
}

#[test]
fn each_encoding_is_read() {
    let wanted = PreSharedKey::new(BYTES);
    let hex = Base::Base16Lower.encode(BYTES);
    let forms = [
        file("/base16/", hex.as_bytes()),
        file("/base16/", format!("{}\r\n", hex.to_uppercase()).as_bytes()),
        file(
            "/base64/",
            format!("{}\n", Base::Base64Pad.encode(BYTES)).as_bytes(),
        ),
        file("/bin/", &BYTES),
        wanted.to_key_file().into_bytes(),
    ];
    for form in forms {
        assert_eq!(decode(&form), Ok(wanted), "{}", form.escape_ascii());
    }
}

#[test]
fn what_is_no_key_is_refused_by_its_line() {
    let cases: [(Vec<u8>, FormatError); 6] = [
        (Vec::new(), FormatError::Header),
        (
            b"/key/swarm/psk/2.0.0/\n/bin/\n".to_vec(),
            FormatError::Header,
        ),
        (file("/base32/", b"x"), FormatError::Encoding),
        (file("/base16/", b"0123"), FormatError::Key),
        (
            file("/base16/", "\u{e9}".repeat(32).as_bytes()),
            FormatError::Key,
        ),
        (file("/bin/", &BYTES[1..]), FormatError::Key),
    ];
    for (bytes, reason) in cases {
        assert_eq!(decode(&bytes), Err(reason), "{}", bytes.escape_ascii());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_key_or_refused(tail in prop::collection::vec(any::<u8>(), 0..128), at in 0..4usize) {
        let starts: [&[u8]; 4] = [
            b"",
            b"/key/swarm/psk/1.0.0/\n",
            b"/key/swarm/psk/1.0.0/\n/base16/\n",
            b"/key/swarm/psk/1.0.0/\n/base64/\n",
        ];
        let _ = decode(&[starts[at], &tail].concat());
    }
}
