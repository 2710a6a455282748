//! Shared types as map keys and values.

use aya::Pod;
use mizar_abi::maps;

/// A type that is the same bytes in the kernel.
///
/// # Safety
///
/// `repr(C)` or a primitive, without padding that is not a named field, and valid for any bits.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain { ($($t:ty),* $(,)?) => { $(
    // SAFETY: `repr(C)` structs of integers and byte arrays; `mizar_abi` asserts their sizes.
    unsafe impl Plain for $t {}
)* }; }

plain!(
    maps::Cfg,
    maps::Ep,
    maps::VniAddress,
    maps::Addr,
    maps::FlowKey,
    maps::Flow,
    maps::FlowCount,
    maps::FragKey,
    maps::Head,
    maps::PolicyKey,
    maps::PolicyAddress,
    maps::Epoch,
    maps::Moved,
    maps::Route,
    maps::ShardKey,
    maps::Shard,
    maps::Bounce,
    maps::Pending,
    maps::Bucket,
    maps::DropKey,
    maps::DropCount,
    maps::Event,
    maps::Watch,
    u8,
    u32,
    u64,
    [u8; 4],
);

/// A shared type, as aya takes it: its marker trait and the types are both foreign here.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Raw<T: Plain>(pub T);

// SAFETY: transparent over a type that promises the same.
unsafe impl<T: Plain> Pod for Raw<T> {}

/// A record of the ring; `None` if it is of another size, and so of another version.
pub fn raw_event(bytes: &[u8]) -> Option<maps::Event> {
    if bytes.len() != size_of::<maps::Event>() {
        return None;
    }
    // SAFETY: the bytes are as many as an `Event` has, which any bits make a valid one.
    Some(unsafe { bytes.as_ptr().cast::<maps::Event>().read_unaligned() })
}

/// What an event of a packet that is followed holds.
pub fn raw_hop(event: &maps::Event) -> Option<maps::Hop> {
    if event.len as usize != size_of::<maps::Hop>() {
        return None;
    }
    // SAFETY: `frame` has more bytes than a `Hop` (`mizar_abi` asserts it), which any bits make a valid one.
    Some(unsafe { event.frame.as_ptr().cast::<maps::Hop>().read_unaligned() })
}
