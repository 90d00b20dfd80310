//! Changes inputs at random, without knowing what they mean: enough to notice within seconds when a parser lost a check.

/// Makes one input out of others.
pub struct Mutator {
    state: u64,
}

const TELLING: [u8; 9] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'/', b'0', b'"'];

impl Mutator {
    /// Equal seeds, equal inputs.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number below `bound` (splitmix64).
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound.max(1) as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or(0)
    }

    /// The next input: one of `known`, changed in one to eight places, at most `longest` bytes.
    pub fn next(&mut self, known: &[Vec<u8>], words: &[&[u8]], longest: usize) -> Vec<u8> {
        let mut input = known.get(self.below(known.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(8) {
            self.change(&mut input, known, words);
        }
        input.truncate(longest);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, known: &[Vec<u8>], words: &[&[u8]]) {
        let at = self.below(input.len() + 1);
        let end = at + self.below(input.len() - at + 1).min(64);
        match self.below(9) {
            0 | 1 => {
                let bit = 1 << self.below(8);
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= bit;
                }
            }
            2 => {
                let value = if self.below(2) == 0 { self.byte() } else { TELLING[self.below(TELLING.len())] };
                if let Some(byte) = input.get_mut(at) {
                    *byte = value;
                }
            }
            3 => input.insert(at, TELLING[self.below(TELLING.len())]),
            4 => drop(input.drain(at..end)),
            5 => {
                let piece = input[at..end].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            6 if !words.is_empty() => {
                let word = words[self.below(words.len())];
                let over = if self.below(2) == 0 { at } else { (at + word.len()).min(input.len()) };
                input.splice(at..over, word.iter().copied());
            }
            7 => {
                let other = known.get(self.below(known.len())).map_or(&[][..], Vec::as_slice);
                let from = self.below(other.len() + 1);
                input.splice(at.., other[from..].iter().copied());
            }
            _ => input.truncate(at),
        }
    }
}
