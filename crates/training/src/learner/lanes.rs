//! Arithmetic on sixteen classes at once, and the choice of instruction set.
//!
//! Weights lie feature by feature, sixteen classes to a [`Lanes`] value, so that reading
//! one feature of a row serves sixteen classes with one cache line. The loops are plain
//! Rust that the compiler turns into vector instructions; [`dispatch`] compiles a [`Kernel`]
//! for the instruction sets a machine may have and picks one when called.
//!
//! Products are added with a fused multiply-add wherever the machine has one, whatever the
//! width of its vectors, so every such machine computes the same bits.
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "functions compiled for an instruction set are called once it is detected"
    )
)]

/// How many classes are computed together: one 64-byte cache line of `f32`.
pub const LANES: usize = 16;

/// One value for each of sixteen classes.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Lanes(pub [f32; LANES]);

impl Lanes {
    pub const ZERO: Self = Self([0.0; LANES]);

    #[inline(always)]
    pub fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    pub fn map2(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = Self::ZERO;
        for lane in 0..LANES {
            out.0[lane] = f(self.0[lane], other.0[lane]);
        }
        out
    }

    #[inline(always)]
    pub fn map(self, f: impl Fn(f32) -> f32) -> Self {
        let mut out = Self::ZERO;
        for lane in 0..LANES {
            out.0[lane] = f(self.0[lane]);
        }
        out
    }

    #[inline(always)]
    pub fn plus(self, other: Self) -> Self {
        self.map2(other, |a, b| a + b)
    }

    #[inline(always)]
    pub fn scaled(self, factor: f32) -> Self {
        self.map(|a| a * factor)
    }

    /// The largest lane.
    #[inline(always)]
    pub fn largest(self) -> f32 {
        let (low, high) = self.0.split_at(LANES / 2);
        let mut half = [0f32; LANES / 2];
        for (half, (low, high)) in half.iter_mut().zip(low.iter().zip(high)) {
            *half = if low > high { *low } else { *high };
        }
        let mut largest = half[0];
        for &value in &half[1..] {
            largest = if value > largest { value } else { largest };
        }
        largest
    }

    /// The sum of all lanes, in a fixed order.
    #[inline(always)]
    pub fn sum(self) -> f32 {
        let mut values = self.0;
        let mut width = LANES / 2;
        while width > 0 {
            for lane in 0..width {
                values[lane] += values[lane + width];
            }
            width /= 2;
        }
        values[0]
    }
}

/// `accumulator + factor * lanes`, fused where `FUSED`.
#[inline(always)]
pub fn add_scaled<const FUSED: bool>(accumulator: &mut Lanes, factor: f32, lanes: &Lanes) {
    for lane in 0..LANES {
        accumulator.0[lane] = if FUSED {
            factor.mul_add(lanes.0[lane], accumulator.0[lane])
        } else {
            accumulator.0[lane] + factor * lanes.0[lane]
        };
    }
}

/// A loop that is compiled for each instruction set.
pub trait Kernel {
    type Output;

    /// The loop. Must be `#[inline(always)]`, so that it is compiled anew for each set; `FUSED`
    /// says whether products are added by a fused multiply-add.
    fn run<const FUSED: bool>(self) -> Self::Output;
}

/// Runs a kernel with the best instruction set of the machine.
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2<K: Kernel>(kernel: K) -> K::Output {
            kernel.run::<true>()
        }
        #[target_feature(enable = "avx2,fma,avx512f,avx512vl")]
        fn avx512<K: Kernel>(kernel: K) -> K::Output {
            kernel.run::<true>()
        }
        let fused = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if fused && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the machine was found to have these instructions.
            return unsafe { avx512(kernel) };
        }
        if fused {
            // SAFETY: the machine was found to have these instructions.
            return unsafe { avx2(kernel) };
        }
    }
    kernel.run::<BASELINE_IS_FUSED>()
}

/// Whether every machine of this target has a fused multiply-add.
const BASELINE_IS_FUSED: bool = cfg!(target_arch = "aarch64");

/// `eˣ` to about one part in 10⁷ for x up to 88; zero below −87.
#[inline(always)]
pub fn exp<const FUSED: bool>(x: f32) -> f32 {
    /// Adding this rounds to an integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let add = |a: f32, b: f32, c: f32| if FUSED { a.mul_add(b, c) } else { a * b + c };
    let low = if x > -87.0 { x } else { -87.0 };
    let within = if low < 88.0 { low } else { 88.0 };
    let rounded = add(within, std::f32::consts::LOG2_E, ROUND);
    let whole = rounded - ROUND;
    let rest = add(whole, -LN_2_LOW, add(whole, -LN_2_HIGH, within));
    // Taylor coefficients up to the seventh: |rest| ≤ ln(2) / 2 leaves less than 2⁻²⁵.
    let mut sum = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = add(sum, rest, coefficient);
    }
    let scale = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    if x > -87.0 { sum * scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        for step in -8600..=8800 {
            let x = step as f32 / 100.0;
            let exact = f64::from(x).exp();
            for value in [exp::<true>(x), exp::<false>(x)] {
                let error = (f64::from(value) - exact).abs() / exact;
                assert!(error < 3e-7, "exp({x}) is off by {error:e}");
            }
        }
        assert_eq!(exp::<true>(-200.0), 0.0);
        assert!(exp::<true>(1000.0).is_finite());
    }

    #[test]
    fn lanes_are_summed_and_compared_whole() {
        let mut lanes = Lanes::ZERO;
        for lane in 0..LANES {
            lanes.0[lane] = (lane * 7 % 16) as f32;
        }
        assert_eq!(lanes.sum(), 120.0);
        assert_eq!(lanes.largest(), 15.0);
    }
}
