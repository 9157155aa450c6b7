//! Vector instructions chosen at run time, so that one portable binary uses what the machine has.
//! Kernels are written once over `Lanes` and compiled for each level; nothing here knows what they compute.
//! `RUNNER_SIMD` lowers the level, to see on one machine what another level does to results; the numeric class follows it.

use std::sync::OnceLock;

/// Names the environment variable that lowers the level: `baseline`, `fma` or `avx512f`.
pub(crate) const SIMD_VARIABLE: &str = "RUNNER_SIMD";

/// The widest instructions that this program makes use of. Levels differ in the last bits of their results.
///
/// Kernels run the instructions of a level without asking the processor. So a level beyond the portable one can only be had
/// from this machine, by [`Self::detect`] or [`Self::available`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(Instructions);

/// The instructions of a level, from narrow to wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Instructions {
    /// No assumption beyond the target's baseline; products and sums are rounded separately.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors with fused multiply-add.
    Avx512,
}

impl Level {
    /// What runs everywhere.
    pub const PORTABLE: Self = Self(Instructions::Portable);

    /// What is used: what this machine can do, unless `RUNNER_SIMD` asks for less. Decided once per process.
    pub fn detect() -> Self {
        static LEVEL: OnceLock<Level> = OnceLock::new();
        *LEVEL.get_or_init(|| {
            // A name that nothing here goes by is refused where the numeric class is asked for.
            let asked = std::env::var(SIMD_VARIABLE).unwrap_or_default();
            Self::named(&asked).unwrap_or_else(Self::of_machine)
        })
    }

    /// The level with this name, if this machine has it.
    fn named(name: &str) -> Option<Self> {
        Self::available()
            .into_iter()
            .find(|level| level.name() == name)
    }

    /// The widest that this machine can do.
    pub fn of_machine() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let fused = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw");
            if fused && wide {
                return Self(Instructions::Avx512);
            }
            if fused {
                return Self(Instructions::Avx2);
            }
        }
        Self::PORTABLE
    }

    /// All levels that run on this machine, the portable one first.
    pub fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        for instructions in [
            Instructions::Portable,
            Instructions::Avx2,
            Instructions::Avx512,
        ] {
            if Self(instructions) <= Self::of_machine() {
                levels.push(Self(instructions));
            }
        }
        levels
    }

    /// The name in a numeric class.
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            Instructions::Portable => "baseline",
            Instructions::Avx2 => "fma",
            Instructions::Avx512 => "avx512f",
        }
    }

    /// Floats in one vector.
    pub(crate) fn width(self) -> usize {
        match self.0 {
            Instructions::Portable => Portable::WIDTH,
            Instructions::Avx2 => 8,
            Instructions::Avx512 => 16,
        }
    }

    pub(crate) fn instructions(self) -> Instructions {
        self.0
    }

    /// Whether 256-bit vectors may be used. For [`vectorised`].
    #[doc(hidden)]
    pub fn has_avx2(self) -> bool {
        self.0 >= Instructions::Avx2
    }

    /// Whether 512-bit vectors may be used. For [`vectorised`].
    #[doc(hidden)]
    pub fn has_avx512(self) -> bool {
        self.0 >= Instructions::Avx512
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
                if level.has_avx512() {
                    // SAFETY: levels beyond the portable one exist only where the processor was found to have them.
                    return unsafe { avx512($($argument),*) };
                }
                if level.has_avx2() {
                    // SAFETY: as above.
                    return unsafe { avx2($($argument),*) };
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
        assert_eq!(Level::available()[0], Level::PORTABLE);
        assert!(Level::available().contains(&Level::detect()));
        assert_eq!(Level::available().last(), Some(&Level::of_machine()));
    }

    #[test]
    fn levels_are_found_by_their_names() {
        for level in Level::available() {
            assert_eq!(Level::named(level.name()), Some(level));
        }
        assert_eq!(Level::named("avx1024"), None);
    }
}
