//! Tests of what the element type decides: wrapping, order, rounding.

use half::f16;
use ingle_types::{Element, Tensor};

use crate::testing::{Case, bools, f32s, i64s, tensor};

/// Few elements, which the host computes with, and many, for the device.
#[track_caller]
fn check<T: Element, U: Element>(operator: &str, inputs: &[&[T]], wanted: &[U]) {
    for times in [1, 1000] {
        many(operator, inputs, times)
            .gives([tensor(&[wanted.len() * times], &wanted.repeat(times))]);
    }
}

fn many<T: Element>(operator: &str, inputs: &[&[T]], times: usize) -> Case {
    let repeated = |values: &&[T]| tensor(&[values.len() * times], &values.repeat(times));
    Case::of(operator, inputs.iter().map(repeated)).opset(18)
}

#[track_caller]
fn compare<T: Element>(operator: &str, left: &[T], right: &[T], wanted: &[u8]) {
    for times in [1, 1000] {
        let wanted = bools(&[wanted.len() * times], &wanted.repeat(times));
        many(operator, &[left, right], times).gives([wanted]);
    }
}

#[test]
fn sums_and_products_wrap() {
    check("Add", &[&[250u8, 1], &[10, 2]], &[4u8, 3]);
    check("Sub", &[&[1u16, 5], &[2, 2]], &[u16::MAX, 3]);
    check("Mul", &[&[1u32 << 31, 3], &[2, 3]], &[0u32, 9]);
    check("Add", &[&[u64::MAX, 1], &[2, 2]], &[1u64, 3]);
    check("Sub", &[&[i8::MIN, 5], &[1, 2]], &[i8::MAX, 3]);
    check("Mul", &[&[i16::MAX, -3], &[2, 3]], &[-2i16, -9]);
    check("Add", &[&[i32::MAX, 1], &[1, 2]], &[i32::MIN, 3]);
    check("Mul", &[&[i64::MAX, 1], &[2, 2]], &[-2i64, 2]);
    check("Neg", &[&[i64::MIN, 1]], &[i64::MIN, -1]);
    check("Abs", &[&[i8::MIN, -1]], &[i8::MIN, 1]);
    check("Abs", &[&[u64::MAX, 1]], &[u64::MAX, 1]);
    check("Sign", &[&[u64::MAX, 0]], &[1u64, 0]);
}

#[test]
fn division_cuts_towards_zero_in_every_type() {
    check("Div", &[&[i64::MIN, -7], &[-1, 2]], &[i64::MIN, -3]);
    check("Div", &[&[i8::MIN, -7], &[-1, 2]], &[i8::MIN, -3]);
    check("Div", &[&[u64::MAX, 7], &[2, 2]], &[u64::MAX / 2, 3]);
    check("Div", &[&[200u8, 7], &[3, 9]], &[66u8, 0]);
    check("Mod", &[&[u64::MAX, 7], &[10, 4]], &[5u64, 3]);
    check("Mod", &[&[i64::MIN, -4], &[-1, 3]], &[0i64, 2]);
    check("Mod", &[&[-4i8, 4], &[3, -3]], &[2i8, -2]);
    many("Mod", &[&[-4i16, 4], &[3, -3]], 1).int("fmod", 1).gives([tensor(&[2], &[-1i16, 1])]);
    many("Div", &[&[1u64], &[0]], 1).fails("division by zero");
    many("Mod", &[&[1u64], &[0]], 2000).fails("division by zero");
}

#[test]
fn what_floats_leave_is_exact() {
    for times in [1, 1000] {
        let inputs: [&[f32]; 2] = [&[1e10, -7.5, 3.], &[3., 2., f32::INFINITY]];
        let wanted = [1f32, -1.5, 3.].repeat(times);
        many("Mod", &inputs, times).int("fmod", 1).gives([tensor(&[3 * times], &wanted)]);
    }
}

#[test]
fn order_knows_large_unsigned_numbers() {
    let (large, small) = (u64::MAX, 1);
    compare("Less", &[large, small], &[small, large], &[0, 1]);
    compare("GreaterOrEqual", &[large, small], &[small, large], &[1, 0]);
    compare("Equal", &[large, large], &[large, large - 1], &[1, 0]);
    compare("Equal", &[1i64 << 60, 3], &[(1 << 60) + 1, 3], &[0, 1]);
    compare("Less", &[200u8, 3], &[100, 4], &[0, 1]);
    check("Max", &[&[large, 0], &[small, 2]], &[large, 2]);
    check("Min", &[&[large, 0], &[small, 2]], &[small, 0]);
    check("Max", &[&[-3i8, 4], &[2, 3]], &[2i8, 4]);
    Case::of("ReduceMax", [tensor(&[2], &[large, small])]).gives([tensor(&[1], &[large])]);
}

#[test]
fn bounds_are_exact() {
    let clip = |x: Tensor, low: Tensor, high: Tensor| Case::of("Clip", [x, low, high]);
    let edge = (1i64 << 60) + 1;
    clip(i64s(&[2], &[i64::MAX, 0]), i64s(&[], &[1]), i64s(&[], &[edge]))
        .gives([i64s(&[2], &[edge, 1])]);
    clip(tensor(&[2], &[u64::MAX, 0]), tensor(&[], &[1u64]), tensor(&[], &[u64::MAX - 1]))
        .gives([tensor(&[2], &[u64::MAX - 1, 1])]);
    clip(tensor(&[3], &[1i8, 5, 9]), tensor(&[], &[6i8]), tensor(&[], &[2i8]))
        .gives([tensor(&[3], &[2i8; 3])]);
    let bound = tensor(&[2], &[1i8, 2]);
    clip(tensor(&[1], &[1i8]), bound.clone(), bound).fails("the lower bound");
    Case::of("Relu", [tensor(&[2], &[u64::MAX, 0])]).gives([tensor(&[2], &[u64::MAX, 0])]);
    Case::of("Relu", [tensor(&[2], &[-4i16, 4])]).gives([tensor(&[2], &[0i16, 4])]);
}

#[test]
fn powers_of_integers_are_integers() {
    check("Pow", &[&[3i64, -2], &[4, 3]], &[81i64, -8]);
    check("Pow", &[&[2u8, 3], &[9, 2]], &[0u8, 9]);
    Case::of("Pow", [i64s(&[2], &[3, 5]), tensor(&[2], &[2u8, 0])]).gives([i64s(&[2], &[9, 1])]);
}

#[test]
fn numbers_become_other_numbers() {
    let cast = |x: Tensor, to: i64| Case::of("Cast", [x]).int("to", to);
    let large = u64::MAX - 2047;
    cast(tensor(&[2], &[large, 3]), 11).gives([tensor(&[2], &[large as f64, 3.])]);
    cast(tensor(&[2], &[1e19f64, 3.7]), 13)
        .gives([tensor(&[2], &[10_000_000_000_000_000_000u64, 3])]);
    cast(tensor(&[2], &[u64::MAX, 3]), 7).gives([i64s(&[2], &[-1, 3])]);
    // Rounded once; through 64 bits it would be one less.
    let twice = (1i64 << 60) + (1 << 36) + 1;
    cast(i64s(&[1], &[twice]), 1).gives([f32s(&[1], &[twice as f32])]);
    for times in [1, 1000] {
        let doubles = tensor(&[2 * times], &[1.001f64, 70000.].repeat(times));
        let halves = [f16::from_bits(0x3c01), f16::INFINITY].repeat(times);
        cast(doubles, 10).gives([tensor(&[2 * times], &halves)]);
    }
    cast(f32s(&[3], &[f32::NAN, 0., -0.]), 9).gives([bools(&[3], &[1, 0, 0])]);
    cast(bools(&[2], &[1, 0]), 12).gives([tensor(&[2], &[1u32, 0])]);
    cast(tensor(&[2], &[300i32, -1]), 2).gives([tensor(&[2], &[44u8, 255])]);
}

#[test]
fn reductions_do_not_lose_integers() {
    let mean = |x| Case::of("ReduceMean", [x]);
    mean(tensor(&[2], &[200u8, 250])).gives([tensor(&[1], &[225u8])]);
    mean(tensor(&[2], &[i32::MAX, i32::MAX - 2])).gives([tensor(&[1], &[i32::MAX - 1])]);
    Case::of("ReduceL2", [tensor(&[2], &[30u8, 40])]).gives([tensor(&[1], &[50u8])]);
    Case::of("ReduceSum", [tensor(&[2], &[200u8, 100])]).gives([tensor(&[1], &[44u8])]);
    Case::of("ArgMax", [tensor(&[3], &[1u64, u64::MAX, 5])]).gives([i64s(&[1], &[1])]);
    Case::of("ArgMin", [tensor(&[3], &[1u64 << 63, 7, 9])]).gives([i64s(&[1], &[1])]);
    Case::of("TopK", [tensor(&[3], &[1u64, u64::MAX, 5]), i64s(&[1], &[1])])
        .gives([tensor(&[1], &[u64::MAX]), i64s(&[1], &[1])]);
    Case::of("ReduceLogSumExp", [tensor(&[2], &[7i32, 7])]).gives([tensor(&[1], &[7i32])]);
}

#[test]
fn matrices_of_every_integer_type_multiply() {
    fn product<T: Element>(left: [T; 2], right: [T; 2], wanted: T) {
        Case::of("MatMul", [tensor(&[1, 2], &left), tensor(&[2, 1], &right)])
            .gives([tensor(&[1, 1], &[wanted])]);
    }
    product([200u8, 100], [2, 1], 244);
    product([-3i8, 100], [2, 2], -62);
    product([1u16, 2], [3, 4], 11);
    product([u64::MAX, 1], [2, 3], 1);
    product([i64::MAX, 1], [2, 3], 1);
    product([2u32, 3], [4, 5], 23);
}

#[test]
fn one_value_of_every_type_fills_a_shape() {
    let full =
        |value: &Tensor| Case::of("ConstantOfShape", [i64s(&[1], &[2])]).tensor("value", value);
    full(&tensor(&[1], &[u64::MAX])).gives([tensor(&[2], &[u64::MAX; 2])]);
    let large = Case::of("ConstantOfShape", [i64s(&[1], &[3000])]);
    large
        .clone()
        .tensor("value", &tensor(&[1], &[u64::MAX]))
        .gives([tensor(&[3000], &[u64::MAX; 3000])]);
    large.tensor("value", &tensor(&[1], &[f16::ONE])).gives([tensor(&[3000], &[f16::ONE; 3000])]);
}
