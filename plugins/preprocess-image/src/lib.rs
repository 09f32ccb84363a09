//! Turns a picture, encoded or raw, into the tensor that a model wants.
//!
//! It does not rotate by EXIF, apply colour profiles or blend transparency: neither Pillow nor
//! TensorFlow does while decoding. Read [`Plan`] first, then `resample.rs`.

mod config;
mod decode;
mod lanes;
mod picture;
mod plan;
mod render;
mod resample;

use ingle_plugin::{
    InitOptions, PluginInfo, Prepared, Preprocess, RequestContext, Result, Tensor,
    export_preprocess, plugin_info, single_input,
};

use picture::Picture;
pub use plan::Plan;
use plan::Source;

/// The plugin: a validated configuration, and nothing that a request could leave behind.
pub struct PreprocessImage {
    plan: Plan,
}

impl Preprocess for PreprocessImage {
    fn init(options: InitOptions) -> Result<Self> {
        let plan = Plan::new(options.config()?, &options.model_inputs)?;
        Ok(Self { plan })
    }

    fn info(&self) -> PluginInfo {
        plugin_info!(vec![self.plan.public_spec()])
    }

    fn process(&mut self, _: &RequestContext, inputs: Vec<Tensor>) -> Result<Prepared> {
        let plan = &self.plan;
        let input = single_input(inputs, &plan.input_name)?;
        let picture = match plan.source {
            Source::Encoded => decode::decode(input.single_blob()?, plan.max_pixels),
            Source::Raw(color) => {
                // The data type is checked here, the shape and the length inside.
                input.view::<u8>()?;
                Picture::from_tensor(&input, color.channels(), plan.max_pixels)
            }
        };
        let tensor = picture.and_then(|picture| render::render(plan, &picture));
        Ok(Prepared::one(vec![tensor.map_err(|refusal| refusal.of(&plan.input_name))?]))
    }
}

export_preprocess!(PreprocessImage);
