use std::fmt;
use std::sync::{Arc, Mutex};

use ingle_types::Limits;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::fixture::{answer, host, limits, preprocessor, x};

/// Keeps the lines that plugins log, with their fields.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "plugin"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn logged_by(guest: &str) -> (Vec<f32>, Vec<String>) {
    let host = host(Limits { plugin_log_bytes: 4096, plugin_output_bytes: 16 << 20, ..limits() });
    let kept = Kept::default();
    let answer = tracing::subscriber::with_default(kept.clone(), || {
        answer(&preprocessor(&host, guest).unwrap(), &x(&[0.]))
    });
    let lines = kept.0.lock().unwrap().clone();
    (answer, lines)
}

#[test]
fn a_flood_is_cut_and_the_cut_is_told() {
    let (_, lines) = logged_by("chatty");
    let (last, lines) = lines.split_last().unwrap();
    assert!((2..=4096 / 64).contains(&lines.len()), "{}", lines.len());
    assert!(last.contains("dropped=99") && last.contains("more than its limit"), "{last}");
}

#[test]
fn a_line_names_who_speaks_and_cannot_be_forged() {
    let (_, lines) = logged_by("chatty");
    assert_eq!(
        lines[0],
        "message=hello [31m ERROR faked plugin=\"chatty\" stage=\"preprocess\" model=\"m\" \
         request_id=\"r1\" "
    );
}

#[test]
fn a_huge_line_is_cut_and_ends_the_budget() {
    let (answer, lines) = logged_by("chatty-huge");
    assert_eq!(answer, [0., 2.], "the guest is told that nothing more is kept");
    assert_eq!(lines.len(), 2);
    assert!(lines[0].len() < 4096 + 200, "{}", lines[0].len());
}
