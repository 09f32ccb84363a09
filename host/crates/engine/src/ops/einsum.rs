//! Einsum: sums of products, by an equation that names the axes.

use ingle_types::DType;

use super::elementwise::{apply, mul};
use super::gather::pick_parts;
use super::matmul::matmul;
use super::reduce::sum_of;
use super::tensor::permute;
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::strides;
use crate::kernels::Kernels;
use crate::value::Value;
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Einsum", 12.., 1.., einsum);
}

fn einsum<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let equation = Equation::parse(&args.string("equation", "")?)?;
    if equation.operands.len() != args.inputs() {
        return Err(BAD("it does not have a term for each input"));
    }
    op(move |ctx, mut inputs| {
        let values = inputs.take_all()?;
        Ok(vec![equation.run(ctx, values)?])
    })
}

const BAD: fn(&'static str) -> BuildError = |reason| BuildError::Value { name: "equation", reason };

/// What an axis stands for: a letter of the equation, or a place in the ellipsis,
/// counted from its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Hidden(usize),
    Letter(char),
}

/// The axes of one operand or of the answer.
struct Term {
    letters: Vec<char>,
    /// How many letters come before the ellipsis, where there is one.
    ellipsis: Option<usize>,
}

struct Equation {
    operands: Vec<Term>,
    output: Term,
}

impl Equation {
    fn parse(text: &str) -> Result<Self, BuildError> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        let operands = left.split(',').map(Term::parse).collect::<Result<Vec<_>, _>>()?;
        let output = match right {
            Some(right) => Term::parse(right)?,
            None => Term::implied(&operands),
        };
        let mut seen = Vec::new();
        for &letter in &output.letters {
            if seen.contains(&letter) {
                return Err(BAD("the output has a letter twice"));
            }
            seen.push(letter);
            if !operands.iter().any(|term| term.letters.contains(&letter)) {
                return Err(BAD("the output has a letter that no input has"));
            }
        }
        Ok(Self { operands, output })
    }

    fn run<B: Kernels>(
        &self,
        ctx: &Context<B>,
        values: Vec<Value<B>>,
    ) -> Result<Value<B>, OpError> {
        let terms = self.operands.iter().zip(values);
        let operands =
            terms.map(|(term, value)| term.name(value)).collect::<Result<Vec<_>, _>>()?;
        let hidden = |(_, labels): &(Value<B>, Vec<Label>)| {
            labels.iter().filter(|label| matches!(label, Label::Hidden(_))).count()
        };
        let widest = operands.iter().map(hidden).max().unwrap_or_default();
        let output = self.output.labels(widest);
        let mut later: Vec<Vec<Label>> = vec![output.clone()];
        for (_, labels) in operands.iter().skip(1).rev() {
            let known = later.last().into_iter().flatten().copied();
            later.push(known.chain(labels.iter().copied()).collect());
        }
        let mut rest = operands.into_iter();
        let first = rest.next().ok_or(OpError::Missing { index: 0 })?;
        let mut answer =
            Named::of(ctx, first)?.keep(ctx, later.last().map_or(&[], Vec::as_slice))?;
        for operand in rest {
            later.pop();
            let needed = later.last().map_or(&[][..], Vec::as_slice);
            answer = answer.times(ctx, Named::of(ctx, operand)?, needed)?;
        }
        answer.into_order(ctx, &output)
    }
}

impl Term {
    fn parse(text: &str) -> Result<Self, BuildError> {
        let (before, behind) = match text.split_once("...") {
            Some((before, behind)) => (before, Some(behind)),
            None => (text, None),
        };
        let letters: Vec<char> = before.chars().chain(behind.unwrap_or_default().chars()).collect();
        if letters.iter().any(|c| !c.is_ascii_alphabetic()) {
            return Err(BAD("it is not made of letters, commas, \"...\" and one \"->\""));
        }
        Ok(Self { letters, ellipsis: behind.map(|_| before.chars().count()) })
    }

    /// The ellipsis and the letters that occur once, in alphabetical order.
    fn implied(operands: &[Self]) -> Self {
        let mut all: Vec<char> = operands.iter().flat_map(|term| term.letters.clone()).collect();
        all.sort_unstable();
        let single = all.chunk_by(|a, b| a == b).filter(|same| same.len() == 1);
        let letters = single.flatten().copied().collect();
        let ellipsis = operands.iter().any(|term| term.ellipsis.is_some()).then_some(0);
        Self { letters, ellipsis }
    }

    /// The labels of all axes, where the ellipsis stands for `hidden` ones.
    fn labels(&self, hidden: usize) -> Vec<Label> {
        let letters: Vec<Label> =
            self.letters.iter().map(|&letter| Label::Letter(letter)).collect();
        let Some(at) = self.ellipsis else { return letters };
        let (before, behind) = letters.split_at(at.min(letters.len()));
        let hidden = (0..hidden).rev().map(Label::Hidden);
        before.iter().copied().chain(hidden).chain(behind.iter().copied()).collect()
    }

    fn name<B: Kernels>(&self, value: Value<B>) -> Result<(Value<B>, Vec<Label>), OpError> {
        let rank = value.rank();
        let hidden = match self.ellipsis {
            Some(_) => rank.checked_sub(self.letters.len()),
            None => (rank == self.letters.len()).then_some(0),
        };
        let hidden = hidden.ok_or_else(|| OpError::Dims {
            what: "an operand of this equation",
            dims: value.dims(),
        })?;
        Ok((value, self.labels(hidden)))
    }
}

/// A tensor whose axes have labels, each once.
struct Named<B: Kernels> {
    value: Value<B>,
    labels: Vec<Label>,
}

impl<B: Kernels> Named<B> {
    /// Of axes with the same label only the diagonal is kept.
    fn of(ctx: &Context<B>, (value, labels): (Value<B>, Vec<Label>)) -> Result<Self, OpError> {
        let given = value.dims();
        let mut axes: Vec<(Label, usize, usize)> = Vec::new();
        for ((&label, &size), step) in labels.iter().zip(&given).zip(strides(&given)) {
            match axes.iter_mut().find(|(known, ..)| *known == label) {
                None => axes.push((label, size, step)),
                Some((_, known, steps)) if *known == size => *steps += step,
                Some(_) => {
                    let what = "an operand without a diagonal";
                    return Err(OpError::Dims { what, dims: given });
                }
            }
        }
        if axes.len() == labels.len() {
            return Ok(Self { value, labels });
        }
        let dims: Vec<usize> = axes.iter().map(|(_, size, _)| *size).collect();
        ctx.admit(DType::I64, &dims)?;
        let places: Vec<usize> = (0..dims.iter().product())
            .map(|index: usize| {
                let mut rest = index;
                let mut place = 0;
                for (_, size, step) in axes.iter().rev() {
                    place += rest % size * step;
                    rest /= size;
                }
                place
            })
            .collect();
        let value = pick_parts(ctx, value, 1, &places, dims)?;
        Ok(Self { value, labels: axes.into_iter().map(|(label, ..)| label).collect() })
    }

    fn size(&self, label: Label) -> Option<usize> {
        let place = self.labels.iter().position(|&own| own == label)?;
        self.value.dims().get(place).copied()
    }

    /// Sums over the axes that are not `needed`.
    fn keep(self, ctx: &Context<B>, needed: &[Label]) -> Result<Self, OpError> {
        let gone: Vec<usize> =
            (0..).zip(&self.labels).filter(|(_, l)| !needed.contains(l)).map(|(i, _)| i).collect();
        if gone.is_empty() {
            return Ok(self);
        }
        let mut dims = self.value.dims();
        for &place in gone.iter().rev() {
            dims.remove(place);
        }
        let value = sum_of(ctx, self.value, &gone)?.reshape(dims);
        let labels = self.labels.into_iter().filter(|label| needed.contains(label)).collect();
        Ok(Self { value, labels })
    }

    /// The tensor with exactly these labels in this order.
    fn into_order(self, ctx: &Context<B>, labels: &[Label]) -> Result<Value<B>, OpError> {
        // An ellipsis that is wider in the answer than in any operand has ones.
        let place = |label| self.labels.iter().position(|own| own == label);
        let axes: Vec<usize> = labels.iter().filter_map(place).collect();
        permute(ctx, self.value, &axes)
    }

    /// The product, summed over what is not `needed`.
    fn times(self, ctx: &Context<B>, other: Self, needed: &[Label]) -> Result<Self, OpError> {
        let in_both = |label: &Label| self.labels.contains(label) && other.labels.contains(label);
        let kept = |label: &Label| in_both(label) || needed.contains(label);
        let all = self.labels.iter().chain(other.labels.iter());
        let wanted: Vec<Label> = all.copied().filter(kept).collect();
        let (left, right) = (self.keep(ctx, &wanted)?, other.keep(ctx, &wanted)?);
        let (left, right) = left.matched(ctx, right)?;
        let shared = |label: &&Label| right.labels.contains(*label);
        let (both, rows): (Vec<Label>, Vec<Label>) = left.labels.iter().partition(shared);
        let (batch, inner): (Vec<Label>, Vec<Label>) =
            both.into_iter().partition(|label| needed.contains(label));
        let own = right.labels.iter().filter(|label| !left.labels.contains(label));
        let columns: Vec<Label> = own.copied().collect();
        let sizes = |labels: &[Label], of: &Self| -> Vec<usize> {
            labels.iter().filter_map(|&label| of.size(label)).collect()
        };
        let out = [sizes(&batch, &left), sizes(&rows, &left), sizes(&columns, &right)];
        let [b, m, n] = [0, 1, 2].map(|i| out.get(i).into_iter().flatten().product::<usize>());
        let k = sizes(&inner, &left).iter().product::<usize>();
        let left = left.into_order(ctx, &[&batch[..], &rows, &inner].concat())?;
        let labels = [batch.clone(), rows, columns.clone()].concat();
        let product = if inner.is_empty() {
            let right = right.into_order(ctx, &[batch, columns].concat())?;
            apply(ctx, &mul(), left.reshape(vec![b, m, 1]), right.reshape(vec![b, 1, n]))?
        } else {
            let right = right.into_order(ctx, &[batch, inner, columns].concat())?;
            matmul(ctx, left.reshape(vec![b, m, k]), right.reshape(vec![b, k, n]))?
        };
        Ok(Self { value: product.reshape(out.concat()), labels })
    }

    /// Both with the same sizes of what they share: axes of size one are repeated.
    fn matched(self, ctx: &Context<B>, other: Self) -> Result<(Self, Self), OpError> {
        let (left, right) = (self.value.dims(), other.value.dims());
        let spread = |from: &Self, to: &Self| {
            let size = |(&label, &own): (&Label, &usize)| match to.size(label) {
                Some(size) if own == 1 => Some(size),
                Some(size) if size != own && size != 1 => None,
                _ => Some(own),
            };
            from.labels.iter().zip(&from.value.dims()).map(size).collect::<Option<Vec<_>>>()
        };
        let (Some(own), Some(others)) = (spread(&self, &other), spread(&other, &self)) else {
            let what = "axes of the same label differ in size";
            return Err(OpError::Mismatch { what, left, right });
        };
        ctx.admit(self.value.dtype(), &own)?;
        ctx.admit(other.value.dtype(), &others)?;
        let value = self.value.expand(ctx, &own)?;
        let other = Self { value: other.value.expand(ctx, &others)?, ..other };
        Ok((Self { value, ..self }, other))
    }
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, counting, f32s, i64s, tensor};

    #[track_caller]
    fn check(equation: &str, inputs: &[Tensor], wanted: Tensor) {
        Case::of("Einsum", inputs.to_vec()).string("equation", equation).gives([wanted]);
    }

    #[track_caller]
    fn refused(equation: &str, inputs: &[Tensor], text: &str) {
        Case::of("Einsum", inputs.to_vec()).string("equation", equation).fails(text);
    }

    #[test]
    fn one_operand_is_summed_turned_and_cut() {
        let x = [counting(&[2, 3])];
        check("ij->ji", &x, f32s(&[3, 2], &[1., 4., 2., 5., 3., 6.]));
        check("ji", &x, f32s(&[3, 2], &[1., 4., 2., 5., 3., 6.]));
        check("ij->i", &x, f32s(&[2], &[6., 15.]));
        check("ij->", &x, f32s(&[], &[21.]));
        check(" i j -> j ", &x, f32s(&[3], &[5., 7., 9.]));
        let square = [counting(&[2, 2])];
        check("ii->i", &square, f32s(&[2], &[1., 4.]));
        check("ii", &square, f32s(&[], &[5.]));
        check("...ii->...i", &[counting(&[2, 2, 2])], f32s(&[2, 2], &[1., 4., 5., 8.]));
        check("", &[f32s(&[], &[3.])], f32s(&[], &[3.]));
    }

    #[test]
    fn operands_are_multiplied_and_summed() {
        let (a, b) = (counting(&[2, 2]), f32s(&[2, 2], &[5., 6., 7., 8.]));
        let pair = [a.clone(), b.clone()];
        check("ij,jk->ik", &pair, f32s(&[2, 2], &[19., 22., 43., 50.]));
        check("ij,jk", &pair, f32s(&[2, 2], &[19., 22., 43., 50.]));
        check("ij,ij->ij", &pair, f32s(&[2, 2], &[5., 12., 21., 32.]));
        check("ij,kj->ki", &pair, f32s(&[2, 2], &[17., 39., 23., 53.]));
        check("ij,kl->", &pair, f32s(&[], &[260.]));
        check("i,j->ij", &[counting(&[2]), counting(&[2])], f32s(&[2, 2], &[1., 2., 2., 4.]));
        check("i,i", &[counting(&[3]), counting(&[3])], f32s(&[], &[14.]));
        let three = [a, b, f32s(&[2], &[1., 10.])];
        check("ij,jk,k->i", &three, f32s(&[2], &[239., 543.]));
    }

    #[test]
    fn an_ellipsis_broadcasts() {
        let (x, y) = (counting(&[2, 1, 2]), counting(&[3, 2]));
        check(
            "...i,...i->...",
            &[x.clone(), y.clone()],
            f32s(&[2, 3], &[5., 11., 17., 11., 25., 39.]),
        );
        check("a...,...a", &[counting(&[2, 2]), counting(&[2, 2])], f32s(&[2], &[7., 22.]));
        check("...i,...i->i", &[x, y], f32s(&[2], &[36., 72.]));
    }

    #[test]
    fn every_number_type_is_summed_exactly() {
        let large = 1i64 << 60;
        check(
            "i,i->",
            &[i64s(&[2], &[large, 1]), i64s(&[2], &[3, 2])],
            i64s(&[], &[3 * large + 2]),
        );
        let bytes = [tensor(&[1, 2], &[200u8, 100]), tensor(&[2, 1], &[2u8, 1])];
        check("ij,jk->ik", &bytes, tensor(&[1, 1], &[(500 % 256) as u8]));
        let doubles = [tensor(&[2], &[0.1f64, 0.2]), tensor(&[2], &[1f64, 1.])];
        check("i,i->i", &doubles, tensor(&[2], &[0.1f64, 0.2]));
    }

    #[test]
    fn nothing_sums_to_zero() {
        check("ij,jk->ik", &[f32s(&[2, 0], &[]), f32s(&[0, 1], &[])], f32s(&[2, 1], &[0., 0.]));
        check("ij->i", &[f32s(&[2, 0], &[])], f32s(&[2], &[0., 0.]));
        check("ij,jk->ik", &[f32s(&[0, 2], &[]), counting(&[2, 3])], f32s(&[0, 3], &[]));
    }

    #[test]
    fn wrong_equations_are_refused() {
        let x = [counting(&[2, 3])];
        refused("ij,jk->ik", &x, "a term for each input");
        refused("ij->ii", &x, "twice");
        refused("ij->k", &x, "no input has");
        refused("i1->i", &x, "not made of letters");
        refused("i->i->i", &x, "not made of letters");
        refused("i...j...", &x, "not made of letters");
        refused("ijk->i", &x, "an operand of this equation");
        refused("ijk...->i", &x, "an operand of this equation");
        refused("ii->i", &x, "without a diagonal");
        refused("ij,ij->i", &[counting(&[2, 3]), counting(&[3, 3])], "differ in size");
    }
}
