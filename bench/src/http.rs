//! The least HTTP client: one connection kept open, whole answers, no allocation worth naming, so
//! that what is measured on a machine of two cores is the server and not its client.

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A connection with a token.
pub struct Connection {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Connection {
    /// To `127.0.0.1:9696`.
    pub fn open(server: &str, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(server).with_context(|| format!("cannot reach {server}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let head = format!("Host: {server}\r\nX-Auth-Token: {token}\r\nContent-Type: application/json\r\n");
        Ok(Self { stream: BufReader::with_capacity(1 << 16, stream), head })
    }

    /// Sends a request; the body of its answer, which must have this status.
    pub fn call(&mut self, method: &str, path: &str, body: &str, expected: u16) -> Result<Vec<u8>> {
        let head = &self.head;
        let request = format!("{method} {path} HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len());
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (status, answer) = self.answer().with_context(|| format!("{method} {path}"))?;
        ensure!(status == expected, "{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        Ok(answer)
    }

    fn answer(&mut self) -> Result<(u16, Vec<u8>)> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
        let mut length = 0;
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                bail!("the connection ended within an answer's head");
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse()?,
                Some((name, _)) if name.eq_ignore_ascii_case("transfer-encoding") => bail!("the answer is chunked"),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, body))
    }
}
