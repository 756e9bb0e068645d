//! Asks a process for its books.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For the whole question.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer is far shorter.
const LONGEST: u64 = 1 << 20;

/// What the process at `address` tells at `/cost`; or why it does not.
pub(super) async fn books(address: &str) -> Result<Value, String> {
    let answer = timeout(PATIENCE, get(address)).await;
    let answer = answer.map_err(|_| "no answer".to_owned())?;
    parse(&answer.map_err(|error| error.to_string())?)
}

/// One request on a connection of its own, so that the answer ends with it.
async fn get(address: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /cost HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(answer).map_err(|_| "the answer is no text".to_owned())?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| "the answer is not HTTP".to_owned())?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    let value: Result<Value, _> = serde_json::from_str(body);
    match (status, value) {
        ("200", Ok(value)) => Ok(value),
        ("200", Err(error)) => Err(format!("the answer is no JSON ({error})")),
        (_, Ok(value)) if value["reason"].is_string() => {
            Err(value["reason"].as_str().unwrap_or_default().to_owned())
        }
        (status, _) => Err(format!("it answered {status}; is it another program?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_json_or_the_reason_why_not() {
        let ok = parse(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"put\":1}");
        assert_eq!(ok.unwrap()["put"], 1);
        for (answer, word) in [
            (&b"HTTP/1.1 404 Not Found\r\n\r\n"[..], "another program"),
            (b"HTTP/1.1 503 x\r\n\r\n{\"reason\":\"not yet\"}", "not yet"),
            (b"HTTP/1.1 200 OK\r\n\r\n<html>", "no JSON"),
            (b"SSH-2.0", "not HTTP"),
            (b"\xff", "no text"),
        ] {
            let error = parse(answer).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
