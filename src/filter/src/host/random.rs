//! Random bytes. Envoy has WASI's source of them; the SDK does not wrap it, and no crate for random bytes builds here.

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)] // The one import that the SDK does not wrap.
mod wasi {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn random_get(buffer: *mut u8, length: usize) -> u16;
    }

    pub(super) fn fill(bytes: &mut [u8]) -> bool {
        // SAFETY: the host writes exactly `length` bytes to `buffer`, which is ours for the whole call.
        unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) == 0 }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod wasi {
    /// There is no host.
    pub(super) fn fill(_: &mut [u8]) -> bool {
        false
    }
}

/// So many random bytes; `None`: the host has none.
pub(super) fn bytes<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    wasi::fill(&mut bytes).then_some(bytes)
}
