//! The shape of the project, as tests: sizes of files, arrows between crates, licences.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const FILE_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in ["crates", "tests", "benches"] {
        sources(&root().join(dir), &mut found);
    }
    found
}

#[test]
fn files_hold_one_idea() {
    let long: Vec<String> = all_sources()
        .iter()
        .map(|path| (path, fs::read_to_string(path).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES)
        .map(|(path, lines)| format!("{}: {lines}", path.display()))
        .collect();
    assert!(long.is_empty(), "more than {FILE_LINES} lines: {long:#?}");
}

#[test]
fn names_say_what_is_inside() {
    for path in all_sources() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            ![
                "util", "utils", "helper", "helpers", "misc", "common", "manager"
            ]
            .contains(&name),
            "{}",
            path.display()
        );
    }
}

/// Which of our crates may name which.
#[test]
fn arrows_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("types", &[][..]),
        ("protocol", &["types"]),
        ("objects", &["types"]),
        ("metadata", &["types"]),
        ("storage", &["types"]),
        ("transport", &["types"]),
        (
            "cluster",
            &[
                "types",
                "protocol",
                "objects",
                "metadata",
                "storage",
                "transport",
            ],
        ),
        (
            "compaction",
            &[
                "types", "protocol", "objects", "metadata", "storage", "cluster",
            ],
        ),
        (
            "agent",
            &[
                "types",
                "protocol",
                "objects",
                "metadata",
                "storage",
                "transport",
                "cluster",
                "compaction",
            ],
        ),
        (
            "server",
            &[
                "types",
                "protocol",
                "metadata",
                "storage",
                "transport",
                "cluster",
                "compaction",
                "agent",
            ],
        ),
        ("client", &["types", "protocol"]),
        ("checker", &["types"]),
        (
            "simulation",
            &[
                "types",
                "protocol",
                "metadata",
                "storage",
                "transport",
                "cluster",
                "compaction",
                "agent",
                "checker",
            ],
        ),
    ]);
    for (name, may) in allowed {
        for found in dependencies(name) {
            let Some(ours) = found.strip_prefix("alluvium-") else {
                continue;
            };
            assert!(may.contains(&ours), "{name} depends on {ours}");
        }
    }
}

/// Crates without I/O stay that way.
#[test]
fn pure_crates_name_no_runtime() {
    for name in ["types", "protocol", "objects", "metadata"] {
        for found in dependencies(name) {
            assert!(
                !["tokio", "object_store", "openraft", "foyer", "tracing"]
                    .contains(&found.as_str()),
                "{name} depends on {found}"
            );
        }
    }
}

/// What a simulation must be able to repeat goes through its seams.
#[test]
fn chance_order_and_threads_go_through_their_seams() {
    let forbidden = [
        ("rand::random", "alluvium_types::random"),
        ("rand::rng()", "alluvium_types::random"),
        ("spawn_blocking(", "alluvium_storage::blocking"),
        ("tokio::sync::watch", "alluvium_storage::watch"),
        ("tokio::sync::{watch", "alluvium_storage::watch"),
    ];
    let seams = ["blocking.rs", "watch.rs", "runtime.rs"];
    for path in all_sources() {
        let relative = path.strip_prefix(root()).unwrap().to_str().unwrap();
        let simulated = ["metadata", "objects", "storage", "cluster", "agent"]
            .iter()
            .any(|name| relative.starts_with(&format!("crates/{name}/src")));
        if !simulated || relative.contains("test") || seams.iter().any(|s| relative.ends_with(s)) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
        for (name, seam) in forbidden {
            assert!(!text.contains(name), "{relative} names {name}; use {seam}");
        }
        for select in text.split("tokio::select! {").skip(1) {
            assert!(
                select.trim_start().starts_with("biased;"),
                "{relative}: a select without `biased;` begins by chance"
            );
        }
    }
}

/// Each big library is named in one place.
#[test]
fn big_libraries_are_named_in_one_place() {
    let places = [
        ("openraft::", "crates/cluster/src/raft"),
        ("foyer::", "crates/storage/src/cache"),
        ("object_store::", "crates/storage/src/bucket"),
        ("aws_sdk_s3::", "crates/storage/src/bucket"),
        ("axum::", "crates/server/src/http"),
        ("kafka_wire::", "crates/protocol/src"),
        ("hyper::", "crates/transport/src"),
        ("rustls::", "crates/transport/src"),
    ];
    for path in all_sources() {
        let relative = path
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        if !relative.starts_with("crates/") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (library, place) in places {
            // A log filter names modules too, in a string.
            let is_filter = relative.ends_with("server/src/logging.rs");
            assert!(
                !text.contains(library) || relative.starts_with(place) || is_filter,
                "{relative} names {library}, which belongs in {place}"
            );
        }
    }
}

fn dependencies(name: &str) -> Vec<String> {
    let manifest = root().join("crates").join(name).join("Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
    manifest["dependencies"]
        .as_table()
        .unwrap()
        .keys()
        .cloned()
        .collect()
}

/// Licences that may be linked into the binary, as SPDX identifiers.
const LICENCES: [&str; 16] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Alternatives need one allowed licence; as soon as something is joined by AND, every name counts.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    let mut names = expression
        .split(" OR ")
        .flat_map(|part| part.split(" AND "))
        .map(str::trim);
    let known = |name: &str| LICENCES.contains(&name);
    if expression.contains(" AND ") {
        names.all(known)
    } else {
        names.any(known)
    }
}

#[test]
fn every_dependency_has_a_licence_that_allows_this_use() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let refused: Vec<String> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| !package["source"].is_null())
        .filter(|package| !package["license"].as_str().is_some_and(is_allowed))
        .map(|package| {
            format!(
                "{} {}: {}",
                package["name"], package["version"], package["license"]
            )
        })
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}
