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
    let asked = PredictRequest {
        signature: decoded.signature,
        inputs: decoded.inputs,
        output_filter: Vec::new(),
        deadline,
    };
    let outputs = call.predict(&*decoded.servable, asked).await?;
    let bytes = outputs.values().map(Tensor::size_bytes).sum();
    offload(bytes, move || Ok(render::render(&outputs, decoded.form)?)).await
}
