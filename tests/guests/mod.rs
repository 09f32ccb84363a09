//! Hostile and tiny plugins, put together from WebAssembly text. See README.md.
//!
//! Included with `#[path]` by every test crate that needs them; they bring `wat`.

const HEAD: &str = include_str!("shell/head.wat");
const PREPROCESS: &str = include_str!("shell/preprocess.wat");
const POSTPROCESS: &str = include_str!("shell/postprocess.wat");

macro_rules! texts {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!($folder, $name, ".wat")))),*]
    };
}

/// What a guest does in the shell of a stage.
pub(crate) const GUESTS: &[(&str, &str)] = texts!("":
    "big",
    "bulk",
    "chatty",
    "chatty-huge",
    "context",
    "echo",
    "echo-carry",
    "echo-results",
    "files",
    "grow",
    "grow-table",
    "handles",
    "lie-2gb",
    "lie-answer",
    "lie-blobs",
    "lie-bool",
    "lie-dtype",
    "lie-enum",
    "lie-examples",
    "lie-form",
    "lie-length",
    "lie-many",
    "lie-name",
    "lie-nameless",
    "lie-nothing",
    "lie-overflow",
    "lie-pointer",
    "lie-rank",
    "lie-repeat",
    "lie-shape",
    "lie-twins",
    "lie-utf8",
    "loop",
    "loop-init",
    "loop-start",
    "output",
    "ready",
    "recurse",
    "refuse",
    "refuse-init",
    "refuse-internal",
    "refuse-long",
    "remember",
    "spec-empty",
    "spec-many",
    "spec-overflow",
    "spec-shape",
    "spec-twins",
    "trap",
    "trap-init",
    "version-post",
    "version-pre",
);

/// Components that are told by their outside.
pub(crate) const WHOLE: &[(&str, &str)] = texts!("whole/":
    "core-module",
    "missing-export",
    "models",
    "nothing",
    "sockets",
    "telemetry",
    "unversioned",
    "version",
    "wrong-type",
);

/// The component of a guest that only preprocesses.
pub(crate) fn preprocessor(guest: &str) -> Vec<u8> {
    assemble(&[(PREPROCESS, guest)])
}

/// The component of a guest that only postprocesses.
pub(crate) fn postprocessor(guest: &str) -> Vec<u8> {
    assemble(&[(POSTPROCESS, guest)])
}

/// A component with both stages, each with its own guest.
pub(crate) fn processor(preprocess: &str, postprocess: &str) -> Vec<u8> {
    assemble(&[(PREPROCESS, preprocess), (POSTPROCESS, postprocess)])
}

/// A component whose answers name its version: see `version-pre` and `version-post`.
#[allow(dead_code, reason = "only the whole-server tests swap plugins")]
pub(crate) fn versioned(version: u64) -> Vec<u8> {
    let stages = [(PREPROCESS, "version-pre"), (POSTPROCESS, "version-post")];
    let component = component(&stages).replace("VERSION", &version.to_string());
    wat::parse_str(&component).unwrap_or_else(|error| panic!("{error}"))
}

/// A component as it is written.
pub(crate) fn whole(name: &str) -> Vec<u8> {
    wat::parse_str(text(WHOLE, name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The text of a preprocessor, for a test to change; `)` is its last character.
pub(crate) fn preprocessor_text(guest: &str) -> String {
    component(&[(PREPROCESS, guest)])
}

fn assemble(stages: &[(&str, &str)]) -> Vec<u8> {
    wat::parse_str(component(stages)).unwrap_or_else(|error| panic!("{error}"))
}

fn component(stages: &[(&str, &str)]) -> String {
    let mut component = HEAD.to_owned();
    for (shell, guest) in stages {
        component += &shell.replace(";; GUEST", text(GUESTS, guest));
    }
    component + ")"
}

fn text(texts: &'static [(&str, &str)], name: &str) -> &'static str {
    let found = texts.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no guest is named {name}")).1
}
