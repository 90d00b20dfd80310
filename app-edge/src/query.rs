//! Query strings: every parameter is taken by name, and what nobody took is an error.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::problem::{Answer, Refusal};

/// The parameters of a request.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: BTreeMap<String, String>,
}

impl Query {
    fn parse(text: &str) -> Answer<Self> {
        let mut pairs = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let name: String = name.into_owned();
            if pairs.insert(name.clone(), value.into_owned()).is_some() {
                return Err(Refusal::invalid(name, "the parameter is given more than once"));
            }
        }
        Ok(Self { pairs })
    }

    /// Parses, as for a request.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn probe(text: &str) -> Answer<Self> {
        Self::parse(text)
    }

    /// The parameters of an address.
    pub(crate) fn of(uri: &axum::http::Uri) -> Answer<Self> {
        Self::parse(uri.query().unwrap_or_default())
    }

    /// Takes a parameter; one that is there without a value is an error.
    pub(crate) fn text(&mut self, name: &str) -> Answer<Option<String>> {
        match self.pairs.remove(name) {
            Some(value) if value.is_empty() => Err(Refusal::invalid(name, format!("{name} is empty"))),
            value => Ok(value),
        }
    }

    /// Takes a parameter that is a number.
    pub(crate) fn number<N: FromStr>(&mut self, name: &str) -> Answer<Option<N>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Refusal::invalid(name, format!("{name} is not a number of the allowed size")))
    }

    /// Takes a parameter that is true or false; false where it is not given.
    pub(crate) fn flag(&mut self, name: &str) -> Answer<bool> {
        match self.text(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::invalid(name, format!("{name} is true or false"))),
        }
    }

    /// Refuses what was not taken.
    pub(crate) fn finish(mut self) -> Answer<()> {
        match self.pairs.pop_first() {
            Some((name, _)) => {
                let shown: String = name.chars().take(64).collect();
                Err(Refusal::invalid(shown, "this route has no such parameter"))
            }
            None => Ok(()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Answer<Self> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_guessed() {
        let mut query = Query::parse("limit=7&cursor=a%20b").expect("well formed");
        assert_eq!(query.number::<usize>("limit").expect("a number"), Some(7));
        assert_eq!(query.text("cursor").expect("a text").as_deref(), Some("a b"));
        assert!(query.finish().is_ok());
        assert!(Query::parse("a=1&a=2").is_err());
        assert!(Query::parse("limit=x").and_then(|mut query| query.number::<usize>("limit")).is_err());
        assert!(Query::parse("limit=-1").and_then(|mut query| query.number::<usize>("limit")).is_err());
        assert!(Query::parse("other=1").and_then(Query::finish).is_err());
    }
}
