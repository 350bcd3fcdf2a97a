#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rp2pd::fuzzing::run("json", data));
