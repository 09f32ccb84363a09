//! The fast Fourier transform, of any length, on the host.

use std::f64::consts::{PI, TAU};

type Complex = (f64, f64);

fn times(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

/// A transform of one length, with what it needs to know computed once.
pub(super) struct Transform {
    length: usize,
    /// Powers of the root of unity of the transform, or of the one inside.
    roots: Vec<Complex>,
    /// For lengths that are no power of two.
    chirp: Option<Chirp>,
}

/// A transform as a convolution (Bluestein), whose length is a power of two.
struct Chirp {
    /// The square root of unity of the length to the powers of all squares.
    squares: Vec<Complex>,
    /// The transform of the other side of the convolution.
    filter: Vec<Complex>,
}

impl Transform {
    /// `length` is positive. The room taken is at most that of 16 numbers for each entry.
    pub(super) fn new(length: usize) -> Self {
        if length.is_power_of_two() {
            return Self { length, roots: roots(length), chirp: None };
        }
        // Squares are taken modulo twice the length, before they lose digits.
        let angle =
            |i: usize| PI * ((i as u128 * i as u128) % (2 * length as u128)) as f64 / length as f64;
        let squares: Vec<Complex> =
            (0..length).map(|i| (angle(i).cos(), -angle(i).sin())).collect();
        let inner = (2 * length - 1).next_power_of_two();
        let roots = roots(inner);
        let mut filter = vec![(0.0, 0.0); inner];
        for (i, &(re, im)) in squares.iter().enumerate() {
            for place in [i, (inner - i) % inner] {
                if let Some(slot) = filter.get_mut(place) {
                    *slot = (re, -im);
                }
            }
        }
        powers_of_two(&mut filter, &roots);
        Self { length, roots, chirp: Some(Chirp { squares, filter }) }
    }

    /// `signal` has the length. The inverse is divided by it.
    pub(super) fn run(&self, signal: &[Complex], inverse: bool) -> Vec<Complex> {
        // The inverse is the transform with real and imaginary parts swapped.
        let swap = |(re, im): Complex| if inverse { (im, re) } else { (re, im) };
        let scale = if inverse { (self.length as f64).recip() } else { 1.0 };
        let signal = signal.iter().map(|&value| swap(value));
        let bins = match &self.chirp {
            None => {
                let mut values: Vec<Complex> = signal.collect();
                powers_of_two(&mut values, &self.roots);
                values
            }
            Some(chirp) => self.convolved(signal, chirp),
        };
        bins.into_iter().map(|value| swap((value.0 * scale, value.1 * scale))).collect()
    }

    fn convolved(&self, signal: impl Iterator<Item = Complex>, chirp: &Chirp) -> Vec<Complex> {
        let mut values: Vec<Complex> =
            signal.zip(&chirp.squares).map(|(value, &square)| times(value, square)).collect();
        values.resize(self.roots.len() * 2, (0.0, 0.0));
        powers_of_two(&mut values, &self.roots);
        for (value, &filter) in values.iter_mut().zip(&chirp.filter) {
            let (re, im) = times(*value, filter);
            // Swapped for the way back.
            *value = (im, re);
        }
        powers_of_two(&mut values, &self.roots);
        let scale = (values.len() as f64).recip();
        let back = values.into_iter().map(|(re, im)| (im * scale, re * scale));
        back.zip(&chirp.squares).map(|(value, &square)| times(value, square)).collect()
    }
}

/// The first half of the powers of a root of unity; one at least.
fn roots(length: usize) -> Vec<Complex> {
    let angle = |i: usize| TAU * i as f64 / length as f64;
    (0..(length / 2).max(1)).map(|i| (angle(i).cos(), -angle(i).sin())).collect()
}

/// In place; the number of values is a power of two, twice that of the roots.
fn powers_of_two(values: &mut [Complex], roots: &[Complex]) {
    let count = values.len();
    let bits = count.trailing_zeros();
    for i in 0..count {
        let turned = if bits == 0 { i } else { i.reverse_bits() >> (usize::BITS - bits) };
        if i < turned {
            values.swap(i, turned);
        }
    }
    let mut half = 1;
    while half < count {
        for block in values.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            let turns = roots.iter().step_by(count / (2 * half));
            for ((low, high), &root) in low.iter_mut().zip(high).zip(turns) {
                let turned = times(*high, root);
                *high = (low.0 - turned.0, low.1 - turned.1);
                *low = (low.0 + turned.0, low.1 + turned.1);
            }
        }
        half *= 2;
    }
}
