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
    assert_eq!(config.cache.bytes, Some(ByteSize(1 << 30)));
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
fn a_journal_that_would_hold_hardly_a_chunk_is_refused() {
    let told = |bytes: &str| {
        let text = format!("[flush]\nchunk_bytes = \"16MiB\"\n[journal]\nbytes = \"{bytes}\"");
        let reason = "journal.bytes: is less than eight times flush.chunk_bytes";
        let found = load(&text).err().map(|errors| errors.0).unwrap_or_default();
        found.iter().any(|error| error.to_string().contains(reason))
    };
    assert!(told("127MiB"));
    assert!(!told("128MiB") && !told("0"));
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

/// Three metadata nodes of which this is one.
const METADATA: &str = r#"
    roles = ["metadata"]
    [store]
    url = "s3://bucket"
    [cluster]
    listen = "0.0.0.0:9094"
    advertised = "m1.example.org:9094"
    nodes = ["m1.example.org:9094", "m2.example.org:9094", "m3.example.org:9094"]
    [metadata]
    node_id = 1
"#;

const AGENT: &str = r#"
    roles = ["agent"]
    [store]
    url = "s3://bucket"
    [cluster]
    nodes = ["m1.example.org:9094", "m2.example.org:9094", "m3.example.org:9094"]
"#;

#[test]
fn each_role_alone_is_a_process() {
    let metadata = load(METADATA).unwrap();
    assert!(metadata.config.has(Role::Metadata) && !metadata.config.has(Role::Agent));
    assert!(metadata.config.has_peers() && metadata.warnings.is_empty());
    assert_eq!(metadata.config.metadata.node(), 1);
    assert_eq!(metadata.config.cluster.peers().count(), 2);
    let agent = load(AGENT).unwrap();
    assert!(agent.config.has(Role::Agent) && agent.config.has_peers());
    // A metadata node does not listen for clients: their section is not its matter.
    load(&format!("{METADATA}\n[kafka]\nlisten = \"0.0.0.0:9092\"")).unwrap();
}

#[test]
fn what_a_process_needs_from_the_others_is_asked_for() {
    let without = |text: &str, line: &str| {
        let kept: Vec<&str> = text.lines().filter(|kept| !kept.contains(line)).collect();
        errors(&kept.join("\n"))
    };
    for (text, line, expected) in [
        (
            METADATA,
            "listen =",
            "cluster.listen: is missing: cluster.nodes names",
        ),
        (METADATA, "node_id", "metadata.node_id: is missing"),
        (METADATA, "advertised", "cluster.advertised: is missing"),
        (METADATA, "url", "store.url: is missing"),
        (AGENT, "nodes", "cluster.nodes: is missing"),
        (AGENT, "url", "store.url: is missing"),
    ] {
        let errors = without(text, line);
        assert!(
            errors.iter().any(|error| error.starts_with(expected)),
            "{expected}: {errors:#?}"
        );
    }
    let alone = errors("roles = [\"metadata\"]\n[store]\nurl = \"s3://bucket\"");
    assert!(alone[0].contains("cluster.listen: is missing"), "{alone:?}");
    assert!(errors("roles = []")[0].contains("roles: is empty"));
}

#[test]
fn a_store_that_cannot_be_shared_is_refused_where_it_must_be() {
    for text in [METADATA, AGENT] {
        let with = |url: &str| load(&text.replace("s3://bucket", url));
        let error = with("memory://").unwrap_err().to_string();
        assert!(
            error.contains("store.url: memory:// is this process's own"),
            "{error}"
        );
        let warnings = with("file:///mnt/shared").unwrap().warnings;
        assert!(
            warnings[0].contains("must see this very folder"),
            "{warnings:?}"
        );
    }
    // Alone, each is as good as the other.
    assert!(
        load("[store]\nurl = \"memory://\"")
            .unwrap()
            .warnings
            .is_empty()
    );
}

#[test]
fn addresses_between_processes_are_checked() {
    for (from, to, expected) in [
        (
            "\"m2.example.org:9094\"",
            "\"m2.example.org\"",
            "cluster.nodes: \"m2.example.org\" is no address",
        ),
        (
            "\"m2.example.org:9094\"",
            "\"0.0.0.0:9094\"",
            "cluster.nodes: \"0.0.0.0:9094\" is no address",
        ),
        (
            "\"m2.example.org:9094\"",
            "\"m3.example.org:9094\"",
            "is there twice",
        ),
        (
            "advertised = \"m1.example.org:9094\"",
            "advertised = \"m1.example.org:0\"",
            "cluster.advertised",
        ),
        (
            "listen = \"0.0.0.0:9094\"",
            "listen = \"9094\"",
            "cluster.listen",
        ),
        (
            "node_id = 1",
            "node_id = 0",
            "metadata.node_id: is not between",
        ),
        (
            "node_id = 1",
            "node_id = 1\nheartbeat = \"200ms\"",
            "metadata.election_timeout_min",
        ),
        (
            "node_id = 1",
            "node_id = 1\nelection_timeout_max = \"200ms\"",
            "metadata.election_timeout_max",
        ),
        (
            "node_id = 1",
            "node_id = 1\narchive_interval = \"1ms\"",
            "metadata.archive_interval",
        ),
        (
            "node_id = 1",
            "node_id = 1\n[agent]\nlease = \"1ms\"",
            "agent.lease",
        ),
    ] {
        assert!(METADATA.contains(from), "{from}");
        let errors = errors(&METADATA.replace(from, to));
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{expected}: {errors:#?}"
        );
    }
}

#[test]
fn an_agent_may_be_reached_by_other_agents() {
    let with = |lines: &str| load(&AGENT.replace("[cluster]", &format!("[cluster]\n{lines}")));
    let reached = with("listen = \"0.0.0.0:9095\"\nadvertised = \"a1.example.org:9095\"").unwrap();
    assert!(reached.warnings.is_empty(), "{:?}", reached.warnings);
    assert_eq!(reached.config.cluster.peers().count(), 3);
    let error = |lines| with(lines).unwrap_err().to_string();
    let nowhere = error("listen = \"0.0.0.0:9095\"");
    assert!(
        nowhere.contains("cluster.advertised: is missing"),
        "{nowhere}"
    );
    let itself = error("listen = \"0.0.0.0:9094\"\nadvertised = \"m1.example.org:9094\"");
    assert!(
        itself.contains("cluster.nodes: names this process itself"),
        "{itself}"
    );
    let warned = with("advertised = \"a1.example.org:9095\"")
        .unwrap()
        .warnings;
    assert!(warned[0].contains("without cluster.listen"), "{warned:?}");
}

#[test]
fn tls_is_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, "").unwrap();
    let tls = |lines: &str| METADATA.replace("[metadata]", &format!("{lines}\n[metadata]"));
    let ca = format!("tls_ca = {:?}", ca.display().to_string());
    let errors = errors(&tls(&ca));
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors[0].contains("cluster.tls_certificate: is missing"),
        "{errors:?}"
    );
    assert!(
        errors[1].contains("cluster.tls_key: is missing"),
        "{errors:?}"
    );
    let same = ca.replace("tls_ca", "tls_certificate") + "\n" + &ca.replace("tls_ca", "tls_key");
    let error = load(&tls(&format!("{ca}\n{same}")))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cluster.tls_*") && error.contains("ca.pem"),
        "{error}"
    );
    let all = format!("{ca}\ntls_certificate = \"/nowhere/c.pem\"\ntls_key = \"/nowhere/k.pem\"");
    let errors = load(&tls(&all)).unwrap_err().to_string();
    assert!(errors.contains("/nowhere/c.pem cannot be read"), "{errors}");
    assert!(errors.contains("/nowhere/k.pem cannot be read"), "{errors}");
}

#[test]
fn every_key_is_explained_with_defaults_that_can_be_read_again() {
    let explained = Config::explain();
    let mut keys: Vec<_> = explained.iter().map(|one| one.key).collect();
    let mut all = Config::keys();
    keys.sort_unstable();
    all.sort_unstable();
    assert_eq!(keys, all);
    assert!(explained.iter().all(|one| !one.words.is_empty()));
    let overrides = explained
        .iter()
        .filter(|one| !one.server.is_empty())
        .map(|one| Override {
            key: one.key.to_owned(),
            value: one.server.clone(),
            flag: "--set",
        });
    let sources = Sources {
        overrides: overrides.collect(),
        ..Sources::default()
    };
    let config = Config::load(Mode::Server, &sources).unwrap().config;
    assert_eq!(config, Config::defaults(Mode::Server));
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
