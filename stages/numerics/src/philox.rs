//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): random bits as a function of a key
//! and a counter. What is drawn for a value follows from its row and column alone, so whoever computes the value draws the
//! same, on the CPU and, in `cuda/philox.cuh`, on a GPU.

/// Counters that are worked on side by side.
pub(crate) const LANES: usize = 16;

/// Four words of random bits for each of [`LANES`] counters.
pub(crate) type Words = [[u32; LANES]; 4];

/// What the draws of an application are for, so that two with one key do not share bits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Dropout = 0,
    Noise = 1,
}

/// The bits of a block of columns of a row: counter `16 * block + lane` of the row.
#[inline(always)]
pub(crate) fn words(key: u64, purpose: Purpose, row: u64, block: u32) -> Words {
    let mut words = [[0; LANES]; 4];
    for (lane, word) in words[0].iter_mut().enumerate() {
        *word = block * LANES as u32 + lane as u32;
    }
    words[1] = [purpose as u32; LANES];
    words[2] = [row as u32; LANES];
    words[3] = [(row >> 32) as u32; LANES];
    rounds(words, [key as u32, (key >> 32) as u32])
}

#[inline(always)]
fn rounds(mut words: Words, mut key: [u32; 2]) -> Words {
    for _ in 0..10 {
        let old = words;
        for lane in 0..LANES {
            let first = u64::from(old[0][lane]) * 0xd251_1f53;
            let second = u64::from(old[2][lane]) * 0xcd9e_8d57;
            words[0][lane] = (second >> 32) as u32 ^ old[1][lane] ^ key[0];
            words[1][lane] = second as u32;
            words[2][lane] = (first >> 32) as u32 ^ old[3][lane] ^ key[1];
            words[3][lane] = first as u32;
        }
        key[0] = key[0].wrapping_add(0x9e37_79b9);
        key[1] = key[1].wrapping_add(0xbb67_ae85);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the authors' library, Random123 (kat_vectors).
    #[test]
    fn bits_are_those_of_the_authors() {
        let of = |counter: [u32; 4], key: [u32; 2]| {
            // A counter's words are lane and block, purpose, and row.
            let mut words = [[0; LANES]; 4];
            for (word, value) in words.iter_mut().zip(counter) {
                word[0] = value;
            }
            rounds(words, key).map(|word| word[0])
        };
        assert_eq!(
            of([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            of([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            of(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
