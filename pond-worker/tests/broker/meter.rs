//! Usage read from answers as the providers document them, however they are cut into chunks.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use hyper::Method;
use pond_core::usage::Tokens;
use pond_worker::broker::provider;
use pond_worker::broker::wire::{Meter, Metered, Wire};
use proptest::prelude::*;

const ASKED: usize = 4000;

fn wire(name: &str) -> &'static dyn Wire {
    let (provider_name, path) = match name.split('_').next() {
        Some("anthropic") => ("anthropic", "/v1/messages"),
        Some("responses") => ("openai", "/v1/responses"),
        Some("chat") => ("openai", "/v1/chat/completions"),
        Some("gemini") if name == "gemini_text.json" => ("gemini", "/v1beta/models/m:generateContent"),
        Some("gemini") => ("gemini", "/v1beta/models/m:streamGenerateContent"),
        _ => ("openai", "/v1/embeddings"),
    };
    let route = provider(provider_name)
        .expect("known")
        .route(&Method::POST, path)
        .expect("a route");
    route.route.wire.expect("a wire")
}

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/wire")
        .join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn tokens(input: u64, output: u64, cache_read: u64, cache_write: u64) -> Tokens {
    Tokens {
        input,
        output,
        cache_read,
        cache_write,
    }
}

/// Every fixture, with what a person reads in it.
fn fixtures() -> Vec<(&'static str, Tokens)> {
    vec![
        ("anthropic_text.json", tokens(2095, 503, 30111, 1751)),
        ("anthropic_tool.json", tokens(472, 89, 0, 0)),
        ("anthropic_text.sse", tokens(25, 15, 4096, 17)),
        ("anthropic_crlf.sse", tokens(25, 15, 4096, 17)),
        ("anthropic_tool.sse", tokens(480, 89, 13, 11)),
        ("responses_text.json", tokens(272, 87, 3328, 0)),
        ("responses_text.sse", tokens(272, 87, 3328, 0)),
        ("responses_incomplete_tool.sse", tokens(516, 64, 256, 128)),
        ("chat_text.json", tokens(99, 10, 1920, 0)),
        ("chat_text.sse", tokens(93, 46, 1024, 0)),
        ("chat_tool.sse", tokens(82, 17, 0, 0)),
        ("embeddings.json", tokens(8, 0, 0, 0)),
        ("gemini_text.json", tokens(330, 105, 900, 0)),
        ("gemini_text.sse", tokens(54, 29, 256, 0)),
        ("gemini_array.json", tokens(54, 29, 256, 0)),
        ("gemini_tool.sse", tokens(88, 23, 0, 0)),
    ]
}

/// Feeds an answer in chunks; gives what passed and what was read.
fn feed(name: &str, chunks: &[&[u8]], hide: bool) -> (Vec<u8>, Metered) {
    let mut meter = Meter::new(wire(name), ASKED);
    match name.ends_with(".sse") {
        true => meter.expect_events(hide),
        false => meter.expect_json(),
    }
    let mut passed = Vec::new();
    for chunk in chunks {
        passed.extend_from_slice(&meter.pass(Bytes::copy_from_slice(chunk)));
    }
    passed.extend_from_slice(&meter.end());
    (passed, meter.read())
}

#[test]
fn every_cut_in_two_reads_the_same_and_passes_every_byte() {
    for (name, expected) in fixtures() {
        let answer = fixture(name);
        for at in 0..=answer.len() {
            let (passed, metered) = feed(name, &[&answer[..at], &answer[at..]], false);
            assert_eq!(
                metered,
                Metered {
                    tokens: expected,
                    estimated: false
                },
                "{name} cut at {at}"
            );
            assert_eq!(passed, answer, "{name} cut at {at}");
        }
    }
}

#[test]
fn a_byte_at_a_time_reads_the_same() {
    for (name, expected) in fixtures() {
        let answer = fixture(name);
        let bytes: Vec<&[u8]> = answer.chunks(1).collect();
        assert_eq!(
            feed(name, &bytes, false),
            (
                answer.clone(),
                Metered {
                    tokens: expected,
                    estimated: false
                }
            ),
            "{name}"
        );
    }
}

#[test]
fn the_hidden_chunk_alone_is_left_out_wherever_the_stream_is_cut() {
    let (answer, shown) = (fixture("chat_text.sse"), fixture("chat_text_shown.sse"));
    for at in 0..=answer.len() {
        let (passed, metered) = feed("chat_text.sse", &[&answer[..at], &answer[at..]], true);
        assert_eq!(
            String::from_utf8_lossy(&passed),
            String::from_utf8_lossy(&shown),
            "cut at {at}"
        );
        assert_eq!(metered.tokens, tokens(93, 46, 1024, 0));
    }
    let answer = fixture("chat_tool.sse");
    assert_eq!(
        feed("chat_tool.sse", &[&answer], true).0,
        answer,
        "usage beside a choice is not hidden"
    );
}

#[test]
fn an_event_is_passed_when_it_has_ended_though_another_may_be_hidden() {
    let mut meter = Meter::new(wire("chat"), ASKED);
    meter.expect_events(true);
    let event = Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
    assert_eq!(meter.pass(event.clone()), event);
}

#[test]
fn what_is_cut_off_before_its_last_usage_is_estimated_from_what_has_passed() {
    for (name, expected) in fixtures() {
        let answer = fixture(name);
        let last = [&b"\"usage\":"[..], b"\"usageMetadata\":"]
            .iter()
            .find_map(|told| answer.windows(told.len()).rposition(|part| part == *told));
        // A pretty-printed answer has a space there; any cut of a whole answer will do.
        let cut = last.unwrap_or(answer.len() / 2);
        let (_, metered) = feed(name, &[&answer[..cut]], false);
        assert!(metered.estimated || name == "anthropic_tool.sse", "{name}");
        let has_output = metered.tokens.output > 0;
        assert_eq!(has_output, name != "embeddings.json", "{name}: {metered:?}");
        let streams = name.ends_with(".sse") || name == "gemini_array.json";
        let tells_input_first = streams && (name.starts_with("anthropic") || name.starts_with("gemini"));
        let input = if tells_input_first {
            expected.input
        } else {
            ASKED as u64 / 4
        };
        assert_eq!(metered.tokens.input, input, "{name}");
    }
}

#[test]
fn no_fixture_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire");
    let known: Vec<&str> = fixtures()
        .iter()
        .map(|(name, _)| *name)
        .chain(["chat_text_shown.sse"])
        .collect();
    for entry in fs::read_dir(folder).expect("the folder") {
        let name = entry.expect("an entry").file_name();
        assert!(known.contains(&name.to_str().expect("text")), "{name:?} is in no test");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_chunks_read_the_same(
        which in 0..16usize,
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        hide in any::<bool>(),
    ) {
        let (name, expected) = fixtures()[which];
        let answer = fixture(name);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(answer.len() + 1)).collect();
        at.extend([0, answer.len()]);
        at.sort_unstable();
        let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &answer[pair[0]..pair[1]]).collect();
        let (passed, metered) = feed(name, &chunks, hide);
        prop_assert_eq!(metered, Metered { tokens: expected, estimated: false });
        if !(hide && name == "chat_text.sse") {
            prop_assert_eq!(passed, answer);
        }
    }

    #[test]
    fn any_bytes_are_metered_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for name in [
            "anthropic.sse",
            "responses.sse",
            "chat.sse",
            "chat.json",
            "gemini.sse",
            "gemini.json",
        ] {
            let (passed, _) = feed(name, &[&bytes], false);
            prop_assert_eq!(&passed, &bytes);
        }
    }
}
