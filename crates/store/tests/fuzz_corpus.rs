//! Every input that fuzzing kept, through the same functions: what was found once is looked for ever after.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(feature = "fuzzing")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tokenkeep_store::fuzzing::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The inputs of a target, by name.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = fuzz().join("corpus").join(target);
    let entries = std::fs::read_dir(&folder);
    let entries = entries.unwrap_or_else(|error| panic!("{} cannot be listed: {error}", folder.display()));
    let mut inputs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    inputs
}

fn replay(name: &str) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).unwrap();
    let inputs = corpus(name);
    assert!(inputs.len() >= 20, "the corpus of {name} has {} inputs: is it all there?", inputs.len());
    for path in inputs {
        let input = std::fs::read(&path).unwrap();
        let outcome = std::panic::catch_unwind(|| target(&input));
        assert!(outcome.is_ok(), "{} breaks a promise; see above", path.display());
    }
}

#[test]
fn the_reader_keeps_its_promises() {
    replay("reader");
}

#[test]
fn the_record_decoder_keeps_its_promises() {
    replay("record");
}

#[test]
fn the_frame_scan_keeps_its_promises() {
    replay("scan");
}

#[test]
fn the_stanza_parser_keeps_its_promises() {
    replay("stanza");
}

/// Each is built with libFuzzer, which no test is: that one line is all that is not compiled here.
#[test]
fn every_program_calls_its_target_and_does_nothing_else() {
    for (name, _) in TARGETS {
        let program = std::fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        let expected = format!(
            "#![no_main]\n\nlibfuzzer_sys::fuzz_target!(|input: &[u8]| tokenkeep_store::fuzzing::{name}(input));\n"
        );
        assert_eq!(program, expected);
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus_that_stays_small() {
    let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let programs = std::fs::read_dir(fuzz().join("fuzz_targets")).unwrap();
    let programs =
        programs.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
    assert_eq!(programs.collect::<BTreeSet<_>>(), names);
    let corpora = std::fs::read_dir(fuzz().join("corpus")).unwrap();
    let corpora = corpora.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    assert_eq!(corpora.collect::<BTreeSet<_>>(), names);
    for name in names {
        let inputs = corpus(&name);
        let bytes: u64 = inputs.iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(
            inputs.len() <= 250 && bytes <= 1024 * 1024,
            "{name}: {} inputs, {bytes} bytes",
            inputs.len()
        );
    }
}
