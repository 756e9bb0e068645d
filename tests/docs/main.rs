//! The documentation says what the code does: the table of API keys, links, commands, paths.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what cannot be read fails the test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use alluvium_protocol::api::{KNOWN, SERVED, served};
use alluvium_server::config::Config;

const TABLE_BEGIN: &str = "<!-- api keys: begin -->\n";
const TABLE_END: &str = "<!-- api keys: end -->";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The project's files: those that are tracked, or all of them where this is no clone.
fn files() -> Vec<PathBuf> {
    let tracked = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output()
        .ok()
        .filter(|output| output.status.success() && !output.stdout.is_empty());
    let mut found = Vec::new();
    match tracked {
        Some(output) => {
            let names = String::from_utf8(output.stdout).unwrap();
            let names = names.split_terminator('\0');
            found.extend(
                names
                    .map(|name| root().join(name))
                    .filter(|path| path.is_file()),
            );
        }
        None => walk(root(), &mut found),
    }
    found.sort();
    found
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            found.push(path);
        } else if !path.ends_with("target") && !path.ends_with("alluvium-data") {
            walk(&path, found);
        }
    }
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Every page with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).unwrap());
    files().into_iter().filter(is_page).map(read).collect()
}

/// The lines of a page outside its code blocks, and those inside with the block's language.
fn parted(text: &str) -> (Vec<&str>, Vec<(&str, &str)>) {
    let (mut prose, mut code) = (Vec::new(), Vec::new());
    let mut block: Option<&str> = None;
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = if block.is_some() {
                None
            } else {
                Some(language.trim())
            };
        } else if let Some(language) = block {
            code.push((language, line));
        } else {
            prose.push(line);
        }
    }
    assert!(block.is_none(), "a code block is not closed");
    (prose, code)
}

fn versions(min: i16, max: i16) -> String {
    if min == max {
        min.to_string()
    } else {
        format!("{min}–{max}")
    }
}

/// The table of docs/compatibility.md.
fn table() -> String {
    let mut text = format!(
        "\n{} of {} request APIs are served.\n\n",
        SERVED.len(),
        KNOWN.len()
    );
    text.push_str("| key | API | versions served |\n| ---: | --- | --- |\n");
    for (key, name) in KNOWN {
        let cell = match served(*key) {
            None => "unsupported".to_owned(),
            Some(api) if api.advertised_min() == api.min => versions(api.min, api.max),
            Some(api) => format!(
                "{} (advertised from {})",
                versions(api.min, api.max),
                api.advertised_min()
            ),
        };
        text.push_str(&format!("| {key} | {name} | {cell} |\n"));
    }
    text.push('\n');
    text
}

/// `UPDATE_DOCS=1 cargo test --test docs` writes the table anew.
#[test]
fn the_table_of_api_keys_is_what_is_served() {
    let path = root().join("docs/compatibility.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text
        .split_once(TABLE_BEGIN)
        .expect("the marker before the table");
    let (found, after) = rest
        .split_once(TABLE_END)
        .expect("the marker after the table");
    if found == table() {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_DOCS").is_some(),
        "docs/compatibility.md is out of date; run UPDATE_DOCS=1 cargo test --test docs"
    );
    fs::write(
        &path,
        format!("{before}{TABLE_BEGIN}{}{TABLE_END}{after}", table()),
    )
    .unwrap();
}

/// The tables of our own settings in docs/configuration.md, one per section.
fn settings() -> String {
    let shown = |value: &str| match value {
        "" => "unset".to_owned(),
        value => format!("`{value}`"),
    };
    let mut text = String::new();
    let mut section = None;
    for one in Config::explain() {
        let (name, _) = one.key.split_once('.').unwrap_or(("", one.key));
        if section != Some(name) {
            let heading = match name {
                "" => "Outside any section".to_owned(),
                name => format!("`[{name}]`"),
            };
            text.push_str(&format!(
                "\n### {heading}\n\n| key | default | what it says |\n| --- | --- | --- |\n"
            ));
            section = Some(name);
        }
        let default = if one.dev == one.server {
            shown(&one.dev)
        } else {
            format!("{}; `dev`: {}", shown(&one.server), shown(&one.dev))
        };
        text.push_str(&format!("| `{}` | {default} | {} |\n", one.key, one.words));
    }
    text.push('\n');
    text
}

/// `UPDATE_DOCS=1 cargo test --test docs` writes the tables anew.
#[test]
fn the_tables_of_our_settings_are_what_the_code_says() {
    const BEGIN: &str = "<!-- our settings: begin -->\n";
    const END: &str = "<!-- our settings: end -->";
    let path = root().join("docs/configuration.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("the marker before the tables");
    let (found, after) = rest.split_once(END).expect("the marker after the tables");
    if found == settings() {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_DOCS").is_some(),
        "docs/configuration.md is out of date; run UPDATE_DOCS=1 cargo test --test docs"
    );
    fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", settings())).unwrap();
}

#[test]
fn the_example_configurations_are_valid() {
    for entry in fs::read_dir(root().join("docs/examples")).unwrap() {
        let path = entry.unwrap().path();
        let output = Command::new(env!("CARGO_BIN_EXE_alluvium"))
            .args(["server", "--check", "--config"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {error}", shown(&path));
        assert!(!said.contains("warning"), "{}: {said}", shown(&path));
    }
}

/// What `](…)` points at.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// A heading's anchor, as the usual renderers make it.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(page: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(page).unwrap();
    parted(&text)
        .0
        .iter()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line))
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for (page, text) in pages() {
        for target in parted(&text).0.iter().flat_map(|line| links(line)) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, place) = target.split_once('#').unwrap_or((target, ""));
            let aim = if file.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(file)
            };
            let is_page = aim.extension().is_some_and(|extension| extension == "md");
            let found =
                aim.exists() && (place.is_empty() || !is_page || anchors(&aim).contains(place));
            if !found {
                broken.push(format!("{}: {target}", shown(&page)));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}

/// The command lines of a page's shell blocks, continued lines joined.
fn command_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut joined = String::new();
    for (_, line) in parted(text)
        .1
        .iter()
        .filter(|(language, _)| *language == "sh")
    {
        match line.strip_suffix('\\') {
            Some(part) => joined.push_str(part),
            None => {
                joined.push_str(line);
                lines.push(std::mem::take(&mut joined));
            }
        }
    }
    lines
}

/// The arguments of every `alluvium` in a command line, its comment left out.
fn invocations(line: &str) -> Vec<Vec<String>> {
    let line = line.split(" # ").next().unwrap_or_default();
    line.split(['|', ';', '&'])
        .filter_map(|part| {
            let words: Vec<&str> = part
                .split_whitespace()
                .skip_while(|word| word.contains('='))
                .collect();
            let arguments = match words.as_slice() {
                ["alluvium", arguments @ ..] => arguments,
                ["cargo", "run", "--release", "--", arguments @ ..] => arguments,
                _ => return None,
            };
            Some(arguments.iter().map(ToString::to_string).collect())
        })
        .collect()
}

fn help(commands: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_alluvium"))
        .args(commands)
        .arg("--help")
        .output()
        .unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What is wrong with an invocation of our own tool.
fn unknown_to_the_tool(arguments: &[String]) -> Vec<String> {
    let commands: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .take_while(|word| {
            word.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        })
        .take_while(|word| !word.starts_with('-'))
        .take(match arguments.first().map(String::as_str) {
            Some("topic" | "group" | "cluster") => 2,
            _ => 1,
        })
        .collect();
    let Some(help) = help(&commands) else {
        return vec![format!("there is no command {commands:?}")];
    };
    let flags = arguments.iter().filter(|word| word.starts_with("--"));
    flags
        .map(|flag| flag.split('=').next().unwrap_or_default())
        .filter(|flag| !help.contains(flag))
        .map(|flag| format!("{commands:?} has no {flag}"))
        .collect()
}

#[test]
fn commands_that_are_told_exist() {
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        for line in command_lines(&text) {
            for arguments in invocations(&line) {
                let unknown = unknown_to_the_tool(&arguments);
                wrong.extend(
                    unknown
                        .iter()
                        .map(|what| format!("{}: {what}", shown(&page))),
                );
            }
            let first = line
                .split_whitespace()
                .find(|word| !word.contains('='))
                .unwrap_or_default();
            let is_script = first.starts_with("tests/") || first.starts_with(".ci/");
            if is_script && !is_executable(&root().join(first)) {
                wrong.push(format!("{}: {first} cannot be run", shown(&page)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o111 != 0)
}

#[test]
fn the_readme_begins_with_the_two_commands() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let lines = command_lines(&text);
    let begin = |command: &str| lines.iter().any(|line| line.starts_with(command));
    assert!(begin("cargo run --release -- dev"), "how to start it");
    assert!(begin("tests/run"), "how to test it");
}

#[test]
fn every_setting_of_ours_is_told() {
    let told = ["README.md", "docs/configuration.md"]
        .map(|page| fs::read_to_string(root().join(page)).unwrap())
        .concat();
    let is_missing = |key: &&str| !told.contains(&format!("`{key}`"));
    let missing: Vec<&str> = Config::keys().into_iter().filter(is_missing).collect();
    assert!(
        missing.is_empty(),
        "settings that no page names: {missing:?}"
    );
}

/// Whether an absolute path of somebody's machine begins at `at`: not the end of a relative one.
fn stands_alone(text: &str, at: usize) -> bool {
    text[..at]
        .chars()
        .next_back()
        .is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | ')' | '*')))
}

#[test]
fn no_page_or_source_names_a_path_of_one_machine() {
    let folders = ["work", "root", "home"].map(|name| format!("/{name}/"));
    let mut found = Vec::new();
    for path in files() {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for folder in &folders {
            let hits = text.match_indices(folder.as_str());
            for (at, _) in hits.filter(|(at, _)| stands_alone(&text, *at)) {
                let line = 1 + text[..at].matches('\n').count();
                found.push(format!("{}:{line}: {folder}", shown(&path)));
            }
        }
    }
    assert!(found.is_empty(), "absolute paths: {found:#?}");
}

/// Double-quoted strings of a stretch of text.
fn quoted(text: &str) -> BTreeSet<&str> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with(['#', '/']));
    code.flat_map(|line| line.split('"').skip(1).step_by(2))
        .collect()
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    text.split_once(begin)
        .and_then(|(_, rest)| rest.split_once(end))
        .expect(begin)
        .0
}

#[test]
fn both_lists_of_licences_are_the_same() {
    let deny = fs::read_to_string(root().join("deny.toml")).unwrap();
    let tidy = fs::read_to_string(root().join("tests/tidy/main.rs")).unwrap();
    let one = quoted(between(&deny, "\nallow = [", "\n]"));
    let other = quoted(between(&tidy, "const LICENCES", "];"));
    assert_eq!(one, other, "deny.toml and tests/tidy/main.rs");
    assert!(one.contains("Apache-2.0"));
}
