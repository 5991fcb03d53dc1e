//! Envoy's shared data, as the ring wants it.

use crate::machine::ring::SharedData;
use proxy_wasm::hostcalls;

pub(super) struct Envoy;

impl SharedData for Envoy {
    fn get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        match hostcalls::get_shared_data(key) {
            Ok((value, Some(version))) => Some((value.unwrap_or_default(), version)),
            _ => None,
        }
    }

    fn set(&mut self, key: &str, value: &[u8], version: u32) -> bool {
        // The host takes 0 for "whatever is there". A key that is not there yet takes any version, and one that somebody
        // wrote meanwhile has a small one: they count up from 1 over the life of the process.
        let expected = if version == 0 { u32::MAX } else { version };
        hostcalls::set_shared_data(key, Some(value), Some(expected)).is_ok()
    }
}
