//! Tables and cards for people: aligned where they fit, wrapped where the terminal is narrow.

use serde_json::Value;

use crate::output::{clean, width};

/// A field of a document as text; nested fields with dots, `-` where there is none.
#[must_use]
pub fn field(document: &Value, path: &str) -> String {
    let mut here = document;
    for part in path.split('.') {
        here = &here[part];
    }
    match here {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean(text),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), clean))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    }
}

/// Rows under titles. Too narrow a terminal gets one block per row instead.
#[must_use]
pub fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut widths: Vec<usize> = titles.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let total: usize = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
    if total > usize::from(width()) && is_terminal() {
        return blocks(titles, rows);
    }
    let mut text = line(titles.iter().copied(), &widths);
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str), &widths));
    }
    text
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let mut text = String::new();
    for (cell, width) in cells.zip(widths) {
        text.push_str(cell);
        text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count().min(*width)));
    }
    let mut text = text.trim_end().to_owned();
    text.push('\n');
    text
}

fn blocks(titles: &[&str], rows: &[Vec<String>]) -> String {
    let pairs = |row: &Vec<String>| {
        let pairs: Vec<(&str, String)> = titles.iter().copied().zip(row.iter().cloned()).collect();
        card(&pairs)
    };
    rows.iter().map(pairs).collect::<Vec<_>>().join("\n")
}

/// Titles and values below each other.
#[must_use]
pub fn card(pairs: &[(&str, String)]) -> String {
    let wide = pairs.iter().map(|(title, _)| title.chars().count()).max().unwrap_or(0);
    pairs.iter().map(|(title, value)| format!("{title:wide$}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let rows = vec![vec!["a".into(), "long value".into()], vec!["bcd".into(), "x".into()]];
        assert_eq!(table(&["ID", "NAME"], &rows), "ID   NAME\na    long value\nbcd  x\n");
    }

    #[test]
    fn fields_are_found_by_path() {
        let document = serde_json::json!({"a": {"b": "x\u{1b}y"}, "n": 3, "l": ["p", "q"]});
        assert_eq!(field(&document, "a.b"), "xy");
        assert_eq!(field(&document, "n"), "3");
        assert_eq!(field(&document, "l"), "p, q");
        assert_eq!(field(&document, "none.at.all"), "-");
    }
}
