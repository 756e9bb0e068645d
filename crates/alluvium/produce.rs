//! `alluvium produce`: lines, or JSON lines, from standard input or a file.

use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use alluvium_client::{Producer, ProducerOptions};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::Record;
use alluvium_types::{Clock, SystemClock};

use crate::base64;
use crate::bootstrap::Bootstrap;
use crate::failure::Failure;
use crate::output::{progress, say};

/// Arguments of `alluvium produce`.
#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// The topic.
    topic: String,
    /// Read this file instead of standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What stands between key and value in a line; without it, lines have no keys.
    #[arg(long, value_name = "TEXT", conflicts_with = "json_lines")]
    key_separator: Option<String>,
    /// Each line is a JSON object: key, value, headers, timestamp; key_base64 and value_base64 for
    /// bytes.
    #[arg(long)]
    json_lines: bool,
    /// A header for every record, NAME=VALUE; may be given more than once.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// Everything goes to this partition.
    #[arg(long)]
    partition: Option<i32>,
    /// Codec of the batches.
    #[arg(long, value_enum, default_value_t = CodecName::None)]
    codec: CodecName,
    /// Whose acknowledgement to wait for: all, 1, or 0 for none.
    #[arg(long, default_value = "all", value_parser = ["all", "1", "0"])]
    acks: String,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CodecName {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl CodecName {
    const fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Gzip => Codec::Gzip,
            Self::Snappy => Codec::Snappy,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
        }
    }
}

type Headers = Vec<(String, Option<Bytes>)>;

/// Runs `alluvium produce`.
pub(crate) async fn run(args: ProduceArgs) -> Result<(), Failure> {
    let headers = args
        .headers
        .iter()
        .map(|text| header(text))
        .collect::<Result<Headers, _>>()?;
    let (input, length): (Box<dyn AsyncBufRead + Unpin>, u64) = match &args.file {
        None => (Box::new(BufReader::new(tokio::io::stdin())), 0),
        Some(path) => {
            let unreadable =
                |error| Failure::Failed(format!("cannot read {}: {error}", path.display()));
            let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
            let length = file.metadata().await.map_err(unreadable)?.len();
            (Box::new(BufReader::with_capacity(1 << 20, file)), length)
        }
    };
    let client = args.bootstrap.connect().await?;
    let options = ProducerOptions {
        codec: args.codec.codec(),
        acks: match args.acks.as_str() {
            "0" => 0,
            "1" => 1,
            _ => -1,
        },
        partition: args.partition,
        ..ProducerOptions::default()
    };
    let mut producer = Producer::new(&client, &args.topic, options).await?;
    let bar = progress(length);
    if args.file.is_none() {
        bar.finish_and_clear();
    }
    let mut lines = input.split(b'\n');
    let mut number = 0u64;
    while let Some(mut line) = lines
        .next_segment()
        .await
        .map_err(|error| Failure::Failed(format!("cannot read line {}: {error}", number + 1)))?
    {
        number += 1;
        bar.inc(line.len() as u64 + 1);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let mut record = if args.json_lines {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            from_json(&line)
                .map_err(|reason| Failure::Failed(format!("line {number}: {reason}")))?
        } else {
            from_line(line, args.key_separator.as_deref())
        };
        record.headers.extend(headers.iter().cloned());
        producer.send(record).await?;
    }
    let sent = producer.flush().await?;
    bar.finish_and_clear();
    say(&format!("{} records to {}", sent.records, args.topic));
    Ok(())
}

fn header(text: &str) -> Result<(String, Option<Bytes>), Failure> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| Failure::Usage(format!("--header {text}: write NAME=VALUE")))?;
    Ok((
        name.to_owned(),
        Some(Bytes::copy_from_slice(value.as_bytes())),
    ))
}

fn from_line(line: Vec<u8>, separator: Option<&str>) -> Record {
    let line = Bytes::from(line);
    let split = separator.filter(|text| !text.is_empty()).and_then(|text| {
        let at = line
            .windows(text.len())
            .position(|part| part == text.as_bytes())?;
        Some((line.slice(..at), line.slice(at + text.len()..)))
    });
    let (key, value) = match split {
        Some((key, value)) => (Some(key), value),
        None => (None, line),
    };
    Record {
        key,
        value: Some(value),
        timestamp: SystemClock.now(),
        ..Record::default()
    }
}

fn from_json(line: &[u8]) -> Result<Record, String> {
    let json: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let object = json.as_object().ok_or("not a JSON object")?;
    let timestamp = match object.get("timestamp") {
        None | Some(Value::Null) => SystemClock.now(),
        Some(value) => value
            .as_i64()
            .ok_or("timestamp is not a number of milliseconds")?,
    };
    let field = |name: &str| bytes_of(object.get(name), object.get(&format!("{name}_base64")));
    Ok(Record {
        offset: 0,
        timestamp,
        key: field("key")?,
        value: field("value")?,
        headers: headers_of(object.get("headers"))?,
    })
}

/// Base64 wins, for it is exact; a value that is no string is sent as the JSON that it is.
fn bytes_of(plain: Option<&Value>, encoded: Option<&Value>) -> Result<Option<Bytes>, String> {
    if let Some(Value::String(text)) = encoded {
        let bytes = base64::decode(text).ok_or_else(|| format!("not base64: {text}"))?;
        return Ok(Some(bytes.into()));
    }
    Ok(match plain {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(Bytes::copy_from_slice(text.as_bytes())),
        Some(other) => Some(other.to_string().into()),
    })
}

/// Headers as an object, or as a list of {key, value} where a name comes more than once.
fn headers_of(json: Option<&Value>) -> Result<Headers, String> {
    match json {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(fields)) => fields
            .iter()
            .map(|(name, value)| Ok((name.clone(), bytes_of(Some(value), None)?)))
            .collect(),
        Some(Value::Array(list)) => list
            .iter()
            .map(|header| {
                let name = header["key"].as_str().ok_or("a header has no key")?;
                let value = bytes_of(header.get("value"), header.get("value_base64"))?;
                Ok((name.to_owned(), value))
            })
            .collect(),
        Some(_) => Err("headers are neither an object nor a list".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_at_the_first_separator() {
        let record = from_line(b"key::a::b".to_vec(), Some("::"));
        assert_eq!(record.key.as_deref(), Some(&b"key"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"a::b"[..]));
        let record = from_line(b"no separator".to_vec(), Some("::"));
        assert_eq!(record.key, None);
    }

    #[test]
    fn json_keeps_bytes_headers_and_time() {
        let line = br#"{"key_base64":"/w==","value":{"a":1},"timestamp":7,
            "headers":[{"key":"h","value":"1"},{"key":"h","value":null}]}"#;
        let record = from_json(line).unwrap();
        assert_eq!(record.key.as_deref(), Some(&[0xff][..]));
        assert_eq!(record.value.as_deref(), Some(&br#"{"a":1}"#[..]));
        assert_eq!(record.timestamp, 7);
        assert_eq!(record.headers.len(), 2);
        assert!(from_json(b"[]").is_err());
        assert!(from_json(br#"{"key_base64":"?"}"#).is_err());
    }
}
