//! What is typed, with the one key that is ours: Ctrl-] and then `d` detaches.

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

/// Finds our key among what is typed.
#[derive(Debug, Default)]
pub struct Keys {
    escaped: bool,
}

impl Keys {
    /// Takes what was typed; answers what is for the terminal, and whether to detach. Ctrl-] twice is one Ctrl-] for the
    /// terminal; before any other key it is passed on with it.
    pub fn push(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len());
        for byte in typed {
            match (self.escaped, *byte) {
                (true, b'd' | b'D' | b'.') => return (passed, true),
                (true, ESCAPE) => passed.push(ESCAPE),
                (true, other) => passed.extend([ESCAPE, other]),
                (false, ESCAPE) => {
                    self.escaped = true;
                    continue;
                }
                (false, other) => passed.push(other),
            }
            self.escaped = false;
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_keys_together_detach() {
        let mut keys = Keys::default();
        assert_eq!(keys.push(b"d\x1d"), (b"d".to_vec(), false));
        assert_eq!(keys.push(b"x\x1d\x1dd"), (b"\x1dx\x1dd".to_vec(), false));
        assert_eq!(keys.push(b"a\x1ddb"), (b"a".to_vec(), true));
    }
}
