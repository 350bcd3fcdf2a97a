//! Aligned columns, and numbers for eyes.

/// Rows whose columns are aligned. One that is empty is shown as `-`, so that programs can count
/// them.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(head: &[&str; N]) -> Self {
        Self {
            rows: vec![head.map(str::to_owned)],
        }
    }

    pub(super) fn row(&mut self, cells: [String; N]) {
        let filled = |cell: String| match cell.is_empty() {
            true => "-".to_owned(),
            false => cell,
        };
        self.rows.push(cells.map(filled));
    }

    /// Empty without rows.
    pub(super) fn text(&self) -> String {
        if self.rows.len() == 1 {
            return String::new();
        }
        let widths: Vec<usize> = (0..N)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| width(cell)).max().unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, wanted) in row.iter().zip(&widths) {
                line.push_str(cell);
                let gap = wanted + 2 - width(cell);
                line.extend(std::iter::repeat_n(' ', gap));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// `1.5 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        value /= 1024.0;
        unit = Some(next);
    }
    let unit = unit.unwrap_or(&"B");
    match *unit == "B" {
        true => format!("{bytes} B"),
        false => format!("{value:.1} {unit}"),
    }
}

/// The two largest parts of a time: `2h 3m`.
pub(super) fn time(seconds: u64) -> String {
    const PARTS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let Some(first) = PARTS.iter().position(|(length, _)| seconds >= *length) else {
        return "0s".to_owned();
    };
    let mut left = seconds;
    let parts = PARTS.iter().skip(first).take(2).map(|(length, name)| {
        let part = format!("{}{name}", left / length);
        left %= length;
        part
    });
    parts.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_never_empty() {
        let mut table = Table::new(&["A", "LONG", "C"]);
        assert_eq!(table.text(), "");
        table.row(["1".into(), String::new(), "ü".into()]);
        table.row(["100".into(), "x".into(), String::new()]);
        assert_eq!(table.text(), "A    LONG  C\n1    -     ü\n100  x     -\n");
    }

    #[test]
    fn numbers_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m 1s"),
            (7380, "2h 3m"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(time(seconds), text);
        }
    }
}
