//! The fuzzer finds what it is for: planted faults, each told with a small input, and none where there is none.

use whimbrel_sim::fuzz::{Counting, Failure, Fault, Fuzzer, Random, Target, targets};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn planted(run: fn(&[u8]) -> Result<String, String>) -> Target {
    Target {
        name: "planted",
        run,
        seed: |random: &mut Random| random.bytes(40),
        mend: |_| {},
        budget: |_| 1 << 20,
        rarity: 1,
    }
}

fn found(run: fn(&[u8]) -> Result<String, String>) -> Failure {
    let mut fuzzer = Fuzzer::new(vec![planted(run)], 7);
    (0..200_000)
        .find_map(|_| fuzzer.step().err())
        .expect("the planted fault")
}

/// True for inputs that begin as a length of 2 GiB does.
fn is_long(input: &[u8]) -> bool {
    input.starts_with(&[0x7F, 0xFF])
}

#[test]
fn a_panic_is_found_and_its_input_is_small() {
    let failure = found(|input| {
        assert!(!is_long(input), "planted");
        Ok(String::new())
    });
    assert!(matches!(failure.what, Fault::Panic(ref text) if text.contains("planted")));
    assert_eq!(failure.input, [0, 0x7F, 0xFF]);
}

#[test]
fn memory_on_the_inputs_word_is_found() {
    let failure = found(|input| {
        let claimed: Vec<u8> = Vec::with_capacity(if is_long(input) { 2 << 20 } else { 0 });
        Ok(format!("{}", claimed.is_empty()))
    });
    assert!(matches!(failure.what, Fault::Memory { held, .. } if held >= 2 << 20));
}

#[test]
fn a_decoder_that_contradicts_itself_is_found_and_its_input_can_be_run_again() {
    let run = |input: &[u8]| match is_long(input) {
        true => Err("planted".to_owned()),
        false => Ok(String::new()),
    };
    let failure = found(run);
    assert_eq!(failure.what, Fault::Wrong("planted".into()));
    let again = Fuzzer::new(vec![planted(run)], 1).replay(&failure.input);
    assert_eq!(again.unwrap_err().what, failure.what);
}

#[test]
fn every_decoder_reads_what_is_sound_and_survives_what_is_not() {
    let all = targets::all();
    let mut random = Random::new(3);
    for target in &all {
        let sound = (target.seed)(&mut random);
        let said = (target.run)(&sound);
        assert!(said.is_ok(), "{}: {said:?}", target.name);
    }
    let mut fuzzer = Fuzzer::new(all, 3);
    while fuzzer.inputs < 3_000 {
        if let Err(failure) = fuzzer.step() {
            panic!("{failure:?}");
        }
    }
    assert!(fuzzer.outcomes() > 200, "{}", fuzzer.outcomes());
}
