//! The buffers of a worker: the scratch buffer that its sessions read into, and a pool for what a peer did not take.

/// The size of the scratch buffer, in bytes. Twice as much makes every COPY more expensive, half as much makes COPY in
/// more expensive (figures in `benches/EXPERIMENTS.md`).
const SCRATCH_SIZE: usize = 32 * 1024;
/// How many buffers the pool keeps for the next sessions with a slow peer; further ones are freed.
const POOLED_BUFFERS: usize = 16;

/// The buffers of one worker. Its sessions run one at a time, so there is no lock.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// The scratch buffer.
    pub(super) buffer: Box<[u8]>,
    /// Buffers for leftovers.
    pub(super) pool: BufferPool,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { buffer: vec![0; SCRATCH_SIZE].into_boxed_slice(), pool: BufferPool::default() }
    }
}

/// Empty buffers, for reuse.
#[derive(Debug, Default)]
pub(super) struct BufferPool(Vec<Vec<u8>>);

impl BufferPool {
    /// Appends `leftover` to `unsent`, which takes a buffer from the pool if it has none.
    pub(super) fn keep(&mut self, unsent: &mut Vec<u8>, leftover: &[u8]) {
        if unsent.capacity() == 0 && !leftover.is_empty() {
            *unsent = self.0.pop().unwrap_or_default();
        }
        unsent.extend_from_slice(leftover);
    }

    /// Returns a buffer to the pool.
    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        // What a held client sent may be larger than anything a relay leaves over.
        if self.0.len() < POOLED_BUFFERS && buffer.capacity() <= SCRATCH_SIZE {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_reused_and_their_number_is_bounded() {
        let mut pool = BufferPool::default();
        let mut unsent = Vec::new();
        pool.keep(&mut unsent, b"");
        assert_eq!(unsent.capacity(), 0, "nothing left over needs no buffer");
        pool.keep(&mut unsent, b"left");
        pool.keep(&mut unsent, b"over");
        assert_eq!(unsent, b"leftover");
        let place = unsent.as_ptr();
        pool.give_back(unsent);
        let mut again = Vec::new();
        pool.keep(&mut again, b"x");
        assert_eq!((again.as_ptr(), again.as_slice()), (place, b"x".as_slice()));
        for _ in 0..2 * POOLED_BUFFERS {
            pool.give_back(Vec::with_capacity(8));
        }
        pool.give_back(Vec::with_capacity(2 * SCRATCH_SIZE));
        assert_eq!(pool.0.len(), POOLED_BUFFERS);
    }
}
