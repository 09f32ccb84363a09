use std::sync::Arc;

use ingle_types::{Deadline, ModelSpec, PredictRequest, ServeError, Tensor};

use super::body::Encoded;
use super::{decode, render};
use crate::Wire;
use crate::call::{Call, offload};

pub(super) async fn answer(
    wire: &Wire,
    call: &Call,
    model: ModelSpec,
    body: Encoded,
    deadline: Deadline,
) -> Result<Vec<u8>, ServeError> {
    let (serve, limits) = (wire.serve.clone(), wire.limits.clone());
    let decoded =
        offload(body.len(), move || decode::decode(&body.decode()?, &model, &*serve, &limits))
            .await?;
    call.found(&*decoded.servable);
    let chosen = call.choose().map(|chosen| (chosen, decoded.inputs.clone()));
    let asked = PredictRequest {
        signature: decoded.signature,
        inputs: decoded.inputs,
        output_filter: Vec::new(),
        deadline,
    };
    let outputs = Arc::new(call.predict(&*decoded.servable, asked).await?);
    let (bytes, rendered) = (outputs.values().map(Tensor::size_bytes).sum(), outputs.clone());
    let text = offload(bytes, move || Ok(render::render(&rendered, decoded.form)?)).await?;
    if let Some((chosen, inputs)) = chosen {
        call.record_predict(chosen, inputs, outputs);
    }
    Ok(text)
}
