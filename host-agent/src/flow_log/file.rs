//! Files that grow to a size and no further: `current.jsonl`, and those before it, `1.jsonl` the youngest. Beside them
//! `busy.jsonl` and `busy-1.jsonl`, which grow alike.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    is_busy: bool,
    /// Bytes of one of them.
    most: u64,
    /// How many older ones are kept.
    kept: u32,
    open: Option<(File, u64)>,
}

impl Files {
    /// In this directory, which is made with the first record.
    pub fn new(dir: &Path, most: u64, kept: u32) -> Self {
        Self { dir: dir.to_owned(), is_busy: false, most, kept, open: None }
    }

    /// Those beside these: one older one is enough.
    pub fn beside(&self) -> Self {
        Self { dir: self.dir.clone(), is_busy: true, most: self.most, kept: self.kept.min(1), open: None }
    }

    /// Bytes that all of them have room for.
    pub const fn room(&self) -> u64 {
        self.most.saturating_mul(self.kept as u64 + 1)
    }

    fn current(&self) -> PathBuf {
        self.dir.join(if self.is_busy { "busy.jsonl" } else { "current.jsonl" })
    }

    fn older(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{}{number}.jsonl", if self.is_busy { "busy-" } else { "" }))
    }

    /// Adds lines, each whole in one file.
    pub fn append(&mut self, lines: &[String]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let done = self.try_append(lines);
        if done.is_err() {
            // Opened anew next time: the directory may have been removed, or the disk be full.
            self.open = None;
        }
        done
    }

    fn try_append(&mut self, lines: &[String]) -> io::Result<()> {
        let mut lines = lines.iter().peekable();
        while lines.peek().is_some() {
            let (mut file, mut size) = match self.open.take() {
                Some(open) => open,
                None => self.open()?,
            };
            if size >= self.most {
                drop(file);
                self.rotate()?;
                continue;
            }
            let mut text = String::new();
            while let Some(line) = lines.next_if(|line| size == 0 || size + line.len() as u64 <= self.most) {
                text.push_str(line);
                size += line.len() as u64;
            }
            file.write_all(text.as_bytes())?;
            if lines.peek().is_some() {
                drop(file);
                self.rotate()?;
            } else {
                self.open = Some((file, size));
            }
        }
        Ok(())
    }

    fn open(&self) -> io::Result<(File, u64)> {
        // What tenants do is nobody's business on this host.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(self.current())?;
        let mut size = file.metadata()?.len();
        // A write that the disk had no room for ends in the middle of a line.
        if size > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok((file, size))
    }

    fn rotate(&self) -> io::Result<()> {
        let absent = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        if self.kept == 0 {
            return absent(fs::remove_file(self.current()));
        }
        for number in (1..self.kept).rev() {
            absent(fs::rename(self.older(number), self.older(number + 1)))?;
        }
        absent(fs::rename(self.current(), self.older(1)))
    }

    /// The end of the youngest file, in whole lines: so many bytes at most.
    pub fn tail(&self, most: u64) -> io::Result<String> {
        let mut file = match File::open(self.current()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            file => file?,
        };
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(match text.split_once('\n') {
            Some((_, rest)) if size > most => rest.to_owned(),
            _ => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(range: std::ops::Range<u32>) -> Vec<String> {
        range.map(|n| format!("{n:09}\n")).collect()
    }

    fn read(dir: &Path, name: &str) -> Option<String> {
        fs::read_to_string(dir.join(name)).ok()
    }

    #[test]
    fn files_grow_to_their_size_and_the_oldest_goes() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let dir = dir.path().join("flow-log");
        let mut files = Files::new(&dir, 35, 2);
        // Three lines of ten bytes fit.
        files.append(&lines(0..2))?;
        files.append(&lines(2..8))?;
        assert_eq!(read(&dir, "1.jsonl"), Some(lines(3..6).concat()));
        assert_eq!(read(&dir, "2.jsonl"), Some(lines(0..3).concat()));
        // Whoever comes later goes on in the same file.
        let mut files = Files::new(&dir, 35, 2);
        files.append(&lines(8..10))?;
        assert_eq!(read(&dir, "current.jsonl"), Some(lines(9..10).concat()));
        assert_eq!(read(&dir, "1.jsonl"), Some(lines(6..9).concat()));
        assert_eq!(read(&dir, "2.jsonl"), Some(lines(3..6).concat()));
        assert_eq!(fs::read_dir(&dir)?.count(), 3);
        Ok(())
    }

    #[test]
    fn a_line_that_is_longer_than_a_file_has_one_of_its_own() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut files = Files::new(dir.path(), 5, 1);
        files.append(&lines(0..3))?;
        assert_eq!(read(dir.path(), "current.jsonl"), Some(lines(2..3).concat()));
        assert_eq!(read(dir.path(), "1.jsonl"), Some(lines(1..2).concat()));
        let mut none = Files::new(dir.path(), 15, 0);
        none.append(&lines(3..6))?;
        assert_eq!(read(dir.path(), "current.jsonl"), Some(lines(5..6).concat()));
        assert_eq!(read(dir.path(), "1.jsonl"), Some(lines(1..2).concat()), "nobody's any more");
        Ok(())
    }

    #[test]
    fn a_directory_that_is_gone_is_made_again_and_half_a_line_is_ended() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let dir = root.path().join("flow-log");
        fs::write(&dir, "in the way")?;
        let mut files = Files::new(&dir, 100, 1);
        assert!(files.append(&lines(0..1)).is_err());
        fs::remove_file(&dir)?;
        files.append(&lines(0..1))?;
        fs::write(dir.join("current.jsonl"), "{\"half")?;
        let mut files = Files::new(&dir, 100, 1);
        files.append(&lines(1..2))?;
        assert_eq!(read(&dir, "current.jsonl"), Some("{\"half\n000000001\n".to_owned()));
        Ok(())
    }

    #[test]
    fn the_end_of_a_file_is_read_in_whole_lines() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut files = Files::new(dir.path(), 100, 1);
        assert_eq!(files.tail(25)?, "");
        files.append(&lines(0..4))?;
        assert_eq!(files.tail(25)?, lines(2..4).concat());
        assert_eq!(files.tail(100)?, lines(0..4).concat());
        Ok(())
    }
}
