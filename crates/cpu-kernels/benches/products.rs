//! How fast matrix products are, by precision, for the shapes of CLIP ViT-B/32 and GPT-2, beside what the processor can do.
//!
//! ```sh
//! cargo bench -p cpu-kernels --bench products                 # all of it
//! cargo bench -p cpu-kernels --bench products -- bf16 50257   # rows with all of these words
//! ```
//!
//! Each time is the best of the repetitions within a quarter of a second, so that other work on the machine shows little.
//! The last column is the share of what is possible: the product's arithmetic at the measured peak, or reading its weights
//! at the measured bandwidth, whichever takes longer, over the time it took. Weights that fit a cache can exceed it.
//!
//! With `RAYON_NUM_THREADS=1` on Linux, times are the thread's own, which other work lengthens least.

use std::fmt;
use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use cpu_kernels::matrix::{Epilogue, Packed, View, Weight};
use cpu_kernels::memory::Large;
use half::{bf16, f16};
use rayon::prelude::*;

/// Repetitions of each measurement take as long, or are three.
const LEAST: Duration = Duration::from_millis(250);

fn main() {
    let words: Vec<String> = (std::env::args().skip(1))
        .filter(|word| word != "--bench")
        .collect();
    let limits = Limits::measure();
    println!("{limits}");
    println!(
        "{:<18} {:<5} {:>9} {:>8} {:>7} {:>8}",
        "[m x k x n]", "type", "us", "GOP/s", "GB/s", "of limit"
    );
    for shape in shapes() {
        let row = Row {
            shape,
            limits: &limits,
            words: &words,
        };
        row.print::<f32>("f32", limits.f32);
        row.print::<f16>("f16", limits.f32);
        row.print::<bf16>("bf16", limits.bf16);
        row.print::<i8>("int8", limits.int8);
    }
}

/// `[m, k, n]`: CLIP ViT-B/32 with 1, 16 and 32 images, then GPT-2 with 1, 5, 16 and 80 rows.
fn shapes() -> Vec<[usize; 3]> {
    let clip = [[768, 768], [768, 2304], [768, 3072], [3072, 768]];
    let gpt2 = [[768, 3072], [3072, 768], [768, 50257]];
    let clip = [50, 800, 1600].map(|m| clip.map(|[k, n]| [m, k, n]));
    let gpt2 = [1, 5, 16, 80].map(|m| gpt2.map(|[k, n]| [m, k, n]));
    [clip.as_flattened(), gpt2.as_flattened()].concat()
}

struct Row<'a> {
    shape: [usize; 3],
    limits: &'a Limits,
    words: &'a [String],
}

impl Row<'_> {
    /// Measures and prints a product of this shape, unless other rows are asked for.
    fn print<W: Weight>(&self, kind: &str, peak: f64) {
        let [m, k, n] = self.shape;
        let name = format!("{m} x {k} x {n}");
        let is_word = |word: &String| word == kind || name.split(' ').any(|part| part == word);
        if !self.words.iter().all(is_word) {
            return;
        }
        let x: Vec<f32> = wave(m * k);
        let packed = Packed::<W>::new(View::new(&wave(k * n), k, n));
        let mut out = vec![0.0; m * n];
        let seconds = best(|| {
            packed.product(View::new(&x, m, k), &mut out, Epilogue::default());
            black_box(&mut out);
        });
        let operations = 2.0 * (m * k * n) as f64;
        let bytes = (k * n * size_of::<W>()) as f64;
        let limit = (operations / peak).max(bytes / self.limits.bandwidth);
        println!(
            "{name:<18} {kind:<5} {:>9.1} {:>8.1} {:>7.1} {:>7.0}%",
            seconds * 1e6,
            operations / seconds / 1e9,
            bytes / seconds / 1e9,
            100.0 * limit / seconds
        );
    }
}

fn wave(length: usize) -> Vec<f32> {
    (0..length).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// Seconds of the quickest repetition.
fn best(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    let mut count = 0;
    while count < 3 || start.elapsed() < LEAST {
        let start = seconds();
        run();
        best = best.min(seconds() - start);
        count += 1;
    }
    best
}

/// Now, in seconds; where there is one thread, of its own time.
fn seconds() -> f64 {
    #[cfg(target_os = "linux")]
    if rayon::current_num_threads() == 1 {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the time is written to a place that is there.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
        return time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9;
    }
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64()
}

/// What the cores together can do.
struct Limits {
    /// Operations a second, an addition and a multiplication being two.
    f32: f64,
    bf16: f64,
    int8: f64,
    /// Bytes a second, read from memory.
    bandwidth: f64,
}

impl Limits {
    fn measure() -> Self {
        let peak = |run: fn() -> f64| {
            let threads = rayon::current_num_threads();
            let mut operations = 0.0;
            let seconds = best(|| match threads {
                1 => operations = run(),
                _ => operations = rayon::broadcast(|_| run())[0],
            });
            threads as f64 * operations / seconds
        };
        let memory = {
            let mut memory = Large::<u64>::zeros(32 * 1024 * 1024);
            memory.par_iter_mut().for_each(|x| *x = 1);
            memory
        };
        let read = || {
            let sum = |part: &[u64]| part.iter().fold(0, |sum: u64, x| sum ^ x);
            match rayon::current_num_threads() {
                1 => black_box(sum(&memory)),
                _ => black_box(memory.par_chunks(64 * 1024).map(sum).sum()),
            };
        };
        Self {
            f32: peak(peaks::f32),
            bf16: peak(peaks::bf16),
            int8: peak(peaks::int8),
            bandwidth: (memory.len() * size_of::<u64>()) as f64 / best(read),
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "peak of {} threads, GOP/s: {:.0} f32, {:.0} bf16, {:.0} int8; reading {:.1} GB/s",
            rayon::current_num_threads(),
            self.f32 / 1e9,
            self.bf16 / 1e9,
            self.int8 / 1e9,
            self.bandwidth / 1e9
        )
    }
}

/// Loops that stay in registers; each returns the operations it made. Where the processor lacks the instructions there is no
/// peak, and the last column tells nothing.
mod peaks {
    #[cfg(target_arch = "x86_64")]
    use std::arch::x86_64::*;

    #[cfg(target_arch = "x86_64")]
    const STEPS: usize = 200_000;

    /// Twelve sums at a time, which is more than the latency of the instruction needs.
    #[cfg(target_arch = "x86_64")]
    macro_rules! peak {
        ($name:ident, $inner:ident, $features:literal, $operations:literal, $zero:expr, $factor:expr, $step:expr) => {
            pub fn $name() -> f64 {
                if !has($features) {
                    return f64::INFINITY;
                }
                // SAFETY: the processor has the instructions, as just checked.
                unsafe { $inner() };
                (STEPS * 12 * $operations) as f64
            }

            #[target_feature(enable = $features)]
            fn $inner() {
                // Hidden from the compiler, which would make one sum of equal ones.
                let mut sums = std::hint::black_box([$zero; 12]);
                let factor = std::hint::black_box($factor);
                for _ in 0..STEPS {
                    for sum in &mut sums {
                        *sum = $step(*sum, factor);
                    }
                }
                std::hint::black_box(sums);
            }
        };
    }

    #[cfg(target_arch = "x86_64")]
    fn has(features: &str) -> bool {
        features.split(',').all(|feature| match feature {
            "avx512f" => is_x86_feature_detected!("avx512f"),
            "avx512bf16" => is_x86_feature_detected!("avx512bf16"),
            "avx512vnni" => is_x86_feature_detected!("avx512vnni"),
            _ => false,
        })
    }

    #[cfg(target_arch = "x86_64")]
    peak!(
        f32,
        f32_loop,
        "avx512f",
        32,
        _mm512_setzero_ps(),
        _mm512_set1_ps(0.5),
        |sum, x| { _mm512_fmadd_ps(x, x, sum) }
    );
    #[cfg(target_arch = "x86_64")]
    peak!(
        bf16,
        bf16_loop,
        "avx512f,avx512bf16",
        64,
        _mm512_setzero_ps(),
        _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5), _mm512_set1_ps(0.5)),
        |sum, x| _mm512_dpbf16_ps(sum, x, x)
    );
    #[cfg(target_arch = "x86_64")]
    peak!(
        int8,
        int8_loop,
        "avx512f,avx512vnni",
        128,
        _mm512_setzero_si512(),
        _mm512_set1_epi8(3),
        |sum, x| _mm512_dpbusd_epi32(sum, x, x)
    );

    #[cfg(not(target_arch = "x86_64"))]
    pub fn f32() -> f64 {
        f64::INFINITY
    }
    #[cfg(not(target_arch = "x86_64"))]
    pub fn bf16() -> f64 {
        f64::INFINITY
    }
    #[cfg(not(target_arch = "x86_64"))]
    pub fn int8() -> f64 {
        f64::INFINITY
    }
}
