//! Rows of bits to columns of bits, 64 by 64.

/// Transposes a square of bits: bit `c` of word `r` becomes bit `r` of word `c`.
///
/// Six like rounds. Each pairs word `i` with word `i + 32`, swaps a half of their bits, and puts
/// the two side by side at `2 i` and `2 i + 1`. So the index of a word is a queue of six bits: its
/// highest bit changes places with a bit of the position inside the word, and comes back in at the
/// lowest place. Equal strides in every round are what lets the compiler make wide vectors of it.
#[inline(always)]
pub fn transpose(a: &mut [u64; 64]) {
    let mut b = [0; 64];
    round::<32>(a, &mut b, 0x0000_0000_ffff_ffff);
    round::<16>(&b, a, 0x0000_ffff_0000_ffff);
    round::<8>(a, &mut b, 0x00ff_00ff_00ff_00ff);
    round::<4>(&b, a, 0x0f0f_0f0f_0f0f_0f0f);
    round::<2>(a, &mut b, 0x3333_3333_3333_3333);
    round::<1>(&b, a, 0x5555_5555_5555_5555);
}

#[inline(always)]
fn round<const SHIFT: u32>(from: &[u64; 64], to: &mut [u64; 64], low: u64) {
    for i in 0..32 {
        let (x, y) = (from[i], from[i + 32]);
        let swap = ((x >> SHIFT) ^ y) & low;
        to[2 * i] = x ^ (swap << SHIFT);
        to[2 * i + 1] = y ^ swap;
    }
}

/// Transposes squares of bits side by side: word `r` of square `s` is `a[r][s]`.
#[inline(always)]
pub(super) fn transpose_many<const N: usize>(a: &mut [[u64; N]; 64]) {
    let mut b = [[0; N]; 64];
    round_many::<N, 32>(a, &mut b, 0x0000_0000_ffff_ffff);
    round_many::<N, 16>(&b, a, 0x0000_ffff_0000_ffff);
    round_many::<N, 8>(a, &mut b, 0x00ff_00ff_00ff_00ff);
    round_many::<N, 4>(&b, a, 0x0f0f_0f0f_0f0f_0f0f);
    round_many::<N, 2>(a, &mut b, 0x3333_3333_3333_3333);
    round_many::<N, 1>(&b, a, 0x5555_5555_5555_5555);
}

#[inline(always)]
fn round_many<const N: usize, const SHIFT: u32>(
    from: &[[u64; N]; 64],
    to: &mut [[u64; N]; 64],
    low: u64,
) {
    for i in 0..32 {
        let (x, y) = (from[i], from[i + 32]);
        let swap: [u64; N] = std::array::from_fn(|s| ((x[s] >> SHIFT) ^ y[s]) & low);
        to[2 * i] = std::array::from_fn(|s| x[s] ^ (swap[s] << SHIFT));
        to[2 * i + 1] = std::array::from_fn(|s| y[s] ^ swap[s]);
    }
}

#[cfg(test)]
mod tests {
    use super::{transpose, transpose_many};

    #[test]
    fn each_bit_goes_to_its_mirror_place() {
        let before: [u64; 64] = std::array::from_fn(|r| {
            (r as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(r as u32)
        });
        let mut after = before;
        transpose(&mut after);
        for (r, word) in before.iter().enumerate() {
            for (c, column) in after.iter().enumerate() {
                assert_eq!(word >> c & 1, column >> r & 1, "row {r} column {c}");
            }
        }
        let mut many = before.map(|word| [word, !word]);
        transpose_many(&mut many);
        assert_eq!(many, after.map(|word| [word, !word]));
    }
}
