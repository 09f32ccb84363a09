use ingle_plugins::{Function, PluginError};
use ingle_types::{Code, Limits, Stage, TensorMap};

use crate::fixture::{context, host, impatient, limits, postprocessor, preprocessor, x};
use crate::guests;

/// Guests that answer as the contract wants; their tests are elsewhere.
pub(crate) const HONEST: [&str; 10] = [
    "chatty",
    "chatty-huge",
    "context",
    "echo",
    "echo-carry",
    "echo-results",
    "files",
    "output",
    "ready",
    "remember",
];

/// How a call of a guest must end: its code, and a part of its text.
pub(crate) const HOSTILE: [(&str, Code, &str); 39] = [
    ("bulk", Code::DeadlineExceeded, "took longer than 10ms"),
    ("grow", Code::ResourceExhausted, "asked for more than its 16777216 bytes of memory"),
    ("grow-table", Code::ResourceExhausted, "asked for more than its 20000 table entries"),
    ("handles", Code::Internal, "store handle limit exceeded"),
    ("lie-2gb", Code::Internal, "list pointer/length out of bounds of memory"),
    ("lie-answer", Code::Internal, "broke the plugin contract: "),
    ("lie-blobs", Code::Internal, "its data is blobs, but its type is float"),
    ("lie-bool", Code::Internal, "a bool must be 0 or 1"),
    ("lie-dtype", Code::Internal, "shape [2] of int64 needs 16 bytes but 8 are given"),
    ("lie-enum", Code::Internal, "broke the plugin contract: "),
    ("lie-examples", Code::Internal, "it returned 5000 examples, above the limit of 1024"),
    ("lie-form", Code::Internal, "a string tensor cannot be given as raw bytes"),
    ("lie-length", Code::Internal, "shape [2] of float needs 8 bytes but 7 are given"),
    ("lie-many", Code::Internal, "it returned 1000 tensors, above the limit of 256"),
    ("lie-name", Code::Internal, "\" [2J\" is no name for a tensor"),
    ("lie-nameless", Code::Internal, "a tensor has no name"),
    ("lie-nothing", Code::Internal, "broke the plugin contract: "),
    ("lie-overflow", Code::Internal, "overflows"),
    ("lie-pointer", Code::Internal, "list pointer/length out of bounds of memory"),
    ("lie-rank", Code::Internal, "rank 1000 is above the limit of 254"),
    ("lie-repeat", Code::Internal, "it handed over more than 1048576 bytes"),
    ("lie-shape", Code::Internal, "shape [3] of float needs 12 bytes but 8 are given"),
    ("lie-twins", Code::Internal, "two tensors are named \"x\""),
    ("lie-utf8", Code::Internal, "broke the plugin contract: "),
    ("loop", Code::DeadlineExceeded, "took longer than 10ms"),
    ("loop-init", Code::DeadlineExceeded, "init: took longer than 10ms"),
    ("loop-start", Code::DeadlineExceeded, "init: took longer than 10ms"),
    ("recurse", Code::Internal, "trapped: call stack exhausted"),
    ("refuse", Code::InvalidArgument, "not a picture!"),
    ("refuse-init", Code::FailedPrecondition, "init: no such size"),
    ("refuse-internal", Code::Internal, "secret"),
    ("refuse-long", Code::InvalidArgument, "aaaa"),
    ("spec-empty", Code::Internal, "init: broke the plugin contract: its public-spec is empty"),
    ("spec-many", Code::Internal, "its public-spec has 1000 tensors, above the limit of 256"),
    ("spec-overflow", Code::Internal, "overflows"),
    ("spec-shape", Code::Internal, "-2 is not a dimension"),
    ("spec-twins", Code::Internal, "two tensors of its public-spec are named \"x\""),
    ("trap", Code::Internal, "trapped: wasm `unreachable` instruction executed"),
    ("trap-init", Code::Internal, "init: trapped: "),
];

/// Guests whose misdeed only a preprocessor can do.
const PREPROCESS_ONLY: [&str; 1] = ["lie-examples"];

fn preprocess(guest: &str, inputs: &TensorMap) -> PluginError {
    preprocess_within(limits_for(guest), guest, inputs)
}

fn preprocess_within(limits: Limits, guest: &str, inputs: &TensorMap) -> PluginError {
    let host = host(limits);
    preprocessor(&host, guest).and_then(|p| p.process(&context(), inputs).map(drop)).unwrap_err()
}

fn postprocess(guest: &str, results: &TensorMap) -> PluginError {
    let host = host(limits_for(guest));
    postprocessor(&host, guest)
        .and_then(|p| p.process(&context(), std::slice::from_ref(results), b"").map(drop))
        .unwrap_err()
}

fn limits_for(guest: &str) -> Limits {
    let slow =
        HOSTILE.iter().any(|(name, code, _)| *name == guest && *code == Code::DeadlineExceeded);
    if slow { impatient() } else { limits() }
}

fn check(guest: &str, stage: Stage, error: PluginError) {
    let (_, code, text) = HOSTILE.iter().find(|(name, ..)| *name == guest).unwrap();
    let shown = error.to_string();
    assert!(shown.contains(text), "{shown}");
    assert!(!shown.contains(char::is_control), "{shown:?}");
    assert!(shown.starts_with(&format!("plugin {guest} in {stage}")), "{shown}");
    assert_eq!(error.code(), *code, "{shown}");
    assert_eq!(error.site().unwrap().function, function(&shown), "{shown}");
    let served = error.into_serve_error(stage);
    assert!(served.message().starts_with(&format!("plugin {guest} in {stage}")), "{served}");
    assert!(served.message().len() < 4096 + 100, "{}", served.message().len());
    assert!(!served.message().contains("secret"), "{served}");
}

fn function(shown: &str) -> Function {
    if shown.contains(" init: ") { Function::Init } else { Function::Process }
}

#[test]
fn every_guest_is_tested() {
    for (guest, _) in guests::GUESTS {
        let hostile = HOSTILE.iter().any(|(name, ..)| name == guest);
        let honest = HONEST.contains(guest);
        // Refused at load, and templates of the tests that swap versions.
        let elsewhere = *guest == "big" || guest.starts_with("version-");
        assert!(elsewhere || hostile != honest, "{guest}");
    }
}

#[test]
fn a_hostile_preprocessor_costs_its_own_call_a_typed_error() {
    for (guest, ..) in HOSTILE {
        check(guest, Stage::Preprocess, preprocess(guest, &x(&[1., 2.])));
    }
}

#[test]
fn a_hostile_postprocessor_costs_its_own_call_a_typed_error() {
    for (guest, ..) in HOSTILE {
        if !PREPROCESS_ONLY.contains(&guest) {
            check(guest, Stage::Postprocess, postprocess(guest, &x(&[1., 2.])));
        }
    }
}

#[test]
fn without_a_pool_it_is_the_same() {
    for (guest, ..) in HOSTILE {
        // No address space has room for such tables, so instances are made one by one.
        // This guest would take what it can get of them.
        if guest != "grow-table" {
            let limits = Limits { plugin_table_elements: 1 << 50, ..limits_for(guest) };
            check(guest, Stage::Preprocess, preprocess_within(limits, guest, &x(&[1., 2.])));
        }
    }
}

#[test]
fn a_trap_says_where_and_what_was_logged_last() {
    let error = preprocess("trap", &x(&[1.]));
    let PluginError::Trap { trace, .. } = &error else { panic!("{error}") };
    assert_eq!(trace.frames.first().map(String::as_str), Some("give-up"));
    assert_eq!(trace.last_log, ["out of ideas"]);
    assert!(!error.to_string().contains("give-up") && !error.to_string().contains("ideas"));
}

#[test]
fn an_honest_plugin_answers_beside_hostile_ones() {
    let host = host(impatient());
    let hostile: Vec<_> =
        HOSTILE.iter().filter_map(|(guest, ..)| preprocessor(&host, guest).ok()).collect();
    assert!(hostile.len() > 25, "{}", hostile.len());
    let echo = preprocessor(&crate::fixture::host(limits()), "echo").unwrap();
    for guest in &hostile {
        assert!(guest.process(&context(), &x(&[1.])).is_err());
        assert_eq!(crate::fixture::answer(&echo, &x(&[5.])), [5.]);
    }
}
