//! Random numbers that a seed decides.

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Within 0..1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, most: u32) -> u32 {
        (self.share() * f64::from(most)) as u32
    }

    /// Pauses between events that have nothing to do with each other.
    pub fn pause(&mut self, per_second: f64) -> u64 {
        (-(1.0 - self.share()).ln() / per_second * 1e6) as u64
    }

    /// Within a fifth of this.
    pub fn about(&mut self, value: u64) -> u64 {
        (value as f64 * (0.8 + 0.4 * self.share())) as u64
    }
}
