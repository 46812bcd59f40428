//! Random bytes of the crypto library, a block at a time.

use std::cell::RefCell;

use sc_protocol::Entropy;

/// The thread's source of random bytes. It owns nothing, so a client that has one pays nothing for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ThreadEntropy;

const BLOCK: usize = 1024;

struct Block {
    bytes: [u8; BLOCK],
    used: usize,
}

thread_local! {
    static CURRENT: RefCell<Block> = const { RefCell::new(Block { bytes: [0; BLOCK], used: BLOCK }) };
}

impl Entropy for ThreadEntropy {
    fn fill(&mut self, buf: &mut [u8]) {
        if buf.len() > BLOCK / 4 {
            return generate(buf);
        }
        CURRENT.with_borrow_mut(|block| {
            if BLOCK - block.used < buf.len() {
                generate(&mut block.bytes);
                block.used = 0;
            }
            let taken = &mut block.bytes[block.used..block.used + buf.len()];
            buf.copy_from_slice(taken);
            taken.fill(0);
            block.used += buf.len();
        });
    }
}

fn generate(buf: &mut [u8]) {
    // Masks and keys that could be guessed are worse than no process.
    if rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(buf).is_err() {
        tracing::error!("the system gives no random bytes");
        std::process::abort();
    }
}
