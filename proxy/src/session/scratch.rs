//! The scratch buffer of a worker, which all its sessions read into, and spare buffers for what a peer did not take.

/// How large the scratch buffer is, in bytes. Twice as large costs every COPY more, half as large costs COPY in more
/// (figures in `benches/README.md`).
const SCRATCH_SIZE: usize = 32 * 1024;
/// How many buffers are kept for the next session whose peer is slow; more are given back to the allocator.
const POOLED_BUFFERS: usize = 16;

/// The buffers of one worker. Its sessions take turns, so it needs no lock.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// What is read into.
    pub(super) buffer: Box<[u8]>,
    /// Where leftovers go.
    pub(super) pool: BufferPool,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { buffer: vec![0; SCRATCH_SIZE].into_boxed_slice(), pool: BufferPool::default() }
    }
}

/// Empty buffers that were in use before.
#[derive(Debug, Default)]
pub(super) struct BufferPool(Vec<Vec<u8>>);

impl BufferPool {
    /// Keeps `leftover` in `unsent`, which borrows a buffer for it when it has none.
    pub(super) fn keep(&mut self, unsent: &mut Vec<u8>, leftover: &[u8]) {
        if unsent.capacity() == 0 && !leftover.is_empty() {
            *unsent = self.0.pop().unwrap_or_default();
        }
        unsent.extend_from_slice(leftover);
    }

    /// Takes back a buffer whose bytes were all sent.
    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        // What was held of a client while it waited may be larger than anything a relay leaves over.
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
    fn a_buffer_is_used_again_and_only_so_many_are_kept() {
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
