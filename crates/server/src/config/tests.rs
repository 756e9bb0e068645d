use std::time::Duration;

use super::*;

fn file(text: &str) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alluvium.toml");
    std::fs::write(&path, text).unwrap();
    (
        dir,
        Sources {
            file: Some(path),
            ..Sources::default()
        },
    )
}

fn load(text: &str) -> Result<Loaded, ConfigErrors> {
    let (_dir, sources) = file(text);
    Config::load(Mode::Server, &sources)
}

fn errors(text: &str) -> Vec<String> {
    load(text)
        .unwrap_err()
        .0
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn every_section_is_read() {
    let config = load(
        r#"
        roles = ["agent", "metadata"]
        data_dir = "/tmp/somewhere"

        [store]
        url = "s3://bucket/prefix"
        [kafka]
        listen = "0.0.0.0:9092"
        advertised_host = "kafka.example.org"
        "num.partitions" = 3
        "auto.create.topics.enable" = false
        [http]
        listen = "off"
        [flush]
        interval = "100ms"
        chunk_bytes = "4MiB"
        concurrent_puts = 2
        [settle]
        interval = "1m"
        [cache]
        bytes = "1GiB"
        [memory]
        requests = "64MiB"
        [metadata]
        snapshot_log_bytes = "2MiB"
        [agent]
        zone = "eu-1a"
        identity = "000102030405060708090a0b0c0d0e0f"
        [log]
        format = "text"
        level = "debug"
        "#,
    )
    .unwrap()
    .config;
    assert_eq!(config.store.url.as_deref(), Some("s3://bucket/prefix"));
    assert_eq!(config.store_url().unwrap(), "s3://bucket/prefix");
    assert_eq!(
        config.kafka.advertised_host.as_deref(),
        Some("kafka.example.org")
    );
    assert_eq!(config.broker["num.partitions"], "3");
    assert_eq!(config.broker["auto.create.topics.enable"], "false");
    assert_eq!(config.flush.interval, Duration::from_millis(100));
    assert_eq!(config.flush.chunk_bytes, ByteSize(4 << 20));
    assert_eq!(config.flush.concurrent_puts.get(), 2);
    assert_eq!(config.settle.interval, Duration::from_secs(60));
    assert_eq!(config.cache.bytes, ByteSize(1 << 30));
    assert_eq!(
        config.agent.identity,
        Some(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f)
    );
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    for (text, nearest) in [
        ("[flush]\nintervall = \"1s\"", "flush.interval"),
        ("[flsh]\ninterval = \"1s\"", "flush.interval"),
        ("datadir = \"x\"", "data_dir"),
        ("[kafka]\nlistn = \"x\"", "kafka.listen"),
        ("[kafka]\n\"num.partition\" = 3", "num.partitions"),
        ("[log]\nformt = \"json\"", "log.format"),
    ] {
        let errors = errors(text);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("unknown key"), "{errors:?}");
        assert!(
            errors[0].contains(&format!("did you mean {nearest}?")),
            "{errors:?}"
        );
        assert!(
            errors[0].contains("alluvium.toml"),
            "says where: {errors:?}"
        );
    }
}

#[test]
fn unknown_keys_may_be_let_pass() {
    let loaded = load("unknown_keys = \"warn\"\n[flush]\nintervall = \"1s\"").unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].contains("flush.intervall"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn every_error_is_told_at_once() {
    let errors = errors(
        r#"
        roles = ["agent", "broker"]
        [flush]
        interval = "soon"
        chunk_bytes = "1KiB"
        [kafka]
        listen = "0.0.0.0:9092"
        "num.partitions" = 0
        [log]
        format = "xml"
        [what]
        is = "this"
        "#,
    );
    for expected in [
        "roles: \"broker\" is no role",
        "flush.interval: \"soon\"",
        "flush.chunk_bytes: is not between 64KiB and 64MiB",
        "kafka.advertised_host: is missing",
        "num.partitions",
        "log.format: \"xml\"",
        "what.is: unknown key",
    ] {
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{expected}: {errors:#?}"
        );
    }
}

#[test]
fn later_layers_win() {
    let (_dir, mut sources) = file("[flush]\ninterval = \"1s\"\n[kafka]\n\"num.partitions\" = 2");
    let flush = |sources: &Sources| {
        let config = Config::load(Mode::Server, sources).unwrap().config;
        (
            config.flush.interval.as_millis(),
            config.broker["num.partitions"].clone(),
        )
    };
    assert_eq!(flush(&sources), (1000, "2".to_owned()));
    sources.env = vec![
        ("ALLUVIUM_FLUSH__INTERVAL".to_owned(), "2s".to_owned()),
        ("ALLUVIUM_KAFKA__NUM_PARTITIONS".to_owned(), "4".to_owned()),
        ("PATH".to_owned(), "/bin".to_owned()),
        (
            "ALLUVIUM_TEST_INNER".to_owned(),
            "somebody else's".to_owned(),
        ),
    ];
    assert_eq!(flush(&sources), (2000, "4".to_owned()));
    sources.overrides = vec![
        Override::parse("flush.interval=3s").unwrap(),
        Override::parse("num.partitions=5").unwrap(),
        Override::parse("flush.interval=4s").unwrap(),
    ];
    assert_eq!(flush(&sources), (4000, "5".to_owned()));
    sources
        .overrides
        .push(Override::parse("kafka.num.partitions=6").unwrap());
    assert_eq!(flush(&sources), (4000, "6".to_owned()));
}

#[test]
fn variables_with_a_typo_are_told() {
    let load = |name: &str| {
        let env = vec![(name.to_owned(), "x".to_owned())];
        Config::load(
            Mode::Dev,
            &Sources {
                env,
                ..Sources::default()
            },
        )
    };
    for name in ["ALLUVIUM_FLUSH__INTERVALL", "ALLUVIUM_DATADIR"] {
        let error = load(name).unwrap_err().to_string();
        assert!(
            error.contains("did you mean") && error.contains(name),
            "{error}"
        );
    }
    load("ALLUVIUM_HOME").unwrap();
}

#[test]
fn broken_files_and_overrides_are_named() {
    let missing = Sources {
        file: Some("/nowhere/alluvium.toml".into()),
        ..Sources::default()
    };
    let error = Config::load(Mode::Server, &missing)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nowhere/alluvium.toml") && error.contains("cannot be read"),
        "{error}"
    );
    let error = errors("[flush\ninterval = 1").join("\n");
    assert!(
        error.contains("alluvium.toml") && error.contains("line 1"),
        "{error}"
    );
    assert!(Override::parse("no equals sign").is_err());
    assert!(Override::parse("=x").is_err());
}

#[test]
fn one_role_alone_is_refused_for_now() {
    let errors = errors("roles = [\"metadata\"]");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].contains("both roles in one process"),
        "{errors:?}"
    );
}

#[test]
fn defaults_are_valid_in_both_modes() {
    for mode in [Mode::Dev, Mode::Server] {
        let loaded = Config::load(mode, &Sources::default()).unwrap();
        assert_eq!(loaded.config, Config::defaults(mode));
    }
    let url = Config::defaults(Mode::Dev).store_url().unwrap();
    assert!(
        url.starts_with("file:///") && url.ends_with("/alluvium-data/objects"),
        "{url}"
    );
}
