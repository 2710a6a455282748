//! Three pages over HTTP/1.1, one request a connection.

use crate::{TEXT, readiness};
use serde_json::json;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A check's name, and why it fails.
pub type Check = (&'static str, Option<String>);

/// What is asked.
pub trait Operated: Send + Sync + 'static {
    /// OpenMetrics' text.
    fn metrics(&self) -> impl Future<Output = Result<String, String>> + Send;

    /// What the process needs to do its work.
    fn checks(&self) -> impl Future<Output = Vec<Check>> + Send;
}

/// Bytes of a request's head.
const HEAD_MAX: usize = 8 << 10;

/// For a whole request, and its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests at once.
const AT_ONCE: usize = 8;

/// Serves for ever.
pub async fn serve(listener: TcpListener, operated: Arc<impl Operated>) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let operated = Arc::clone(&operated);
                tokio::spawn(async move {
                    let _turn = turn;
                    match tokio::time::timeout(PATIENCE, answer(stream, &*operated)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::debug!(%error, "who asked for metrics went away"),
                        Err(_) => tracing::debug!("who asked for metrics was too slow"),
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors: whoever holds them may give some back.
                tracing::error!(%error, "the operators' listener takes no connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

struct Page {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Page {
    fn json(status: &'static str, body: &serde_json::Value) -> Self {
        Self { status, kind: "application/json", body: body.to_string() }
    }

    fn plain(status: &'static str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: format!("{status}\n") }
    }
}

async fn answer(mut stream: TcpStream, operated: &impl Operated) -> io::Result<()> {
    let Page { status, kind, body } = match head(&mut stream).await? {
        None => Page::plain("431 Request Header Fields Too Large"),
        Some(head) => page(&head, operated).await,
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// A request up to its empty line; `None`: it has none in time.
async fn head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut read = Vec::new();
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            return Ok(Some(String::from_utf8_lossy(&read[..end]).into_owned()));
        }
        if read.len() > HEAD_MAX {
            return Ok(None);
        }
    }
}

async fn page(head: &str, operated: &impl Operated) -> Page {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Page::plain("400 Bad Request");
    };
    if !version.starts_with("HTTP/1.") {
        return Page::plain("400 Bad Request");
    }
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        ("GET", "/metrics") => match operated.metrics().await {
            Ok(body) => Page { status: "200 OK", kind: TEXT, body },
            Err(error) => {
                tracing::error!(error, "metrics cannot be written");
                Page::plain("500 Internal Server Error")
            }
        },
        ("GET", "/healthz") => Page::json("200 OK", &json!({"status": "ok"})),
        ("GET", "/readyz") => {
            let (ready, body) = readiness(&operated.checks().await, true);
            Page::json(if ready { "200 OK" } else { "503 Service Unavailable" }, &body)
        }
        (_, "/metrics" | "/healthz" | "/readyz") => Page::plain("405 Method Not Allowed"),
        _ => Page::plain("404 Not Found"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    struct Fixed(Option<&'static str>);

    impl Operated for Fixed {
        async fn metrics(&self) -> Result<String, String> {
            match self.0 {
                None => Ok("# EOF\n".into()),
                Some(_) => Err("broken".into()),
            }
        }

        async fn checks(&self) -> Vec<Check> {
            vec![("one", None), ("two", self.0.map(str::to_owned))]
        }
    }

    async fn start(failure: Option<&'static str>) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(serve(listener, Arc::new(Fixed(failure))));
        Ok(address)
    }

    async fn ask(address: SocketAddr, parts: &[&str]) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        for part in parts {
            stream.write_all(part.as_bytes()).await?;
            stream.flush().await?;
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn three_pages_are_there_and_nothing_else() -> io::Result<()> {
        let (well, ill) = (start(None).await?, start(Some("no \"database\"")).await?);
        let get = async |address, path: &str| ask(address, &[&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")]).await;
        let metrics = get(well, "/metrics?x=1").await?;
        assert!(metrics.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text"), "{metrics}");
        assert!(metrics.ends_with("Content-Length: 6\r\nConnection: close\r\n\r\n# EOF\n"), "{metrics}");
        assert!(get(well, "/readyz").await?.starts_with("HTTP/1.1 200 OK"));
        let unready = get(ill, "/readyz").await?;
        assert!(unready.starts_with("HTTP/1.1 503") && unready.contains(r#""two":"no \"database\"""#), "{unready}");
        assert!(get(ill, "/healthz").await?.starts_with("HTTP/1.1 200 OK"), "a restart would not mend it");
        assert!(get(ill, "/metrics").await?.starts_with("HTTP/1.1 500"));
        assert!(get(well, "/").await?.starts_with("HTTP/1.1 404"));
        assert!(ask(well, &["POST /metrics HTTP/1.1\r\n\r\n"]).await?.starts_with("HTTP/1.1 405"));
        Ok(())
    }

    #[tokio::test]
    async fn a_request_may_come_in_pieces_and_what_is_none_is_told_so() -> io::Result<()> {
        let well = start(None).await?;
        assert!(ask(well, &["GET /heal", "thz HTTP/1.1\r\nA: b\r", "\n\r\n"]).await?.starts_with("HTTP/1.1 200 OK"));
        for wrong in ["\r\n\r\n", "GET\r\n\r\n", "GET /metrics\r\n\r\n", "GET /metrics SPDY\r\n\r\n"] {
            assert!(ask(well, &[wrong]).await?.starts_with("HTTP/1.1 400"), "{wrong:?}");
        }
        let endless = format!("GET /metrics HTTP/1.1\r\nA: {}", "x".repeat(HEAD_MAX));
        assert!(ask(well, &[&endless]).await?.starts_with("HTTP/1.1 431"));
        Ok(())
    }

    #[tokio::test]
    async fn who_says_nothing_keeps_nobody_else_out() -> io::Result<()> {
        let well = start(None).await?;
        let mut silent = Vec::new();
        for _ in 0..AT_ONCE - 1 {
            silent.push(TcpStream::connect(well).await?);
        }
        assert!(ask(well, &["GET /healthz HTTP/1.1\r\n\r\n"]).await?.starts_with("HTTP/1.1 200 OK"));
        Ok(())
    }
}
