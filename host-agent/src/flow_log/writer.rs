//! Where records go: into the files that all write, or, beyond a port's share of these, into those beside them.

use super::file::Files;
use super::line::Lost;
use super::share::Shares;
use std::io;
use std::time::Duration;

/// What is missing is said no more often.
const SAID: Duration = Duration::from_secs(1);

/// See the module. Time is since boot, and an argument.
#[derive(Debug)]
pub struct Writer {
    host: String,
    files: Files,
    busy: Files,
    shares: Shares,
    /// Records that are in no file, as far as that was not said.
    missing: u64,
    /// When it was to be said last.
    said: Option<Duration>,
}

impl Writer {
    /// Of this host's log.
    pub fn new(host: String, files: Files) -> Self {
        let (busy, shares) = (files.beside(), Shares::new(files.room()));
        Self { host, files, busy, shares, missing: 0, said: None }
    }

    /// So many more records are missing.
    pub const fn miss(&mut self, records: u64) {
        self.missing += records;
    }

    /// When it is to be said how many are.
    pub fn due(&self) -> Option<Duration> {
        (self.missing > 0).then(|| self.said.map_or(Duration::ZERO, |said| said + SAID))
    }

    /// Adds lines of ports: all or none of them, as far as the disk has room. If none, they are missing.
    pub fn write(&mut self, lines: Vec<(u32, String)>, now: Duration, unix_ms: i64) -> io::Result<()> {
        let many = lines.len() as u64;
        let says = self.due().is_some_and(|due| due <= now);
        if says {
            self.said = Some(now);
        }
        let written = self.append(lines, says.then_some(unix_ms), now);
        match written {
            Ok(()) if says => self.missing = 0,
            Ok(()) => {}
            Err(_) => self.missing += many,
        }
        written
    }

    fn append(&mut self, lines: Vec<(u32, String)>, says: Option<i64>, now: Duration) -> io::Result<()> {
        self.shares.settle(now);
        let (mut shared, mut beyond) = (Vec::new(), Vec::new());
        for (port, line) in lines {
            let into = if self.shares.take(port, line.len() as u64, now) { &mut shared } else { &mut beyond };
            into.push(line);
        }
        shared.extend(says.map(|unix_ms| Lost::of(self.missing, unix_ms, &self.host).text()));
        self.busy.append(&beyond)?;
        self.files.append(&shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    const START: Duration = Duration::from_secs(1_000);
    const QUIET: u32 = 1;
    const LOUD: u32 = 2;

    fn read(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).unwrap_or_default()
    }

    fn line(port: u32, n: u32) -> (u32, String) {
        (port, format!("{port} {n:097}\n"))
    }

    fn writer(dir: &Path) -> Writer {
        Writer::new("h1".into(), Files::new(dir, 10_000, 3))
    }

    #[test]
    fn whoever_has_much_to_say_takes_nobodys_records_away_and_has_his_last_ones() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut writer = writer(dir.path());
        writer.write(vec![line(QUIET, 0)], START, 0)?;
        // Ten times what all files have room for, in ten minutes.
        for n in 0..4_000 {
            let now = START + n * Duration::from_millis(150);
            writer.write(vec![line(LOUD, n)], now, 0)?;
        }
        let (shared, busy) = (read(dir.path(), "current.jsonl"), read(dir.path(), "busy.jsonl"));
        assert!(shared.starts_with(&line(QUIET, 0).1), "{shared}");
        assert!(shared.contains(&line(LOUD, 1).1) && busy.ends_with(&line(LOUD, 3_999).1), "{busy}");
        assert!(fs::metadata(dir.path().join("busy-1.jsonl"))?.len() <= 10_000);
        // The rest has its place as before.
        writer.write(vec![line(QUIET, 9)], START + Duration::from_secs(601), 0)?;
        assert!(read(dir.path(), "current.jsonl").ends_with(&line(QUIET, 9).1));
        assert_eq!(fs::read_dir(dir.path())?.count(), 3);
        Ok(())
    }

    #[test]
    fn what_is_missing_is_said_once_a_second_in_all() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut writer = writer(dir.path());
        assert_eq!(writer.due(), None);
        for n in 0..40 {
            writer.miss(1);
            writer.write(Vec::new(), START + n * Duration::from_millis(50), 0)?;
        }
        let said = |text: &str| text.lines().map(|line| line.split(r#""lost":"#).nth(1).map(str::to_owned)).collect();
        let told: Vec<Option<String>> = said(&read(dir.path(), "current.jsonl"));
        assert_eq!(told, [Some("1}".to_owned()), Some("20}".to_owned())]);
        let due = writer.due().expect("more is missing");
        assert_eq!(due, START + Duration::from_secs(2));
        writer.write(Vec::new(), due, 0)?;
        let told: Vec<Option<String>> = said(&read(dir.path(), "current.jsonl"));
        assert_eq!((told.last(), writer.due()), (Some(&Some("19}".to_owned())), None));
        Ok(())
    }

    #[test]
    fn what_a_disk_does_not_take_is_missing_and_said_when_it_does() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let dir = root.path().join("flow-log");
        fs::write(&dir, "in the way")?;
        let mut writer = writer(&dir);
        assert!(writer.write(vec![line(QUIET, 0), line(QUIET, 1)], START, 0).is_err());
        assert!(writer.write(Vec::new(), START, 0).is_err());
        // It is not tried without end.
        assert_eq!(writer.due(), Some(START + SAID));
        fs::remove_file(&dir)?;
        writer.write(vec![line(QUIET, 2)], START + SAID, 0)?;
        let text = read(&dir, "current.jsonl");
        assert!(text.starts_with(&line(QUIET, 2).1) && text.ends_with("\"lost\":2}\n"), "{text}");
        Ok(())
    }
}
