//! The eBPF object: a file, or what the build embedded.
//!
//! `cargo check` works without an eBPF toolchain: only the feature `embed` looks for the object
//! that `./dev bpf` builds.

use anyhow::Context as _;
use std::borrow::Cow;
use std::path::Path;

#[cfg(feature = "embed")]
static EMBEDDED: Option<&[u8]> =
    Some(aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bpf/mizar-bpf.o")));
#[cfg(not(feature = "embed"))]
static EMBEDDED: Option<&[u8]> = None;

/// The object's bytes.
pub fn read(file: Option<&Path>) -> anyhow::Result<Cow<'static, [u8]>> {
    match (file, EMBEDDED) {
        (Some(file), _) => {
            let bytes = std::fs::read(file).with_context(|| format!("--bpf-object: reading {}", file.display()))?;
            Ok(Cow::Owned(bytes))
        }
        (None, Some(embedded)) => Ok(Cow::Borrowed(embedded)),
        (None, None) => {
            anyhow::bail!("--bpf-object: this agent was built without the feature embed, so it needs a path")
        }
    }
}
