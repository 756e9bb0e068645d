//! Books and prices to a bill.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::prices::Prices;

const GIB: f64 = 1_073_741_824.0;

/// The kinds of requests, as books name them.
const KINDS: [&str; 6] = ["put", "put_parts", "get", "head", "list", "delete"];

/// What several processes asked of the store, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Books {
    processes: u64,
    /// The time of the one that has run longest.
    seconds: u64,
    produced: u64,
    fetched: u64,
    causes: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Books {
    /// Adds what a process tells. What it does not tell counts as nothing.
    pub(super) fn add(&mut self, told: &Value) {
        let number = |name: &str| told[name].as_u64().unwrap_or(0);
        self.processes += 1;
        self.seconds = self.seconds.max(number("seconds"));
        self.produced += number("produced_bytes");
        self.fetched += number("fetched_bytes");
        for (cause, requests) in told["causes"].as_object().into_iter().flatten() {
            let sums = self.causes.entry(cause.clone()).or_default();
            for (kind, count) in requests.as_object().into_iter().flatten() {
                *sums.entry(kind.clone()).or_default() += count.as_u64().unwrap_or(0);
            }
        }
    }
}

/// What one cause costs.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    cause: String,
    counts: BTreeMap<String, u64>,
    money: f64,
}

/// What everything costs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bill {
    books: Books,
    currency: String,
    lines: Vec<Line>,
    money: f64,
}

// Exact enough for money: counts are far below 2^52.
#[allow(clippy::cast_precision_loss)]
fn float(count: u64) -> f64 {
    count as f64
}

/// How much of something there is per GiB of bytes; `None` where there are no bytes.
fn per_gib(amount: f64, bytes: u64) -> Option<f64> {
    (bytes > 0).then(|| amount / (float(bytes) / GIB))
}

impl Line {
    fn of(cause: &str, counts: &BTreeMap<String, u64>, prices: &Prices) -> Self {
        let count = |kind: &str| float(counts.get(kind).copied().unwrap_or(0));
        let requests = [
            ("put", prices.put),
            ("put_parts", prices.put),
            ("get", prices.get),
            ("head", prices.head),
            ("list", prices.list),
            ("delete", prices.delete),
        ];
        let requests: f64 = requests
            .iter()
            .map(|(kind, price)| count(kind) / 1000.0 * price)
            .sum();
        let written = count("bytes_written") / GIB * prices.written;
        let read = count("bytes_read") / GIB * prices.read;
        Self {
            cause: cause.to_owned(),
            counts: counts.clone(),
            money: requests + written + read,
        }
    }

    fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    fn requests(&self) -> u64 {
        KINDS.iter().map(|kind| self.count(kind)).sum()
    }
}

impl Bill {
    pub(super) fn of(books: &Books, prices: &Prices) -> Self {
        let lines = books.causes.iter();
        let lines: Vec<Line> = lines
            .map(|(cause, counts)| Line::of(cause, counts, prices))
            .collect();
        Self {
            money: lines.iter().map(|line| line.money).sum(),
            currency: prices.currency.clone(),
            books: books.clone(),
            lines,
        }
    }

    /// Causes that asked for anything, in columns, for a person.
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let titles = [
            "cause", "PUT", "parts", "GET", "HEAD", "LIST", "DELETE", "failed", "written", "read",
        ];
        let money = self.currency.as_str();
        let titles = titles.into_iter().chain([money, "per GiB produced"]);
        let mut rows = vec![titles.map(str::to_owned).collect()];
        let shown = self.lines.iter().filter(|line| line.requests() > 0);
        rows.extend(shown.map(|line| {
            let mut row = vec![line.cause.clone()];
            row.extend(KINDS.iter().map(|kind| line.count(kind).to_string()));
            row.push(line.count("failed").to_string());
            row.push(bytes(line.count("bytes_written")));
            row.push(bytes(line.count("bytes_read")));
            row.push(format!("{:.6}", line.money));
            row.push(amount(per_gib(line.money, self.books.produced)));
            row
        }));
        rows
    }

    /// The whole, for a person.
    pub(super) fn summary(&self) -> Vec<String> {
        let Books {
            processes,
            seconds,
            produced,
            fetched,
            ..
        } = &self.books;
        let requests: u64 = self.lines.iter().map(Line::requests).sum();
        let currency = &self.currency;
        let produced_gib = per_gib(self.money, *produced);
        let fetched_gib = per_gib(self.money, *fetched);
        vec![
            String::new(),
            format!(
                "{processes} processes, up to {seconds} s: {requests} requests, {:.6} {currency}",
                self.money
            ),
            format!(
                "clients produced {}: {} requests and {} {currency} per GiB",
                bytes(*produced),
                amount(per_gib(float(requests), *produced)),
                amount(produced_gib)
            ),
            format!(
                "clients fetched {}: {} requests and {} {currency} per GiB",
                bytes(*fetched),
                amount(per_gib(float(requests), *fetched)),
                amount(fetched_gib)
            ),
        ]
    }

    /// Everything, for a script.
    pub(super) fn json(&self) -> Value {
        let Books {
            processes,
            seconds,
            produced,
            fetched,
            ..
        } = &self.books;
        let lines = self.lines.iter().map(|line| {
            let told = json!({
                "counts": line.counts,
                "requests": line.requests(),
                "money": line.money,
                "money_per_gib_produced": per_gib(line.money, *produced),
                "money_per_gib_fetched": per_gib(line.money, *fetched),
                "requests_per_gib_produced": per_gib(float(line.requests()), *produced),
                "requests_per_gib_fetched": per_gib(float(line.requests()), *fetched),
            });
            (line.cause.clone(), told)
        });
        json!({
            "processes": processes,
            "seconds": seconds,
            "produced_bytes": produced,
            "fetched_bytes": fetched,
            "currency": self.currency,
            "money": self.money,
            "money_per_gib_produced": per_gib(self.money, *produced),
            "money_per_gib_fetched": per_gib(self.money, *fetched),
            "causes": lines.collect::<Map<String, Value>>(),
        })
    }
}

/// Bytes as people read them.
fn bytes(count: u64) -> String {
    const UNITS: [(&str, f64); 3] = [("GiB", GIB), ("MiB", 1_048_576.0), ("KiB", 1024.0)];
    let unit = UNITS.iter().find(|(_, size)| float(count) >= *size);
    unit.map_or_else(
        || format!("{count} B"),
        |(unit, size)| format!("{:.1} {unit}", float(count) / size),
    )
}

fn amount(number: Option<f64>) -> String {
    match number {
        None => "-".to_owned(),
        Some(number) if number >= 100.0 => format!("{number:.0}"),
        Some(number) => format!("{number:.6}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        let told = json!({
            "seconds": 60, "produced_bytes": 2_u64 << 30, "fetched_bytes": 1_u64 << 30,
            "causes": {
                "flush": {"put": 1000, "bytes_written": 1_u64 << 30},
                "settle": {"put": 10, "put_parts": 90},
                "cache_miss": {"get": 5000, "bytes_read": 1_u64 << 30},
                "sweep": {"delete": 7, "list": "garbage"},
                "other": {},
            }
        });
        let mut books = Books::default();
        books.add(&told);
        books.add(&json!({"seconds": 30, "causes": {"flush": {"put": 1000}}}));
        books.add(&json!("garbage"));
        books
    }

    #[test]
    fn a_bill_is_counts_times_prices_by_cause_and_per_gib() {
        let told = Bill::of(&books(), &Prices::default()).json();
        let near = |value: &Value, wanted: f64| {
            let found = value.as_f64().unwrap();
            assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
        };
        near(&told["causes"]["flush"]["money"], 0.01);
        near(&told["causes"]["settle"]["money"], 0.0005);
        near(&told["causes"]["cache_miss"]["money"], 0.002);
        near(&told["causes"]["sweep"]["money"], 0.0);
        near(&told["money"], 0.0125);
        near(&told["money_per_gib_produced"], 0.00625);
        near(&told["money_per_gib_fetched"], 0.0125);
        near(
            &told["causes"]["flush"]["requests_per_gib_produced"],
            1000.0,
        );
        assert_eq!(told["seconds"], 60);
        assert_eq!(told["processes"], 3);
    }

    #[test]
    fn a_person_sees_what_was_asked_for_only() {
        let bill = Bill::of(&books(), &Prices::default());
        let causes: Vec<String> = bill.rows().iter().map(|row| row[0].clone()).collect();
        assert_eq!(causes, ["cause", "cache_miss", "flush", "settle", "sweep"]);
        let text = bill.summary().join("\n");
        assert!(text.contains("clients produced 2.0 GiB"), "{text}");
        assert!(text.contains("0.012500 USD"), "{text}");
        let nothing = Bill::of(&Books::default(), &Prices::default());
        assert!(nothing.summary().join("\n").contains("- USD per GiB"));
    }
}
