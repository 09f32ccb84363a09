use std::time::Duration;

use ingle_plugins::{InitOptions, Plugin};
use ingle_types::{Code, Limits};

use crate::fixture::{context, host_with, limits, x};
use crate::guests;
use crate::hostile::{HONEST, HOSTILE};

const THREADS: usize = 4;
const CALLS: usize = 1000;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
}

/// Calls a guest `calls` times: its `init` alone where that does not succeed.
fn call(plugin: &Plugin, calls: usize) {
    let configured = plugin.preprocessor(InitOptions::default());
    let inputs = x(&[1., 2.]);
    let call = || match &configured {
        Ok(configured) => drop(configured.process(&context(), &inputs)),
        Err(_) => drop(plugin.preprocessor(InitOptions::default())),
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..calls / THREADS).for_each(|_| call()));
        }
    });
}

#[test]
fn a_thousand_calls_of_each_guest_leave_memory_as_it_was() {
    let patient = host_with(limits(), None, THREADS);
    let at_once = Limits { plugin_call_timeout: Duration::from_millis(1), ..limits() };
    let hasty = host_with(at_once, None, THREADS);
    let hostile = HOSTILE.iter().map(|(guest, code, _)| (*guest, *code == Code::DeadlineExceeded));
    let honest = HONEST.iter().map(|guest| (*guest, false));
    let plugins: Vec<_> = hostile
        .chain(honest)
        // As a preprocessor it is not valid WebAssembly.
        .filter(|(guest, _)| *guest != "echo-carry")
        .map(|(guest, endless)| {
            let host = if endless { &hasty } else { &patient };
            host.compile(guest, None, &guests::preprocessor(guest)).unwrap()
        })
        .collect();
    plugins.iter().for_each(|plugin| call(plugin, CALLS / 10));
    let before = resident_bytes();
    plugins.iter().for_each(|plugin| call(plugin, CALLS));
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes");
}
