//! The flags of `keygen`, and what the command line of the daemon says.

use std::{ffi::OsString, path::PathBuf};

use crate::identity::KeygenArgs;
use crate::settings::{Flag, Given, Value};

/// What was typed after `rp2pd`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Args {
    /// The flags.
    pub given: Given,
    /// The word that ended the flags, and the rest.
    pub positional: Vec<OsString>,
}

pub(super) const KEYGEN: &[Flag<KeygenArgs>] = &[
    Flag {
        name: "b",
        kind: <i64 as Value>::KIND,
        default: || KeygenArgs::default().bits.show(),
        help: "key size in bits (for rsa)",
        is_path: <i64 as Value>::IS_PATH,
        set: |args, text| {
            args.bits = Value::read(text)?;
            Ok(())
        },
    },
    Flag {
        name: "f",
        kind: <PathBuf as Value>::KIND,
        default: || KeygenArgs::default().file.show(),
        help: "output key file",
        is_path: <PathBuf as Value>::IS_PATH,
        set: |args, text| {
            args.file = Value::read(text)?;
            Ok(())
        },
    },
    Flag {
        name: "t",
        kind: <String as Value>::KIND,
        default: || KeygenArgs::default().key_type,
        help: "key type; rsa, ed25519, secp256k1 or ecdsa",
        is_path: <String as Value>::IS_PATH,
        set: |args, text| {
            args.key_type = Value::read(text)?;
            Ok(())
        },
    },
];
