//! Which known name somebody may have meant.

/// The name that takes the fewest edits, counted without regard to `.`, `_` and `-`. A key may leave
/// out the section `kafka`.
pub(super) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A key may come from anywhere; the table below grows with the square of its length.
    let plainly = |text: &str| text.chars().take(128).map(plain).collect::<Vec<_>>();
    let (text, longer) = (plainly(text), plainly(&format!("kafka.{text}")));
    known.min_by_key(|name| {
        let name = plainly(name);
        edits(&text, &name).min(edits(&longer, &name))
    })
}

fn plain(c: char) -> char {
    if matches!(c, '_' | '-') {
        '.'
    } else {
        c.to_ascii_lowercase()
    }
}

/// Insertions, removals and replacements that turn one into the other.
fn edits(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (b, above) in to.iter().zip(row.iter().skip(1)) {
            let cost = (diagonal + usize::from(a != b))
                .min(above + 1)
                .min(left + 1);
            diagonal = *above;
            left = cost;
            next.push(cost);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_edits_win() {
        let known = ["flush.interval", "settle.interval", "num.partitions"];
        let find = |text| nearest(text, known.into_iter());
        assert_eq!(find("flush.intervall"), Some("flush.interval"));
        assert_eq!(find("settle_interval"), Some("settle.interval"));
        assert_eq!(find("num.partition"), Some("num.partitions"));
        assert_eq!(nearest("x", std::iter::empty()), None);
    }
}
