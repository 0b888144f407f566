#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tokenkeep_store::fuzzing::scan(input));
