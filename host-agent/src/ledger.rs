//! What the host was last told, on disk: the entries, and the cursor up to which they are right.
//!
//! The ledger is one file, a log of [`Batch`]es, each with its length and a checksum. A batch
//! carries changes *and* the cursor that they lead to, so that after a crash at any byte the log
//! ends after some batch: a state that was once true, with its own cursor, from which the API
//! sends the rest again. Nothing needs to be on the platter before it is acknowledged: what a
//! power failure takes away is only younger than the cursor that remains, and the kernel's maps
//! went with it. So the log is appended to without waiting, flushed in the background
//! ([`Ledger::flusher`]), and rewritten (with fsync and rename) when it has outgrown its content.
//!
//! A record that was written whole (its checksum is right) but does not decode is another
//! version's or a bug's, and one that is damaged *before* whole ones was not torn by a crash but
//! by the disk: then the ledger counts for nothing, the agent starts over with a
//! snapshot, and the maps stay as they are until it is complete.

use mizar_abi::hash::Sip13;
use mizar_wire::entry::Change;
use mizar_wire::sync::ScopeRange;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// First bytes of the file; the number is the format's.
const MAGIC: &[u8; 16] = b"mizar ledger  2\n";
/// A record larger than this was not written by us.
const MAX_RECORD: u32 = 1 << 28;
/// Below this size a log is never rewritten.
const SMALL: u64 = 1 << 20;

/// One step of the desired state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// The host's number, when it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Epoch of the feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Where to sync from after this; `None` = take a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Whether everything that the host should have has once arrived.
    #[serde(default)]
    pub complete: bool,
    /// Entries are kept that a snapshot lacks: it is doubted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubted: bool,
    /// What was said of sets of security groups, by their numbers, before a snapshot that begins here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub said: BTreeMap<u32, u32>,
    /// Ranges whose entries go before `changes` come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<ScopeRange>,
    /// Ranges that arrive whole: entries in them that are not in `changes` go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<ScopeRange>,
    /// Upserts and removals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

/// What was found at the start.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// No ledger: a new host.
    Nothing,
    /// A ledger; its batches, in order.
    Batches(Vec<Batch>),
    /// Something that cannot be trusted, and why.
    Unusable(String),
}

/// The open file.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    /// Bytes in the file.
    bytes: u64,
    /// Bytes after the last rewrite.
    base: u64,
}

fn checksum(payload: &[u8]) -> u64 {
    let mut sip = Sip13::new(b"mizar ledger sum");
    let mut words = payload.chunks_exact(8);
    for word in &mut words {
        sip = sip.word(u64::from_le_bytes(word.try_into().expect("chunks of eight")));
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    sip.finish(payload.len() as u64, u64::from_le_bytes(last))
}

fn encode(batch: &Batch, out: &mut Vec<u8>) -> io::Result<()> {
    let payload = serde_json::to_vec(batch).map_err(io::Error::other)?;
    let len = u32::try_from(payload.len()).ok().filter(|l| *l <= MAX_RECORD);
    let len = len.ok_or_else(|| io::Error::other("a batch is larger than 256 MB"))?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&checksum(&payload).to_le_bytes());
    out.extend_from_slice(&payload);
    Ok(())
}

/// The payload of the record that these bytes begin with, if it is whole.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let (head, tail) = bytes.split_first_chunk::<12>()?;
    let [l0, l1, l2, l3, sum @ ..] = *head;
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    let payload = (len <= MAX_RECORD).then(|| tail.get(..len as usize)).flatten()?;
    // Payloads are JSON objects: only what looks like one is worth a checksum.
    let plausible = payload.first() == Some(&b'{') && payload.last() == Some(&b'}');
    (plausible && checksum(payload) == u64::from_le_bytes(sum)).then_some(payload)
}

/// The records of a file up to a torn one at its end, and the bytes they take.
fn decode(bytes: &[u8]) -> Result<(Vec<Batch>, u64), String> {
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        // A file cut within its first line was being made when the host went down.
        return if MAGIC.starts_with(bytes) {
            Ok((Vec::new(), 0))
        } else {
            Err("not a ledger of this version".to_owned())
        };
    };
    let mut batches = Vec::new();
    while let Some(payload) = whole(rest) {
        let batch = serde_json::from_slice(payload)
            .map_err(|e| format!("record {} does not decode: {e}", batches.len() + 1))?;
        batches.push(batch);
        rest = &rest[12 + payload.len()..];
    }
    // A crash tears the last record; what has whole ones behind it was damaged later, and a prefix
    // of it would be an old state with a cursor whose answer may lack removals.
    if (1..rest.len()).any(|at| whole(&rest[at..]).is_some()) {
        return Err(format!("record {} is damaged", batches.len() + 1));
    }
    Ok((batches, (bytes.len() - rest.len()) as u64))
}

impl Ledger {
    /// Opens or makes the ledger in a directory, which is made too.
    pub fn open(dir: &Path) -> io::Result<(Self, Found)> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join("ledger");
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(mut file) => drop(file.read_to_end(&mut bytes)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let (found, keep) = match decode(&bytes) {
            Ok((batches, _)) if batches.is_empty() => (Found::Nothing, 0),
            Ok((batches, keep)) => (Found::Batches(batches), keep),
            Err(reason) => (Found::Unusable(reason), 0),
        };
        let ledger = if keep == 0 {
            if !bytes.is_empty() {
                // Kept for whoever wants to know why.
                std::fs::rename(&path, dir.join("ledger.unusable"))?;
            }
            Self::create(path, &[])?
        } else {
            // What is torn goes now: appended records must follow a whole one.
            let file = OpenOptions::new().append(true).open(&path)?;
            if keep != bytes.len() as u64 {
                file.set_len(keep)?;
            }
            Self { path, file, bytes: keep, base: keep }
        };
        Ok((ledger, found))
    }

    /// Writes a new file with these batches and puts it in place of the old one, whole or not at
    /// all.
    fn create(path: PathBuf, batches: &[Batch]) -> io::Result<Self> {
        let mut content = MAGIC.to_vec();
        for batch in batches {
            encode(batch, &mut content)?;
        }
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&content)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        let file = OpenOptions::new().append(true).open(&path)?;
        let bytes = content.len() as u64;
        Ok(Self { path, file, bytes, base: bytes })
    }

    /// How long ago it was written to.
    pub fn age(&self) -> io::Result<Duration> {
        let written = self.file.metadata()?.modified()?;
        // A clock that was set back says nothing.
        Ok(written.elapsed().unwrap_or_default())
    }

    /// Adds a batch. A crash from here on finds it whole or not at all.
    pub fn append(&mut self, batch: &Batch) -> io::Result<()> {
        let mut record = Vec::new();
        encode(batch, &mut record)?;
        if let Err(error) = self.file.write_all(&record) {
            // Half a record would hide every later one: take it back before going on.
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += record.len() as u64;
        Ok(())
    }

    /// Whether a rewrite would pay.
    pub fn is_bloated(&self) -> bool {
        self.bytes > SMALL && self.bytes > self.base.saturating_mul(3)
    }

    /// Replaces the log by one with the same meaning.
    pub fn rewrite(&mut self, batches: &[Batch]) -> io::Result<()> {
        *self = Self::create(self.path.clone(), batches)?;
        Ok(())
    }

    /// A handle to flush the file with, apart from whoever appends. It is that of the file of
    /// now: after a rewrite, which flushes itself, ask again.
    pub fn flusher(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Bytes in the file.
    pub fn size(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(n: u32) -> Batch {
        Batch {
            number: (n == 0).then_some(7),
            epoch: Some("e".into()),
            cursor: Some(format!("{n}:{n}:")),
            complete: n > 1,
            doubted: n % 2 == 1,
            said: BTreeMap::from([(n, 2 * n)]),
            dropped: vec![ScopeRange { scope: 1, lo: 0, hi: 4095 }; n as usize % 2],
            added: vec![],
            changes: vec![Change {
                scope: 1 << 32,
                slot: 0,
                kind: 1,
                key: format!("{n:08x}"),
                body: Some(serde_json::json!({"n": n})),
            }],
        }
    }

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_ledger_cut_at_any_byte_holds_the_batches_before_the_cut_and_goes_on() {
        let dir = scratch();
        let (mut ledger, found) = Ledger::open(dir.path()).unwrap();
        assert_eq!(found, Found::Nothing);
        let mut ends = vec![ledger.size()];
        let all: Vec<Batch> = (0..4).map(batch).collect();
        for batch in &all {
            ledger.append(batch).unwrap();
            ends.push(ledger.size());
        }
        let path = dir.path().join("ledger");
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len() as u64, *ends.last().unwrap());
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut ledger, found) = Ledger::open(dir.path()).unwrap();
            let kept = ends.iter().skip(1).filter(|end| **end <= cut as u64).count();
            let expected = if kept == 0 { Found::Nothing } else { Found::Batches(all[..kept].to_vec()) };
            assert_eq!(found, expected, "cut at {cut}");
            // What is written next is found next.
            ledger.append(&batch(9)).unwrap();
            let (_, found) = Ledger::open(dir.path()).unwrap();
            let expected = all[..kept].iter().cloned().chain([batch(9)]).collect();
            assert_eq!(found, Found::Batches(expected), "cut at {cut}, then appended");
        }
    }

    #[test]
    fn a_flipped_bit_before_whole_records_makes_the_ledger_unusable_and_in_the_last_ends_it() {
        let dir = scratch();
        let (mut ledger, _) = Ledger::open(dir.path()).unwrap();
        ledger.append(&batch(0)).unwrap();
        let first = ledger.size() as usize;
        ledger.append(&batch(1)).unwrap();
        ledger.append(&batch(2)).unwrap();
        let path = dir.path().join("ledger");
        let whole = std::fs::read(&path).unwrap();
        let second_end = first + 12 + u32::from_le_bytes(whole[first..first + 4].try_into().unwrap()) as usize;
        for at in first..second_end {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let (_, found) = Ledger::open(dir.path()).unwrap();
            assert!(matches!(&found, Found::Unusable(why) if why.contains("record 2")), "byte {at}: {found:?}");
        }
        for at in second_end..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let found = Ledger::open(dir.path()).unwrap().1;
            assert_eq!(found, Found::Batches(vec![batch(0), batch(1)]), "byte {at}");
        }
    }

    #[test]
    fn a_record_of_another_version_makes_the_ledger_unusable_and_is_kept_aside() {
        let dir = scratch();
        let path = dir.path().join("ledger");
        let mut bytes = MAGIC.to_vec();
        let payload = br#"{"complete":true,"colour":"blue"}"#;
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&checksum(payload).to_le_bytes());
        bytes.extend_from_slice(payload);
        for content in [bytes, b"something else entirely".to_vec()] {
            std::fs::write(&path, &content).unwrap();
            let (_, found) = Ledger::open(dir.path()).unwrap();
            assert!(matches!(found, Found::Unusable(_)), "{found:?}");
            assert_eq!(std::fs::read(dir.path().join("ledger.unusable")).unwrap(), content);
            assert_eq!(Ledger::open(dir.path()).unwrap().1, Found::Nothing);
        }
    }

    #[test]
    fn a_ledger_that_was_only_opened_is_as_old_as_before() {
        let dir = scratch();
        let (mut ledger, _) = Ledger::open(dir.path()).unwrap();
        ledger.append(&batch(1)).unwrap();
        let ago = std::time::SystemTime::now() - Duration::from_secs(600);
        ledger.flusher().unwrap().set_modified(ago).unwrap();
        let (mut ledger, _) = Ledger::open(dir.path()).unwrap();
        assert!(ledger.age().unwrap() >= Duration::from_secs(600));
        ledger.append(&batch(2)).unwrap();
        assert!(ledger.age().unwrap() < Duration::from_secs(600));
    }

    #[test]
    fn a_rewritten_ledger_holds_what_it_was_given_and_takes_more() {
        let dir = scratch();
        let (mut ledger, _) = Ledger::open(dir.path()).unwrap();
        for n in 0..20_000 {
            ledger.append(&batch(n)).unwrap();
        }
        assert!(ledger.is_bloated());
        ledger.rewrite(&[batch(5)]).unwrap();
        assert!(!ledger.is_bloated());
        ledger.append(&batch(6)).unwrap();
        assert_eq!(Ledger::open(dir.path()).unwrap().1, Found::Batches(vec![batch(5), batch(6)]));
        assert!(!dir.path().join("ledger.new").exists());
    }
}
