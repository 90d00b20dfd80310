//! Cuts a stream of bytes into text and what is not text, never through a character.

/// A part of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Binary(Vec<u8>),
}

/// Holds back an unfinished character (at most three bytes) until the rest of it comes.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    carry: Vec<u8>,
}

impl Splitter {
    /// Takes the next bytes. From the first byte that is no text on, they are one binary piece.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut all = std::mem::take(&mut self.carry);
        all.extend_from_slice(bytes);
        let (valid, unfinished) = match std::str::from_utf8(&all) {
            Ok(text) => (text.len(), true),
            Err(error) => (error.valid_up_to(), error.error_len().is_none()),
        };
        let rest = all.split_off(valid);
        let mut pieces = Vec::new();
        if let Some(text) = String::from_utf8(all).ok().filter(|text| !text.is_empty()) {
            pieces.push(Piece::Text(text));
        }
        if unfinished {
            self.carry = rest;
        } else {
            pieces.push(Piece::Binary(rest));
        }
        pieces
    }

    /// What is left when the stream ends.
    pub(super) fn finish(&mut self) -> Option<Piece> {
        let rest = std::mem::take(&mut self.carry);
        (!rest.is_empty()).then_some(Piece::Binary(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.into())
    }

    #[test]
    fn characters_are_never_cut() {
        let mut splitter = Splitter::default();
        let crab = "🦀".as_bytes();
        assert_eq!(splitter.push(&[b"a", &crab[..1]].concat()), [text("a")]);
        assert_eq!(splitter.push(&crab[1..3]), []);
        assert_eq!(splitter.push(&[&crab[3..], b"b"].concat()), [text("🦀b")]);
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn what_is_no_text_is_binary_and_the_order_stays() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.push(b"ok\xff\xfex"), [text("ok"), Piece::Binary(b"\xff\xfex".to_vec())]);
        assert_eq!(splitter.push(b"\xe2\x82"), []);
        assert_eq!(splitter.push(b"z"), [Piece::Binary(b"\xe2\x82z".to_vec())]);
        assert_eq!(splitter.push(b"\xf0\x9f"), []);
        assert_eq!(splitter.finish(), Some(Piece::Binary(b"\xf0\x9f".to_vec())));
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let mut splitter = Splitter::default();
            let mut pieces: Vec<Piece> = chunks.iter().flat_map(|chunk| splitter.push(chunk)).collect();
            pieces.extend(splitter.finish());
            let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| match piece {
                Piece::Text(text) => text.into_bytes(),
                Piece::Binary(bytes) => bytes,
            }).collect();
            prop_assert_eq!(bytes, chunks.concat());
        }
    }
}
