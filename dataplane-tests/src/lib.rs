//! Several hosts in one process: each is a loaded instance of the kernel object with maps of its
//! own, and frames are carried from the output of one to the input of the next. The programs are
//! the real ones in the real kernel; only the wire between them is this crate.
//!
//! Needs root and `target/bpf/mizar-bpf.o` (`./dev bpf`).

pub mod connection;
pub mod drawn;
pub mod frame;
pub mod host;
pub mod judged;
pub mod links;
pub mod pod;
pub mod policy;
pub mod promptly;
pub mod random;
pub mod world;

pub use host::{Host, Outcome};
pub use world::{Port, World};
