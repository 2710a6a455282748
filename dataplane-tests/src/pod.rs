//! Types of the ABI as map keys and values.

/// A plain value: its bytes are its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Plain<T>(pub T);

// SAFETY: used with types of `mizar_abi::maps` only, which are `repr(C)` with named padding.
unsafe impl<T: Copy + 'static> aya::Pod for Plain<T> {}
