//! Chance that is the same in every run.

use super::common::Step;

/// xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).expect("32 bits") % limit
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// A letter as it is, or in the other case.
    pub fn case(&mut self, letter: char) -> char {
        if self.one_in(2) { letter.to_ascii_lowercase() } else { letter }
    }

    pub fn letters(&mut self, length: usize) -> String {
        self.of(&LETTERS[..52], length)
    }

    pub fn word(&mut self, length: usize) -> String {
        self.of(LETTERS, length)
    }

    fn of(&mut self, letters: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(letters[self.below(letters.len())])).collect()
    }

    /// Cuts a step at up to three places.
    pub fn chop(&mut self, (side, bytes): Step) -> Vec<Step> {
        let mut pieces = vec![bytes];
        for _ in 0..self.below(4) {
            let last = pieces.pop().unwrap_or_default();
            let (one, two) = last.split_at(self.below(last.len() + 1));
            pieces.extend([one.to_vec(), two.to_vec()]);
        }
        pieces.into_iter().map(|piece| (side, piece)).collect()
    }
}

const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
