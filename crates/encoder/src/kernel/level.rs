//! Which instructions the processor has.

use std::fmt;

/// A set of vector instructions that this processor was found to have.
///
/// The field is private to this module, so that a value proves the instructions are there:
/// the `unsafe` calls of the kernels rest on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level(Instructions);

/// The sets that the kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instructions {
    /// What the compiler assumes of the target anyway.
    Portable,
    /// x86-64 with AVX2 and fused multiply-add (2013 onwards).
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// x86-64 with AVX-512 and its eight-bit dot product (2019 onwards).
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The fastest set of this processor.
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or(Self(Instructions::Portable))
    }

    /// All sets of this processor, the slowest first.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(
            not(target_arch = "x86_64"),
            expect(unused_mut, reason = "only x86-64 has more")
        )]
        let mut levels = vec![Self(Instructions::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") {
                levels.push(Self(Instructions::Avx2));
                if has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512dq")
                    && has!("avx512vl")
                    && has!("avx512vnni")
                {
                    levels.push(Self(Instructions::Avx512));
                }
            }
        }
        levels
    }

    pub(super) fn instructions(self) -> Instructions {
        self.0
    }

    pub fn as_str(self) -> &'static str {
        match self.0 {
            Instructions::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => "avx512-vnni",
        }
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Defines functions that call one body compiled once for each [`Level`].
///
/// The body is an `#[inline(always)]` function of the same signature without the level.
macro_rules! for_each_level {
    ($($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? = $body:ident;)*) => {$(
        $(#[$attribute])*
        $visibility fn $name(level: $crate::kernel::Level, $($argument: $kind),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $kind),*) $(-> $result)? {
                $body($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
            fn avx512($($argument: $kind),*) $(-> $result)? {
                $body($($argument),*)
            }
            match level.instructions() {
                $crate::kernel::level::Instructions::Portable => $body($($argument),*),
                // SAFETY: a level of this kind exists only where the processor was found
                // to have the instructions that the function enables.
                #[cfg(target_arch = "x86_64")]
                $crate::kernel::level::Instructions::Avx2 => unsafe { avx2($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::kernel::level::Instructions::Avx512 => unsafe { avx512($($argument),*) },
            }
        }
    )*};
}
pub(super) use for_each_level;
