use ingle_plugins::{InitOptions, PluginError};
use ingle_types::{Code, Limits, Stage};

use crate::fixture::{answer, host, limits, x};
use crate::guests;

#[test]
fn a_component_that_breaks_the_contract_is_refused_by_name() {
    let host = host(limits());
    let cases = [
        ("core-module", Code::InvalidArgument, "this is a core WebAssembly module"),
        (
            "version",
            Code::FailedPrecondition,
            "built for ingle:plugin 0.3.0, this server speaks 0.1.0",
        ),
        ("unversioned", Code::FailedPrecondition, "built for ingle:plugin without a version"),
        ("nothing", Code::InvalidArgument, "exports neither ingle:plugin/preprocess nor"),
        (
            "missing-export",
            Code::InvalidArgument,
            "does not export ingle:plugin/preprocess@0.1.0#init",
        ),
        (
            "wrong-type",
            Code::InvalidArgument,
            "ingle:plugin/postprocess@0.1.0#init has the wrong type: expected",
        ),
        (
            "sockets",
            Code::PermissionDenied,
            "imports wasi:sockets/tcp@0.2.3, wasi:clocks/monotonic-clock@0.2.3, \
             wasi:cli/environment@0.2.3, which no plugin is granted",
        ),
        ("models", Code::PermissionDenied, "imports ingle:plugin/models@0.1.0, which"),
        ("telemetry", Code::InvalidArgument, "an import has the wrong type: "),
    ];
    for (name, _) in guests::WHOLE {
        assert!(cases.iter().any(|(case, ..)| case == name), "{name} is not tested");
    }
    for (name, code, text) in cases {
        let error = host.compile(name, None, &guests::whole(name)).unwrap_err();
        let expected = format!("plugin {name}: ");
        let shown = error.to_string();
        assert!(shown.starts_with(&expected) && shown.contains(text), "{shown}");
        assert_eq!(error.code(), code, "{shown}");
        let served = error.into_serve_error(Stage::Preprocess);
        assert!(served.message().starts_with(&format!("plugin {name}")), "{served}");
        assert!(served.message().contains("preprocess"), "{served}");
    }
}

#[test]
fn an_import_with_a_missing_function_names_it() {
    let error = host(limits()).compile("p", None, &guests::whole("telemetry")).unwrap_err();
    assert!(error.to_string().contains("exfiltrate"), "{error}");
}

#[test]
fn bytes_that_are_no_component_are_told_apart() {
    let host = host(limits());
    let cases: [(&[u8], &str); 6] = [
        (b"", "the file is empty"),
        (b"(component)", "this is WebAssembly text"),
        (b"\x7fELF\x02\x01\x01", "this is native code"),
        (b"GIF89a", "this is not WebAssembly"),
        (b"\0asm\x63\0\0\0", "this is another version of WebAssembly"),
        (b"\0asm\x01\0\0\0", "this is a core WebAssembly module"),
    ];
    for (bytes, text) in cases {
        let error = host.compile("p", None, bytes).unwrap_err();
        assert!(matches!(error, PluginError::NotAComponent { .. }), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn no_cut_or_flipped_component_is_more_than_an_error() {
    let host = host(limits());
    let whole = guests::preprocessor("echo");
    for end in (8..whole.len()).step_by(61) {
        let error = host.compile("p", None, &whole[..end]).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{end}: {error}");
    }
    for at in (8..whole.len()).step_by(37) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x15;
        // It may still be valid; what it must not do is take the host along.
        if let Ok(plugin) = host.compile("p", None, &flipped) {
            let _ = plugin.preprocessor(InitOptions::default());
        }
    }
}

#[test]
fn a_file_may_be_as_large_as_its_limit() {
    let wasm = guests::preprocessor("echo");
    let bytes = wasm.len() as u64;
    let compile = |limit| {
        let limits = Limits { component_bytes: limit, ..limits() };
        host(limits).compile("p", None, &wasm)
    };
    assert!(compile(bytes).is_ok() && compile(bytes + 1).is_ok());
    let error = compile(bytes - 1).unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(matches!(error, PluginError::TooLarge { limit, .. } if limit == bytes - 1));
}

#[test]
fn a_plugin_says_which_stages_it_has() {
    let host = host(limits());
    let both = host.compile("both", Some(2), &guests::processor("echo", "ready")).unwrap();
    assert_eq!((both.name(), both.version()), ("both", Some(2)));
    assert!(both.has_preprocess() && both.has_postprocess());
    let pre = host.compile("pre", None, &guests::preprocessor("echo")).unwrap();
    assert!(pre.has_preprocess() && !pre.has_postprocess());
    assert_ne!(pre.digest(), both.digest());
    let error = pre.postprocessor(InitOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "plugin pre: does not export ingle:plugin/postprocess");
}

#[test]
fn more_memory_than_the_limit_is_refused_at_load() {
    let host = host(limits());
    let error = crate::fixture::preprocessor(&host, "big").unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
}

#[test]
fn a_patch_of_the_contract_is_the_same_contract() {
    let text = guests::preprocessor_text("echo").replace("@0.1.0", "@0.1.7");
    let host = host(limits());
    let plugin = host.compile("p", None, &wat::parse_str(text).unwrap()).unwrap();
    let echo = plugin.preprocessor(InitOptions::default()).unwrap();
    assert_eq!(answer(&echo, &x(&[4.])), [4.]);
}

#[test]
fn what_else_a_component_exports_does_not_matter() {
    let text = guests::preprocessor_text("echo");
    let stray = r#"(export "init" (func $pre-init)) (export "ingle:plugin/models@9.0.0" (instance $preprocess)))"#;
    let text = text.strip_suffix(')').unwrap().to_owned() + stray;
    let plugin = host(limits()).compile("p", None, &wat::parse_str(text).unwrap()).unwrap();
    let echo = plugin.preprocessor(InitOptions::default()).unwrap();
    assert_eq!(answer(&echo, &x(&[4.])), [4.]);
}
