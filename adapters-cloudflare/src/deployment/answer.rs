//! What Cloudflare's REST API answers: one envelope for everything (`success`, `errors`, `result`, `result_info`).

use std::fmt;

use serde_json::Value;

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The result.
    pub result: Value,
    info: Value,
}

/// Why it was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Cloudflare's number of the error, 0 where it gave none.
    pub code: u64,
    /// Its words.
    pub message: String,
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// At this number.
    Number(u64),
    /// Behind this cursor.
    Cursor(String),
}

impl Answer {
    /// Reads an answer. What is no envelope is a refusal that says so.
    ///
    /// # Errors
    /// When the API refuses, or something else than the API answers.
    pub fn read(status: u16, body: &[u8]) -> Result<Self, Refusal> {
        let mut document: Value = serde_json::from_slice(body).unwrap_or_default();
        if (200..300).contains(&status) && document["success"] == true {
            return Ok(Self { result: document["result"].take(), info: document["result_info"].take() });
        }
        let first = &document["errors"][0];
        // Some errors say only in the chain below what they are about.
        let chained = first["error_chain"][0]["message"].as_str();
        let message = match (first["message"].as_str(), chained) {
            (Some(message), Some(chained)) => format!("{message} ({chained})"),
            (Some(message), None) => message.to_owned(),
            (None, _) => "the answer is none of Cloudflare's API".to_owned(),
        };
        Err(Refusal { status, code: first["code"].as_u64().unwrap_or(0), message })
    }

    /// The page behind this one of so many entries, as far as the answer tells: by cursor, by the number of pages or by the
    /// number of entries. An empty page is the last one, whatever the numbers say: some count what a filter left out.
    #[must_use]
    pub fn next(&self, entries: usize) -> Option<Page> {
        if entries == 0 {
            return None;
        }
        if let Some(cursor) = self.info["cursor"].as_str().filter(|cursor| !cursor.is_empty()) {
            return Some(Page::Cursor(cursor.to_owned()));
        }
        let number = |name: &str| self.info[name].as_u64();
        let page = number("page")?;
        let more = match (number("total_pages"), number("total_count"), number("per_page")) {
            (Some(pages), _, _) => page < pages,
            (None, Some(total), Some(each)) => page.saturating_mul(each) < total,
            _ => false,
        };
        more.then_some(Page::Number(page + 1))
    }
}

impl Refusal {
    /// Whether the token is at fault: none that Cloudflare knows, or not any more (1000, 6003, 9109, 10000 with 401).
    #[must_use]
    pub fn is_token(&self) -> bool {
        self.status == 401 || matches!(self.code, 1000 | 6003 | 9106 | 9109)
    }

    /// Whether the token may not do this.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        !self.is_token() && (self.status == 403 || self.code == 10000)
    }

    /// Whether there is no such thing.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.status == 404
    }

    /// Whether it passes by itself: 429 and everything that went wrong over there.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.status == 429 || self.status >= 500
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (HTTP {}", self.message, self.status)?;
        match self.code {
            0 => f.write_str(")"),
            code => write!(f, ", code {code})"),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(info: Value) -> Answer {
        Answer { result: Value::Null, info }
    }

    #[test]
    fn lists_go_on_in_three_ways() {
        let next = |info: Value| answer(info).next(20);
        assert_eq!(next(json!({ "cursor": "abc" })), Some(Page::Cursor("abc".to_owned())));
        assert_eq!(next(json!({ "cursor": "" })), None);
        assert_eq!(next(json!({ "page": 1, "total_pages": 2 })), Some(Page::Number(2)));
        assert_eq!(next(json!({ "page": 2, "total_pages": 2 })), None);
        assert_eq!(next(json!({ "page": 1, "per_page": 20, "total_count": 21 })), Some(Page::Number(2)));
        assert_eq!(next(json!({ "page": 2, "per_page": 20, "total_count": 40 })), None);
        assert_eq!(next(Value::Null), None);
        // D1 counts all databases, also where a name is asked for.
        assert_eq!(answer(json!({ "page": 1, "per_page": 20, "total_count": 90 })).next(0), None);
    }

    #[test]
    fn refusals_are_told_apart() {
        let refusal = |status, code, message: &str| {
            let body =
                json!({ "success": false, "errors": [{ "code": code, "message": message }], "result": null });
            Answer::read(status, body.to_string().as_bytes()).unwrap_err()
        };
        assert!(refusal(401, 1000, "Invalid API Token").is_token());
        assert!(refusal(403, 9109, "Invalid access token").is_token());
        let forbidden = refusal(403, 10000, "Authentication error");
        assert!(forbidden.is_forbidden() && !forbidden.is_token());
        assert!(refusal(404, 10007, "This Worker does not exist on your account.").is_absent());
        assert!(refusal(429, 971, "slow down").is_passing());
        let foreign = Answer::read(502, b"<html>").unwrap_err();
        assert!(foreign.is_passing() && foreign.message.contains("none of Cloudflare's"));
        // A success that does not say so is none.
        assert!(Answer::read(200, b"{}").is_err());
    }
}
