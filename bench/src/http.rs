//! The least HTTP client: one connection kept open, whole answers, no allocation worth naming, so
//! that what is measured on a machine of two cores is the server and not its client.

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A connection whose requests have the same head.
pub struct Connection {
    stream: BufReader<TcpStream>,
    head: String,
}

/// What came.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body as it came over the line, compressed if it was asked for so.
    pub body: Vec<u8>,
    /// `Location`, if there is one.
    pub location: Option<String>,
    /// The first cookie that it sets.
    pub cookie: Option<String>,
    /// From the request to the first byte.
    pub first_byte: Duration,
}

impl Connection {
    /// To `127.0.0.1:9696`; `head` are lines of HTTP, each with its end.
    pub fn open(server: &str, head: &str) -> Result<Self> {
        let stream = TcpStream::connect(server).with_context(|| format!("cannot reach {server}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream: BufReader::with_capacity(1 << 16, stream), head: format!("Host: {server}\r\n{head}") })
    }

    /// To the API, with a token.
    pub fn to_api(server: &str, token: &str) -> Result<Self> {
        Self::open(server, &format!("X-Auth-Token: {token}\r\nContent-Type: application/json\r\n"))
    }

    /// Sends a request; the body of its answer, which must have this status.
    pub fn call(&mut self, method: &str, path: &str, body: &str, expected: u16) -> Result<Vec<u8>> {
        let answer = self.send(method, path, body)?;
        ensure!(
            answer.status == expected,
            "{method} {path}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        Ok(answer.body)
    }

    /// Sends a request, whatever its answer is.
    pub fn send(&mut self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let head = &self.head;
        let request = format!("{method} {path} HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let begun = Instant::now();
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.answer(begun).with_context(|| format!("{method} {path}"))
    }

    fn answer(&mut self, begun: Instant) -> Result<Answer> {
        self.stream.fill_buf()?;
        let first_byte = begun.elapsed();
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
        let (mut length, mut chunked, mut location, mut cookie) = (0, false, None, None);
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                bail!("the connection ended within an answer's head");
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse()?,
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "location" => location = Some(value.to_owned()),
                "set-cookie" if cookie.is_none() => cookie = value.split(';').next().map(str::to_owned),
                _ => {}
            }
        }
        let mut body = Vec::new();
        if chunked {
            while self.chunk(&mut body)? {}
        } else {
            body.resize(length, 0);
            self.stream.read_exact(&mut body)?;
        }
        Ok(Answer { status, body, location, cookie, first_byte })
    }

    /// Whether there was one more.
    fn chunk(&mut self, body: &mut Vec<u8>) -> Result<bool> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let size =
            usize::from_str_radix(line.trim_end(), 16).with_context(|| format!("`{line}` is no chunk's size"))?;
        let at = body.len();
        // Its end is two bytes.
        body.resize(at + size + 2, 0);
        self.stream.read_exact(&mut body[at..])?;
        body.truncate(at + size);
        Ok(size > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn answers_in_chunks_are_read_whole() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = listener.local_addr()?.to_string();
        let serving = std::thread::spawn(move || -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut asked = BufReader::new(stream.try_clone()?).lines();
            for said in [
                "HTTP/1.1 303 See Other\r\nSet-Cookie: a=b; HttpOnly\r\nSet-Cookie: c=; Max-Age=0\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nhi",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
            ] {
                while !asked.next().context("a request")??.is_empty() {}
                stream.write_all(said.as_bytes())?;
            }
            Ok(())
        });
        let mut client = Connection::open(&server, "X: y\r\n")?;
        let first = client.send("GET", "/", "")?;
        assert_eq!((first.status, first.body.as_slice()), (303, b"hi".as_slice()));
        assert_eq!((first.cookie.as_deref(), first.location.as_deref()), (Some("a=b"), Some("/x")));
        assert_eq!(client.call("GET", "/", "", 200)?, b"abc0123456789");
        serving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
