//! Fingerprints: one number for a state, the same for two states that will go on alike.

use std::hash::{Hash, Hasher};

use pg_leader_proxy_core::Moment;

/// Moments that are further away than this, before or after now, are all alike. It is longer than every limit of the
/// policy, every lease and every delay of the model. (Longer by far are only the minute in which a stepped clock is an
/// alarm, and the hour in which a departed member is remembered; neither ends in this model.)
const FAR_NANOS: i128 = 8_000_000_000;

/// Hashes values so that every [`Moment`] in them counts by its distance from now.
///
/// Each word is mixed in by a folded multiplication, as wyhash does it: a third of a search's time went into SipHash, which
/// protects from attackers that there are none of here.
struct RelativeHasher {
    now_nanos: i128,
    state: u64,
}

impl RelativeHasher {
    fn new(now: Moment) -> Self {
        Self { now_nanos: signed(now.since_boot().as_nanos()), state: 0x9E37_79B9_7F4A_7C15 }
    }

    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(0xA076_1D64_78BD_642F_u64);
        let [low, high] = [product, product >> 64].map(|half| (half & u128::from(u64::MAX)) as u64);
        self.state = (low ^ high).wrapping_add(0xE703_7ED1_A0B4_28DB);
    }
}

impl Hasher for RelativeHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    /// Only a [`Moment`] is hashed as 128 bits.
    fn write_u128(&mut self, nanos: u128) {
        let distance = (signed(nanos) - self.now_nanos).clamp(-FAR_NANOS, FAR_NANOS) + FAR_NANOS;
        // Sixteen seconds of nanoseconds fit.
        self.mix(u64::try_from(distance).unwrap_or(u64::MAX));
    }
}

/// The fingerprint of `value` as it is at `now`, on the clock of its moments.
pub(crate) fn fingerprint(value: &impl Hash, now: Moment) -> u64 {
    let mut hasher = RelativeHasher::new(now);
    value.hash(&mut hasher);
    hasher.finish()
}

fn signed(nanos: u128) -> i128 {
    i128::try_from(nanos).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Moment {
        Moment::from_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn only_the_distance_from_now_counts_and_only_up_to_far() {
        assert_eq!(fingerprint(&(at(7), 3), at(10)), fingerprint(&(at(107), 3), at(110)));
        assert_ne!(fingerprint(&(at(7), 3), at(10)), fingerprint(&(at(8), 3), at(10)));
        assert_ne!(fingerprint(&(at(7), 3), at(10)), fingerprint(&(at(7), 4), at(10)));
        assert_eq!(fingerprint(&at(7), at(100)), fingerprint(&at(50), at(100)));
        assert_ne!(fingerprint(&at(50), at(100)), fingerprint(&at(150), at(100)));
    }
}
