//! Vector instructions chosen at run time, so that one portable binary uses what the machine has.
//! Kernels are written once over `Lanes` and compiled for each level; nothing here knows what they compute.
//! `RUNNER_SIMD` lowers the level, to see on one machine what another level does to results; the numeric class follows it.

use std::sync::OnceLock;

/// Names the environment variable that lowers the level: `baseline`, `fma` or `avx512f`.
pub const SIMD_VARIABLE: &str = "RUNNER_SIMD";

/// The widest instructions that this program makes use of. Levels differ in the last bits of their results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// No assumption beyond the target's baseline; products and sums are rounded separately.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors with fused multiply-add.
    Avx512,
}

impl Level {
    /// What is used: what this machine can do, unless `RUNNER_SIMD` asks for less. Decided once per process.
    pub fn detect() -> Self {
        static LEVEL: OnceLock<Level> = OnceLock::new();
        *LEVEL.get_or_init(|| {
            let asked = std::env::var(SIMD_VARIABLE)
                .ok()
                .and_then(|name| Self::named(&name));
            asked.map_or_else(Self::of_machine, |asked| asked.min(Self::of_machine()))
        })
    }

    /// The level with this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Portable, Self::Avx2, Self::Avx512]
            .into_iter()
            .find(|level| level.name() == name)
    }

    /// What this machine can do.
    pub fn of_machine() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let fused = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw");
            if fused && wide {
                return Self::Avx512;
            }
            if fused {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// All levels that run on this machine, the portable one first.
    pub fn available() -> Vec<Self> {
        [Self::Portable, Self::Avx2, Self::Avx512]
            .into_iter()
            .filter(|level| *level <= Self::of_machine())
            .collect()
    }

    /// The name in a numeric class.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "baseline",
            Self::Avx2 => "fma",
            Self::Avx512 => "avx512f",
        }
    }

    /// Floats in one vector.
    pub fn width(self) -> usize {
        match self {
            Self::Portable => Portable::WIDTH,
            Self::Avx2 => 8,
            Self::Avx512 => 16,
        }
    }
}

/// A vector register of `WIDTH` floats.
///
/// # Safety
/// Every method needs the instructions of its level; pointers must be valid for `WIDTH` floats.
pub(crate) unsafe trait Lanes: Copy {
    const WIDTH: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(source: *const f32) -> Self;
    unsafe fn store(self, target: *mut f32);
    /// `self + left * right`.
    unsafe fn add_product(self, left: Self, right: Self) -> Self;
}

/// Four floats that the compiler maps to whatever the target has.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 4]);

unsafe impl Lanes for Portable {
    const WIDTH: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        Self(unsafe { source.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32) {
        unsafe { target.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn add_product(self, left: Self, right: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            self.0[lane] + left.0[lane] * right.0[lane]
        }))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::{
        __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256);

    unsafe impl Lanes for Avx2 {
        const WIDTH: usize = 8;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Self(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(source: *const f32) -> Self {
            Self(unsafe { _mm256_loadu_ps(source) })
        }

        #[inline(always)]
        unsafe fn store(self, target: *mut f32) {
            unsafe { _mm256_storeu_ps(target, self.0) }
        }

        #[inline(always)]
        unsafe fn add_product(self, left: Self, right: Self) -> Self {
            Self(unsafe { _mm256_fmadd_ps(left.0, right.0, self.0) })
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    unsafe impl Lanes for Avx512 {
        const WIDTH: usize = 16;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(source: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(source) })
        }

        #[inline(always)]
        unsafe fn store(self, target: *mut f32) {
            unsafe { _mm512_storeu_ps(target, self.0) }
        }

        #[inline(always)]
        unsafe fn add_product(self, left: Self, right: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(left.0, right.0, self.0) })
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// Compiles plain loops once per level: `vectorised! { fn NAME(arguments) { body } }` gives a function that takes
/// a [`Level`] before the arguments. The arithmetic of such loops is the same at every level.
#[doc(hidden)]
#[macro_export]
macro_rules! __vectorised {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $visibility fn $name(level: $crate::simd::Level, $($argument: $kind),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn plain($($argument: $kind),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($argument: $kind),*) $(-> $result)? {
                    plain($($argument),*)
                }
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($argument: $kind),*) $(-> $result)? {
                    plain($($argument),*)
                }
                match level {
                    // SAFETY: a level above the baseline comes from `Level::detect` on this machine.
                    $crate::simd::Level::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    $crate::simd::Level::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::simd::Level::Portable => {}
                }
            }
            let _ = level;
            plain($($argument),*)
        }
    };
}
pub use __vectorised as vectorised;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_level_runs_everywhere() {
        assert_eq!(Level::available()[0], Level::Portable);
        assert!(Level::available().contains(&Level::detect()));
    }

    #[test]
    fn levels_are_found_by_their_names() {
        for level in [Level::Portable, Level::Avx2, Level::Avx512] {
            assert_eq!(Level::named(level.name()), Some(level));
        }
        assert_eq!(Level::named("avx1024"), None);
    }
}
