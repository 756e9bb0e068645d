//! docs/configuration.md is kept in step with the tables.

use std::fmt::Write;

use crate::topics::{
    CLIENT_METRICS_CONFIGS, Definition, GROUP_CONFIGS, Stance, TOPIC_CONFIGS, broker_configs,
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");

fn table(definitions: impl Iterator<Item = &'static Definition>) -> String {
    let mut rows: Vec<&Definition> = definitions.collect();
    rows.sort_by_key(|definition| definition.name);
    let mut text =
        "| name | type | default | what it does |\n| --- | --- | --- | --- |\n".to_owned();
    for definition in rows {
        let default = match definition.default {
            None => "null".to_owned(),
            Some("") => "(empty)".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        let mut words = definition.describe();
        if matches!(definition.stance, Stance::Honoured) && definition.dynamic {
            words.push_str(" Can be changed while running.");
        }
        writeln!(
            text,
            "| `{}` | {} | {default} | {words} |",
            definition.name,
            definition.kind.name().to_lowercase()
        )
        .unwrap();
    }
    text
}

/// Puts a table between its marks; `None` when the page has none.
fn replace(page: &str, mark: &str, table: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- {mark}: begin -->\n"),
        format!("<!-- {mark}: end -->"),
    );
    let from = page.find(&begin)? + begin.len();
    let to = from + page[from..].find(&end)?;
    Some(format!("{}{table}{}", &page[..from], &page[to..]))
}

#[test]
fn the_page_lists_every_setting_as_it_is() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let honoured = |definition: &&Definition| matches!(definition.stance, Stance::Honoured);
    let refused = |definition: &&Definition| matches!(definition.stance, Stance::Refused(_));
    let tables = [
        ("topic settings", table(TOPIC_CONFIGS.iter())),
        ("group settings", table(GROUP_CONFIGS.iter())),
        (
            "client metrics settings",
            table(CLIENT_METRICS_CONFIGS.iter()),
        ),
        ("broker settings", table(broker_configs().filter(honoured))),
        ("refused settings", table(broker_configs().filter(refused))),
        (
            "other settings",
            table(broker_configs().filter(|one| !honoured(one) && !refused(one))),
        ),
    ];
    let mut expected = page.clone();
    for (mark, table) in tables {
        expected = replace(&expected, mark, &table).unwrap_or_else(|| panic!("no mark: {mark}"));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &expected).unwrap();
        return;
    }
    assert!(
        page == expected,
        "docs/configuration.md is out of step; run UPDATE_DOCS=1 cargo test -p alluvium-agent documentation"
    );
}
