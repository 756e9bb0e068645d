//! The same records through every client: bytes, keys, headers, timestamps, order.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Minio, Server, ServerOptions, has_kcat, kcat, python, run_client};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const RECORDS: usize = 500;

#[test]
fn every_codec_and_client_on_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(ServerOptions::new(&dir.path().join("data")));
    round_trips(server, |server| {
        server
            .options
            .data_dir
            .join("objects")
            .to_str()
            .unwrap()
            .to_owned()
    });
}

#[test]
fn every_codec_and_client_on_minio() {
    let Some(minio) = Minio::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut options = ServerOptions::new(&dir.path().join("data"));
    options.store = Some("s3://alluvium-codecs/some/prefix".to_owned());
    options.env = minio.env();
    round_trips(Server::start(options), |_| {
        "s3://alluvium-codecs/some/prefix".to_owned()
    });
}

fn round_trips(server: Server, objects: impl Fn(&Server) -> String) {
    let Some(python) = python() else { return };
    let mut written = Vec::new();
    for codec in CODECS {
        let topic = format!("codec-{codec}");
        // Half of the topics go through objects at once, the others inline and settle later.
        let lane = if codec.len() % 2 == 0 {
            "object"
        } else {
            "auto"
        };
        server.tool(&[
            "topic",
            "create",
            &topic,
            "--partitions",
            "3",
            "--config",
            &format!("alluvium.lane={lane}"),
        ]);
        let sent = run_client(
            &python,
            "codecs.py",
            &[
                "produce",
                &server.address(),
                &topic,
                codec,
                &RECORDS.to_string(),
            ],
        );
        assert_eq!(sent.lines().count(), RECORDS);
        compare(&python, &server, &topic, &sent);
        written.push((topic, sent));
    }
    // Once more from the objects: a clean stop settles everything, and a new process has nothing in
    // memory.
    let (options, code) = server.terminate();
    assert_eq!(code, Some(0));
    let server = Server::start(options);
    for (topic, sent) in &written {
        compare(&python, &server, topic, sent);
    }
    inspect(&server, &objects(&server));
}

fn compare(python: &Path, server: &Server, topic: &str, sent: &str) {
    let address = server.address();
    let count = RECORDS.to_string();
    for client in ["confluent", "kafka-python"] {
        let read = run_client(
            python,
            "codecs.py",
            &["consume", client, &address, topic, &count],
        );
        assert!(
            read == sent,
            "{client} read other records of {topic} than were sent"
        );
    }
    let read = server.tool(&[
        "consume",
        topic,
        "--from-beginning",
        "--exit-at-end",
        "--json",
    ]);
    let mut lines: Vec<Value> = read.lines().map(|line| normal(&parse(line))).collect();
    lines.sort_by_key(|record| (record["partition"].as_i64(), record["offset"].as_i64()));
    let expected: Vec<Value> = sent.lines().map(parse).collect();
    assert!(
        lines == expected,
        "alluvium consume read other records of {topic} than were sent"
    );
    if has_kcat() {
        compare_kcat(&address, topic, &expected);
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// The tool's JSON in the clients' form; bytes come as base64 on request of `--json`.
fn normal(record: &Value) -> Value {
    let headers: Vec<Value> = record["headers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|header| json!([header["key"], header["value_base64"]]))
        .collect();
    json!({
        "partition": record["partition"],
        "offset": record["offset"],
        "timestamp": record["timestamp"],
        "key": record["key_base64"],
        "value": record["value_base64"],
        "headers": headers,
    })
}

fn compare_kcat(address: &str, topic: &str, expected: &[Value]) {
    let format = "%p %o %T %K %S %k|%s|%h\\n";
    let read = kcat(&[
        "-b",
        address,
        "-C",
        "-t",
        topic,
        "-o",
        "beginning",
        "-e",
        "-q",
        "-f",
        format,
    ]);
    let mut lines: Vec<(i64, i64, String)> = read
        .lines()
        .map(|line| {
            let mut fields = line.splitn(3, ' ');
            let partition = fields.next().unwrap().parse().unwrap();
            let offset = fields.next().unwrap().parse().unwrap();
            (partition, offset, fields.next().unwrap().to_owned())
        })
        .collect();
    lines.sort();
    let wanted: Vec<(i64, i64, String)> = expected
        .iter()
        .map(|record| {
            let key = decoded(&record["key"]);
            let value = decoded(&record["value"]);
            let length = |text: &Option<String>| {
                text.as_ref()
                    .map_or(-1, |text| i64::try_from(text.len()).unwrap())
            };
            let headers: Vec<String> = record["headers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|header| {
                    format!(
                        "{}={}",
                        header[0].as_str().unwrap(),
                        decoded(&header[1]).unwrap()
                    )
                })
                .collect();
            let rest = format!(
                "{} {} {} {}|{}|{}",
                record["timestamp"],
                length(&key),
                length(&value),
                key.unwrap_or_default(),
                value.unwrap_or_default(),
                headers.join(",")
            );
            (
                record["partition"].as_i64().unwrap(),
                record["offset"].as_i64().unwrap(),
                rest,
            )
        })
        .collect();
    assert_eq!(
        lines, wanted,
        "kcat read other records of {topic} than were sent"
    );
}

/// Base64 as text; the suites' records are printable.
fn decoded(value: &Value) -> Option<String> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = value.as_str()?;
    let mut bytes = Vec::new();
    let mut bits = 0u32;
    let mut held = 0;
    for digit in text.bytes().filter(|digit| *digit != b'=') {
        let six = DIGITS.iter().position(|known| *known == digit).unwrap();
        bits = (bits << 6) | u32::try_from(six).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).unwrap());
        }
    }
    Some(String::from_utf8(bytes).unwrap())
}

/// `alluvium inspect` explains an object of the bucket with no cluster asked.
fn inspect(server: &Server, objects: &str) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_alluvium"));
    command
        .envs(server.options.env.iter().cloned())
        .args(["inspect", objects, "--json"]);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let records: u64 = text
        .lines()
        .map(|line| {
            let object = parse(line);
            assert_eq!(object["damage"], json!([]), "{object}");
            let runs = object["runs"].as_array().unwrap();
            runs.iter()
                .map(|run| run["records"].as_u64().unwrap())
                .sum::<u64>()
        })
        .sum();
    let sent = (RECORDS * CODECS.len()) as u64;
    assert!(
        records >= sent,
        "the objects explain {records} records of {sent}"
    );
}
