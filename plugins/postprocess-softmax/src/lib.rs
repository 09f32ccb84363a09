//! Turns a model's logits or probabilities into the best classes, with scores and labels.
//!
//! It does not filter by a threshold or join several results. Read [`Plan`] first.

mod labels;
mod plan;
mod rank;

use ingle_plugin::{
    InitOptions, PluginInfo, Postprocess, RequestContext, Result, Tensor, export_postprocess,
    failed_precondition, plugin_info,
};

pub use plan::Plan;

/// The plugin: a validated configuration, and nothing that a request could leave behind.
pub struct PostprocessSoftmax {
    plan: Plan,
}

impl Postprocess for PostprocessSoftmax {
    fn init(options: InitOptions) -> Result<Self> {
        Plan::new(options).map(|plan| Self { plan })
    }

    fn info(&self) -> PluginInfo {
        plugin_info!(self.plan.public_spec())
    }

    fn process(
        &mut self,
        _: &RequestContext,
        results: Vec<Vec<Tensor>>,
        _carry: Vec<u8>,
    ) -> Result<Vec<Tensor>> {
        match results.as_slice() {
            [outputs] => self.plan.answer(outputs),
            _ => Err(failed_precondition!(
                "the preprocessor made {} examples of one, this plugin takes one",
                results.len()
            )),
        }
    }
}

export_postprocess!(PostprocessSoftmax);
