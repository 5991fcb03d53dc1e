//! What a request used, in tokens by class.

/// Tokens by class, and what is billed by the request. Classes do not overlap: `input` excludes the cache, whatever
/// the provider's own field does, and `output` includes reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens that neither came from a cache nor were written to one.
    pub input: u64,
    /// Input tokens read from the cache.
    pub cache_read: u64,
    /// Input tokens written to the cache for 5 minutes (the only write where a provider has one).
    pub cache_write_5m: u64,
    /// Input tokens written to the cache for an hour or longer.
    pub cache_write_1h: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
    /// Web searches that the provider ran.
    pub web_searches: u64,
}

impl Usage {
    /// All input-side tokens: what decides the price tier. `None` beyond `u64`.
    pub fn input_total(&self) -> Option<u64> {
        self.input
            .checked_add(self.cache_read)?
            .checked_add(self.cache_write_5m)?
            .checked_add(self.cache_write_1h)
    }
}
