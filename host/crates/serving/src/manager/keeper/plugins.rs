//! Follows the plugins of the versions that serve, and of those that miss some.

use std::sync::Arc;

use ingle_telemetry::LoadOutcome;
use ingle_types::Version;

use super::{Keeper, chain};
use crate::manager::load::assemble;
use crate::plugin_repository::View;
use crate::servable::Loaded;

impl Keeper {
    /// The plugins of `current` as they are now, if that differs and has been still for
    /// two looks.
    fn changed_plugins(&mut self, version: Version, current: &View) -> Option<View> {
        let names = current.keys().cloned().collect();
        let view = self.shared.plugins.view(&names, current);
        if view == *current {
            self.arriving.remove(&version);
        } else if self.arriving.get(&version) == Some(&view) {
            self.arriving.remove(&version);
            return Some(view);
        } else {
            self.arriving.insert(version, view);
        }
        None
    }

    /// A version may have failed only because its plugins came after it.
    pub(super) fn retry_with_new_plugins(&mut self) {
        for (version, view) in self.without_plugins.clone() {
            if self.changed_plugins(version, &view).is_some() {
                self.without_plugins.remove(&version);
                self.versions.retry(version);
            }
        }
    }

    /// Puts plugins to use that were published, or removed, since the last round.
    pub(super) fn follow_plugins(&mut self) {
        let serving: Vec<_> =
            self.versions.available().map(|(v, loaded)| (v, loaded.clone())).collect();
        let mut changed = false;
        for (version, loaded) in serving {
            let current = loaded.follow().view.clone();
            if let Some(view) = self.changed_plugins(version, &current) {
                self.shared.plugins.forget_missing(&view);
                self.swap_plugins(&loaded, view);
                changed = true;
            }
        }
        if changed {
            self.publish();
        }
    }

    fn swap_plugins(&self, loaded: &Loaded, view: View) {
        let (model, version) = (&self.name, loaded.version);
        let batching = loaded.batching.as_ref();
        match assemble(&self.shared, view.clone(), &loaded.program, &loaded.bundle, batching) {
            Ok((pipelines, follow)) => {
                let before = loaded.pipelines.load_full();
                for (plugin, now) in &pipelines.uses {
                    if before.uses.get(plugin) != Some(now) {
                        tracing::info!(%model, version, %plugin, plugin_version = now, "plugin swapped");
                        self.shared.metrics.plugin_swap(plugin, LoadOutcome::Ok);
                    }
                }
                if !follow.note.is_empty() {
                    self.refused(version, &view, &follow.note);
                }
                loaded.pipelines.store(Arc::new(pipelines));
                *loaded.follow() = follow;
            }
            Err(error) => {
                let note = format!("plugins not swapped: {}", chain(&error));
                self.refused(version, &view, &note);
                let mut follow = loaded.follow();
                follow.view = view;
                follow.note = note;
            }
        }
    }

    fn refused(&self, version: Version, view: &View, note: &str) {
        tracing::error!(model = %self.name, version, note, "plugin versions were refused");
        for plugin in view.keys() {
            if note.contains(plugin.as_str()) {
                self.shared.metrics.plugin_swap(plugin, LoadOutcome::Error);
            }
        }
    }
}
