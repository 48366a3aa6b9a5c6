//! Products beside plain loops over the same rounded or quantized factors, on every instruction set of the processor.

use half::{bf16, f16};

use super::*;

fn wave(length: usize, step: f32) -> Vec<f32> {
    (0..length).map(|i| (i as f32 * step).sin()).collect()
}

fn at(v: View, i: usize, j: usize) -> f32 {
    v.data[i * v.row_stride + j * v.col_stride]
}

/// Odd ones, ones below a vector, ones that are shared among threads.
const SHAPES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [1, 7, 50],
    [2, 16, 16],
    [5, 33, 31],
    [13, 64, 65],
    [50, 20, 17],
    [1, 300, 1000],
    [8, 770, 200],
    [130, 70, 90],
    [700, 300, 40],
];

/// Compares `a x b`, with a bias, perhaps an activation, and what was there before, to what `expected` makes of the factors
/// before these are applied.
fn check<W: Weight>(tolerance: f32, expected: impl Fn(View, View) -> Vec<f32>) {
    for [m, k, n] in SHAPES {
        let (x, w) = (wave(m * k, 0.31), wave(k * n, 0.17));
        let (bias, before) = (wave(n, 0.9), wave(m * n, 0.01));
        let rows = (View::new(&x, m, k), View::new(&w, k, n));
        let columns = (
            View::new(&x, k, m).transpose(),
            View::new(&w, n, k).transpose(),
        );
        for (a, b) in [rows, columns] {
            let products = expected(a, b);
            for (isa, activation) in (Isa::all().into_iter())
                .flat_map(|isa| [(isa, None), (isa, Some(Activation::Relu))])
            {
                let mut out = before.clone();
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    activation,
                    accumulate: true,
                };
                Packed::<W>::with_isa(b, isa).product(a, &mut out, epilogue);
                let bound = tolerance * (k as f32).sqrt();
                for (i, product) in products.iter().enumerate() {
                    let sum = product + bias[i % n];
                    let expected = before[i] + activation.map_or(sum, |_| sum.max(0.0));
                    assert!(
                        (out[i] - expected).abs() <= bound,
                        "{} {m} {k} {n}: {} {expected}",
                        isa.name(),
                        out[i]
                    );
                }
            }
        }
    }
}

/// Sums in float64 of products of rounded values.
fn plain(
    round_left: fn(f32) -> f32,
    round_right: fn(f32) -> f32,
) -> impl Fn(View, View) -> Vec<f32> {
    move |a, b| {
        let mut out = Vec::new();
        for (i, j) in (0..a.rows).flat_map(|i| (0..b.cols).map(move |j| (i, j))) {
            let product =
                |k| f64::from(round_left(at(a, i, k))) * f64::from(round_right(at(b, k, j)));
            out.push((0..a.cols).map(product).sum::<f64>() as f32);
        }
        out
    }
}

#[test]
fn products_of_odd_shapes_equal_plain_loops() {
    check::<f32>(2e-6, plain(|x| x, |w| w));
}

#[test]
fn float16_weights_are_multiplied_in_float32() {
    check::<f16>(2e-6, plain(|x| x, |w| f16::from_f32(w).to_f32()));
}

#[test]
fn bfloat16_factors_are_summed_up_in_float32() {
    let round = |x| bf16::from_f32(x).to_f32();
    check::<bf16>(2e-6, plain(round, round));
}

/// Quantizes both factors, sums up integers, and scales the sums.
fn plain_int8(a: View, b: View) -> Vec<f32> {
    let columns: Vec<(f32, Vec<i64>)> = (0..b.cols)
        .map(|j| {
            let column: Vec<f32> = (0..b.rows).map(|k| at(b, k, j)).collect();
            let scale = column.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / 127.0;
            let q = |x: &f32| (x * (1.0 / scale)).round_ties_even() as i64;
            (scale, column.iter().map(q).collect())
        })
        .collect();
    let mut out = Vec::new();
    for i in 0..a.rows {
        let row: Vec<f32> = (0..a.cols).map(|k| at(a, i, k)).collect();
        let least = row.iter().fold(0.0_f32, |least, &x| least.min(x));
        let most = row.iter().fold(0.0_f32, |most, &x| most.max(x));
        let scale = (most - least) / 255.0;
        let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let zero = (-least * factor).round_ties_even().min(255.0);
        let q = |x: &f32| {
            let x = f64::from((x * factor).clamp(-zero, 255.0 - zero));
            (x + f64::from(zero)).round_ties_even() as i64 - zero as i64
        };
        let row: Vec<i64> = row.iter().map(q).collect();
        for (column_scale, column) in &columns {
            let sum: i64 = row.iter().zip(column).map(|(x, w)| x * w).sum();
            out.push(sum as f32 * scale * column_scale);
        }
    }
    out
}

#[test]
fn int8_products_are_exact_sums_of_quantized_factors() {
    check::<i8>(0.0, plain_int8);
}

#[test]
fn int8_sums_do_not_saturate() {
    let (k, n) = (64, 40);
    let x: Vec<f32> = vec![255.0; 3 * k];
    let w: Vec<f32> = (0..k * n)
        .map(|i| if i % n % 2 == 0 { 127.0 } else { -127.0 })
        .collect();
    let (a, b) = (View::new(&x, 3, k), View::new(&w, k, n));
    for isa in Isa::all() {
        let mut out = vec![0.0; 3 * n];
        Packed::<i8>::with_isa(b, isa).product(a, &mut out, Epilogue::default());
        for (i, out) in out.into_iter().enumerate() {
            let sign = if i % n % 2 == 0 { 1.0 } else { -1.0 };
            assert_eq!(out, sign * 255.0 * 127.0 * k as f32, "{}", isa.name());
        }
    }
}

#[test]
fn int8_products_of_waves_are_off_by_their_rounding_only() {
    check::<i8>(2e-2, plain(|x| x, |w| w));
}

#[test]
fn rows_and_columns_of_zeros_have_products_of_zero() {
    fn check<W: Weight>() {
        let (x, w) = (vec![0.0; 2 * 9], wave(9 * 20, 0.3));
        for isa in Isa::all() {
            let mut out = vec![1.0; 2 * 20];
            let product = Packed::<W>::with_isa(View::new(&w, 9, 20), isa);
            product.product(View::new(&x, 2, 9), &mut out, Epilogue::default());
            assert!(out.iter().all(|&x| x == 0.0), "{}: {out:?}", isa.name());
            let mut out = vec![1.0; 20 * 2];
            let product = Packed::<W>::with_isa(View::new(&x, 9, 2), isa);
            let a = View::new(&w, 9, 20).transpose();
            product.product(a, &mut out, Epilogue::default());
            assert!(out.iter().all(|&x| x == 0.0), "{}: {out:?}", isa.name());
        }
    }
    check::<f32>();
    check::<f16>();
    check::<bf16>();
    check::<i8>();
}

#[test]
fn columns_are_what_was_packed() {
    fn check<W: Weight>(tolerance: f32, round: fn(f32) -> f32) {
        let w = wave(5 * 70, 0.17);
        for isa in Isa::all() {
            let packed = Packed::<W>::with_isa(View::new(&w, 5, 70), isa);
            for column in [0, 15, 16, 31, 33, 69] {
                let mut out = [0.0; 5];
                packed.column(column, &mut out);
                for (row, out) in out.iter().enumerate() {
                    let expected = round(w[row * 70 + column]);
                    assert!((out - expected).abs() <= tolerance, "{out} {expected}");
                }
            }
        }
    }
    check::<f32>(0.0, |w| w);
    check::<f16>(0.0, |w| f16::from_f32(w).to_f32());
    check::<bf16>(0.0, |w| bf16::from_f32(w).to_f32());
    check::<i8>(0.5 / 127.0 + 1e-6, |w| w);
}
