//! The most that a request can use, before the provider has said a word.

/// Bounds on the usage of one request, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// All input-side tokens, over every call that the provider makes for the request.
    pub input: u64,
    /// The most input-side tokens of a single call: what decides the price tier.
    pub input_per_call: u64,
    /// How many of `input` may be written to a cache for 5 minutes.
    pub cache_write_5m: u64,
    /// How many of `input` may be written to a cache for an hour or longer.
    pub cache_write_1h: u64,
    /// Output tokens.
    pub output: u64,
    /// Web searches.
    pub web_searches: u64,
}
