//! The cells of recurrent layers: one step of one direction.

use burn::tensor::TensorMetadata;
use burn::tensor::ops::{BoolTensor, FloatTensor};

use super::function::Function;
use crate::kernels::Kernels;
use crate::value::DeviceTensor;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Cell {
    Plain,
    /// Whether the reset gate acts after the product with the hidden state.
    Gru {
        late: bool,
    },
    /// Whether what is not forgotten is not taken in either.
    Lstm {
        coupled: bool,
    },
}

/// `[batch, hidden]` each.
pub(super) struct State<B: Kernels> {
    pub(super) hidden: FloatTensor<B>,
    pub(super) cell: FloatTensor<B>,
}

impl<B: Kernels> Clone for State<B> {
    fn clone(&self) -> Self {
        Self { hidden: self.hidden.clone(), cell: self.cell.clone() }
    }
}

impl<B: Kernels> State<B> {
    /// `before` where `mask` is true.
    pub(super) fn unless(self, mask: BoolTensor<B>, before: Self) -> Self {
        Self {
            hidden: B::float_mask_where(self.hidden, mask.clone(), before.hidden),
            cell: B::float_mask_where(self.cell, mask, before.cell),
        }
    }
}

/// What meets the state in each step.
pub(super) struct Weights<B: Kernels> {
    /// `[hidden, gates * hidden]`.
    pub(super) recurrence: FloatTensor<B>,
    /// `[1, gates * hidden]`.
    pub(super) hidden_bias: Option<FloatTensor<B>>,
    /// For input, output and forget gate, `[1, hidden]` each.
    pub(super) peepholes: Option<[FloatTensor<B>; 3]>,
}

/// How the state meets its weights.
pub(super) struct Recurrence<'a, B: Kernels> {
    weights: &'a Weights<B>,
    packed: Option<B::MatrixWeights>,
    bias: Option<FloatTensor<B>>,
}

/// To bring the weights into order pays for itself after so many steps.
const MANY_STEPS: usize = 4;

impl<'a, B: Kernels> Recurrence<'a, B> {
    pub(super) fn of(weights: &'a Weights<B>, steps: usize) -> Self {
        let pack = || B::pack_matrix(&weights.recurrence, false).map(|(packed, _)| packed);
        let packed = (steps >= MANY_STEPS).then(pack).flatten();
        let bias = weights.hidden_bias.clone();
        // One number for each column.
        let flat = |bias: FloatTensor<B>| {
            let columns = bias.shape().num_elements();
            B::float_reshape(bias, [columns].into())
        };
        Self { weights, bias: if packed.is_some() { bias.map(flat) } else { bias }, packed }
    }

    pub(super) fn product(&self, state: &State<B>) -> FloatTensor<B> {
        let hidden = state.hidden.clone();
        if let Some(packed) = &self.packed {
            return B::matmul_packed(hidden, packed, self.bias.clone(), None);
        }
        let product = B::float_matmul(hidden, self.weights.recurrence.clone());
        match &self.bias {
            Some(bias) => B::float_add(product, bias.clone()),
            None => product,
        }
    }
}

impl Cell {
    pub(super) fn gates(self) -> usize {
        match self {
            Self::Plain => 1,
            Self::Gru { .. } => 3,
            Self::Lstm { .. } => 4,
        }
    }

    /// The functions that a cell has where a model names none.
    pub(super) fn functions(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["tanh"],
            Self::Gru { .. } => &["sigmoid", "tanh"],
            Self::Lstm { .. } => &["sigmoid", "tanh", "tanh"],
        }
    }

    /// The state after one step. `product` is that of weights and input, and
    /// `recurrent` that of weights and state; both with their biases.
    pub(super) fn step<B: Kernels>(
        self,
        call: &Call<'_, B>,
        product: FloatTensor<B>,
        recurrent: FloatTensor<B>,
        state: State<B>,
    ) -> State<B> {
        match self {
            Self::Plain => {
                let hidden = call.function(0, B::float_add(product, recurrent));
                State { hidden, ..state }
            }
            Self::Gru { late } => call.gru(late, product, recurrent, state),
            Self::Lstm { coupled } => call.lstm(coupled, B::float_add(product, recurrent), state),
        }
    }
}

/// What a cell computes with.
pub(super) struct Call<'a, B: Kernels> {
    pub(super) weights: &'a Weights<B>,
    pub(super) functions: &'a [Function],
    pub(super) clip: Option<f64>,
}

impl<B: Kernels> Call<'_, B> {
    /// The layer's function `index` of what is first cut to the bounds.
    fn function(&self, index: usize, x: FloatTensor<B>) -> FloatTensor<B> {
        let x = match self.clip {
            Some(clip) => B::float_clamp(x, (-clip).into(), clip.into()),
            None => x,
        };
        match self.functions.get(index) {
            Some(function) => function.apply::<B>(x),
            None => x,
        }
    }

    fn gru(
        &self,
        late: bool,
        product: FloatTensor<B>,
        recurrent: FloatTensor<B>,
        state: State<B>,
    ) -> State<B> {
        let State { hidden, cell } = state;
        let sum = |i| B::float_add(gate::<B>(&product, i, 3), gate::<B>(&recurrent, i, 3));
        let (update, reset) = (self.function(0, sum(0)), self.function(0, sum(1)));
        let inner = if late {
            B::float_mul(reset, gate::<B>(&recurrent, 2, 3))
        } else {
            let weight = gate::<B>(&self.weights.recurrence, 2, 3);
            let inner = B::float_matmul(B::float_mul(reset, hidden.clone()), weight);
            match &self.weights.hidden_bias {
                Some(bias) => B::float_add(inner, gate::<B>(bias, 2, 3)),
                None => inner,
            }
        };
        let fresh = self.function(1, B::float_add(gate::<B>(&product, 2, 3), inner));
        let kept = B::float_mul(update, B::float_sub(hidden, fresh.clone()));
        State { hidden: B::float_add(fresh, kept), cell }
    }

    fn lstm(&self, coupled: bool, sums: FloatTensor<B>, state: State<B>) -> State<B> {
        let cell = state.cell;
        let peep = |i: usize, cell: &FloatTensor<B>, sum| match self
            .weights
            .peepholes
            .as_ref()
            .and_then(|p| p.get(i))
        {
            Some(p) => B::float_add(sum, B::float_mul(cell.clone(), p.clone())),
            None => sum,
        };
        let input = self.function(0, peep(0, &cell, gate::<B>(&sums, 0, 4)));
        let forget = if coupled {
            B::float_add_scalar(B::float_neg(input.clone()), 1f64.into())
        } else {
            self.function(0, peep(2, &cell, gate::<B>(&sums, 2, 4)))
        };
        let fresh = self.function(1, gate::<B>(&sums, 3, 4));
        let cell = B::float_add(B::float_mul(forget, cell), B::float_mul(input, fresh));
        let output = self.function(0, peep(1, &cell, gate::<B>(&sums, 1, 4)));
        let bent = match self.functions.get(2) {
            Some(function) => function.apply::<B>(cell.clone()),
            None => cell.clone(),
        };
        State { hidden: B::float_mul(output, bent), cell }
    }
}

/// The columns of gate `index` of `gates`.
fn gate<B: Kernels>(x: &FloatTensor<B>, index: usize, gates: usize) -> FloatTensor<B> {
    let tensor = DeviceTensor::<B>::Float(x.clone());
    let size = tensor.dims().last().copied().unwrap_or_default() / gates;
    match tensor.narrow(1, index * size, (index + 1) * size) {
        DeviceTensor::Float(part) => part,
        _ => x.clone(),
    }
}
