//! Reading values out of a TOML document with a sentence for everything that is not as it should be.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{ManifestError, Problem};
use super::near::nearest;

/// Collects problems on the way through a document.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    text: &'t str,
    problems: Vec<Problem>,
}

/// A table and the path to it.
#[derive(Debug)]
pub(super) struct Table<'d, 'i> {
    path: String,
    table: &'d DeTable<'i>,
}

/// A value, the path to it and where it stands.
#[derive(Debug)]
pub(super) struct Entry<'d, 'i> {
    path: String,
    span: Range<usize>,
    value: &'d DeValue<'i>,
}

impl<'d, 'i> Table<'d, 'i> {
    pub(super) fn root(table: &'d DeTable<'i>) -> Self {
        Self { path: String::new(), table }
    }

    /// The value of a key. Its place is the key's: a value may begin lines later.
    pub(super) fn get(&self, key: &str) -> Option<Entry<'d, 'i>> {
        let (key, value) = self.table.get_key_value(key)?;
        Some(self.entry(key, value))
    }

    /// All keys with their values.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'d str, Entry<'d, 'i>)> {
        self.table.iter().map(|(key, value)| (key.get_ref().as_ref(), self.entry(key, value)))
    }

    fn entry(
        &self,
        key: &Spanned<std::borrow::Cow<'i, str>>,
        value: &'d Spanned<DeValue<'i>>,
    ) -> Entry<'d, 'i> {
        let name = shown_key(key.get_ref());
        let path = if self.path.is_empty() { name } else { format!("{}.{name}", self.path) };
        Entry { path, span: key.span(), value: value.get_ref() }
    }
}

impl<'d, 'i> Entry<'d, 'i> {
    /// The value itself, for what the [`Reader`] has no method for.
    pub(super) fn value(&self) -> &'d DeValue<'i> {
        self.value
    }
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, problems: Vec::new() }
    }

    pub(super) fn finish(self) -> Result<(), ManifestError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ManifestError::new(self.problems)) }
    }

    /// Notes what is wrong with an entry; the sentence reads on from its key.
    pub(super) fn problem(&mut self, entry: &Entry<'_, '_>, sentence: String) {
        let line = line_of(self.text, entry.span.start);
        self.problems.push(Problem { line: Some(line), key: Some(entry.path.clone()), sentence });
    }

    /// Every key that is not among `known` is a problem; `proposed` are the ones to propose instead.
    pub(super) fn only_keys(&mut self, table: &Table<'_, '_>, known: &[&str], proposed: &[&str]) {
        for (key, entry) in table.entries().filter(|(key, _)| !known.contains(key)) {
            let place = if table.path.is_empty() { "flare.toml" } else { table.path.as_str() };
            let sentence = match nearest(key, proposed) {
                Some(meant) => format!("is not a key of {place}; did you mean `{meant}`?"),
                None => format!("is not a key of {place}; there are {}", listed(proposed)),
            };
            self.problem(&entry, sentence);
        }
    }

    fn wrong_type(&mut self, entry: &Entry<'_, '_>, wanted: &str) {
        let found = match entry.value.type_str() {
            "string" => "a text".to_owned(),
            "integer" => "an integer".to_owned(),
            "array" => "a list".to_owned(),
            "datetime" => "a date".to_owned(),
            other => format!("a {other}"),
        };
        self.problem(entry, format!("has to be {wanted}, not {found}"));
    }

    /// A text without NUL: none of what a manifest says can hold one.
    pub(super) fn text<'d>(&mut self, entry: &Entry<'d, '_>) -> Option<&'d str> {
        self.text_like(entry, "a text in quotes")
    }

    /// As [`Self::text`]; `wanted` says what kind of text, with an example.
    pub(super) fn text_like<'d>(&mut self, entry: &Entry<'d, '_>, wanted: &str) -> Option<&'d str> {
        let Some(text) = entry.value.as_str() else {
            self.wrong_type(entry, wanted);
            return None;
        };
        if text.contains('\0') {
            self.problem(entry, "holds a NUL character".to_owned());
            return None;
        }
        Some(text)
    }

    /// An integer.
    pub(super) fn integer(&mut self, entry: &Entry<'_, '_>) -> Option<i64> {
        let Some(number) = entry.value.as_integer() else {
            self.wrong_type(entry, "an integer");
            return None;
        };
        let parsed = i64::from_str_radix(number.as_str(), number.radix()).ok();
        if parsed.is_none() {
            self.problem(entry, "is too large a number".to_owned());
        }
        parsed
    }

    /// A number with or without a fraction, finite.
    pub(super) fn number(&mut self, entry: &Entry<'_, '_>) -> Option<f64> {
        let number = match entry.value {
            // Integers beyond 2^53 lose digits here and are out of every bound anyway.
            DeValue::Integer(_) => return self.integer(entry).map(|number| number as f64),
            DeValue::Float(number) => number.as_str().parse::<f64>().ok().filter(|number| number.is_finite()),
            _ => {
                self.wrong_type(entry, "a number");
                return None;
            }
        };
        if number.is_none() {
            self.problem(entry, "is not a finite number".to_owned());
        }
        number
    }

    /// The values of a list, at most so many.
    pub(super) fn list<'d, 'i>(
        &mut self,
        entry: &Entry<'d, 'i>,
        wanted: &str,
        most: usize,
    ) -> Vec<Entry<'d, 'i>> {
        let Some(list) = entry.value.as_array() else {
            self.wrong_type(entry, wanted);
            return Vec::new();
        };
        if list.len() > most {
            self.problem(entry, format!("has {} entries; at most {most} are accepted", list.len()));
            return Vec::new();
        }
        items(&entry.path, list)
    }

    /// A table.
    pub(super) fn table<'d, 'i>(&mut self, entry: &Entry<'d, 'i>, wanted: &str) -> Option<Table<'d, 'i>> {
        let Some(table) = entry.value.as_table() else {
            self.wrong_type(entry, wanted);
            return None;
        };
        Some(Table { path: entry.path.clone(), table })
    }
}

fn items<'d, 'i>(path: &str, list: &'d DeArray<'i>) -> Vec<Entry<'d, 'i>> {
    let entry = |(at, value): (usize, &'d Spanned<DeValue<'i>>)| Entry {
        path: format!("{path}[{at}]"),
        span: value.span(),
        value: value.get_ref(),
    };
    list.iter().enumerate().map(entry).collect()
}

/// A mistake of syntax as a problem.
pub(super) fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let at = error.span().map_or(text.len(), |span| span.start);
    Problem::at_line(line_of(text, at), error.message().to_owned())
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// A key as it may stand in a message: quoted where TOML would quote it, and not endless.
fn shown_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.len() <= 128 && key.chars().all(bare) {
        return key.to_owned();
    }
    let short: String = key.chars().take(64).collect();
    format!("{short:?}")
}

/// `a, b and c`, each in backticks.
fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => quoted.concat(),
    }
}
