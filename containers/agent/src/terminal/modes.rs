//! What a terminal was told beside its picture: which keys and mouse events it reports and how, the cursor's shape, the
//! title. The model of the screen leaves these out, and a viewer who joins later needs them.

/// Private modes that are on or off by themselves: reverse video, blinking cursor, focus reports, wheel as
/// arrows, bracketed paste.
const SWITCHES: [u16; 5] = [5, 12, 1004, 1007, 2004];
/// At most one of them: what the mouse reports.
const MOUSE: [u16; 4] = [9, 1000, 1002, 1003];
/// At most one of them: how it is written.
const ENCODING: [u16; 4] = [1005, 1006, 1015, 1016];
/// Bytes of a control sequence that are looked at; longer ones are none of ours.
const SEQUENCE: usize = 256;
/// Bytes of a title.
const TITLE: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// Behind an escape with an intermediate: one more character.
    EscapeRest,
    Control,
    Command,
    /// A string that is none of ours, up to its end.
    Text,
}

/// The modes, and the sequence that is being read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Modes {
    state: State,
    text: String,
    overlong: bool,
    switches: u8,
    mouse: Option<u16>,
    encoding: Option<u16>,
    keypad: bool,
    cursor: u8,
    /// Once it has one; nothing takes it away again.
    title: Option<String>,
}

impl Modes {
    /// What the program calls the terminal.
    pub(super) fn title(&self) -> &str {
        self.title.as_deref().unwrap_or_default()
    }

    /// Takes the next character of the output.
    pub(super) fn push(&mut self, next: char) {
        match (self.state, next) {
            (State::Ground, ' '..='\u{7f}') => {}
            (_, '\u{18}' | '\u{1a}') => self.state = State::Ground,
            (State::Command, '\x07' | '\u{9c}' | '\x1b') => {
                self.command();
                self.state = if next == '\x1b' { State::Escape } else { State::Ground };
            }
            (_, '\x1b') => self.state = State::Escape,
            (_, '\u{9b}') => self.begin(State::Control),
            (_, '\u{9d}') => self.begin(State::Command),
            (_, '\u{90}' | '\u{98}' | '\u{9e}' | '\u{9f}') => self.state = State::Text,
            (_, '\u{9c}') => self.state = State::Ground,
            (State::Escape, _) => self.escape(next),
            (State::EscapeRest, '0'..='\u{7e}') => self.state = State::Ground,
            (State::Control, '\x40'..='\x7e') => {
                self.control(next);
                self.state = State::Ground;
            }
            (State::Control, ' '..='?') => self.collect(next, SEQUENCE),
            (State::Command, _) if next >= ' ' => self.collect(next, TITLE + 8),
            _ => {}
        }
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.text.clear();
        self.overlong = false;
    }

    fn collect(&mut self, next: char, limit: usize) {
        if self.text.len() + next.len_utf8() <= limit {
            self.text.push(next);
        } else {
            self.overlong = true;
        }
    }

    fn escape(&mut self, next: char) {
        self.state = State::Ground;
        match next {
            '[' => self.begin(State::Control),
            ']' => self.begin(State::Command),
            'P' | 'X' | '^' | '_' => self.state = State::Text,
            ' '..='/' => {
                self.begin(State::EscapeRest);
                self.text.push(next);
            }
            '=' => self.keypad = true,
            '>' => self.keypad = false,
            'c' => *self = Self { title: self.title.take(), ..Self::default() },
            _ => {}
        }
    }

    fn control(&mut self, last: char) {
        if self.overlong {
            return;
        }
        let text = std::mem::take(&mut self.text);
        match (text.strip_prefix('?'), last) {
            (Some(modes), 'h' | 'l') => {
                for mode in modes.split(';').filter_map(|mode| mode.parse().ok()) {
                    self.set(mode, last == 'h');
                }
            }
            (None, 'q') if text.ends_with(' ') => {
                self.cursor = text.trim_end().parse().ok().filter(|style| *style <= 6).unwrap_or_default();
            }
            (None, 'p') if text == "!" => self.keypad = false,
            _ => {}
        }
        self.text = text;
    }

    fn set(&mut self, mode: u16, on: bool) {
        if let Some(place) = SWITCHES.iter().position(|known| *known == mode) {
            let bit = 1 << place;
            self.switches = if on { self.switches | bit } else { self.switches & !bit };
        } else if MOUSE.contains(&mode) {
            self.mouse = on.then_some(mode);
        } else if ENCODING.contains(&mode) {
            self.encoding = on.then_some(mode);
        } else if mode == 66 {
            self.keypad = on;
        }
    }

    /// Writes the beginning of a sequence whose end is still to come, if that is known.
    pub(super) fn write_unfinished(&self, into: &mut String) {
        let introducer = match self.state {
            State::Ground => return,
            State::Escape | State::EscapeRest => "",
            State::Control => "[",
            State::Command => "]",
            // Nothing in it is shown, and half a command must not be carried out: any string will do.
            State::Text => "X",
        };
        match (self.overlong, self.state) {
            (true, State::Control) => {}
            (true, State::Command) => into.push_str("\x18\x1bX"),
            _ => {
                into.push_str("\x18\x1b");
                into.push_str(introducer);
                if !matches!(self.state, State::Escape | State::Text) {
                    into.push_str(&self.text);
                }
            }
        }
    }

    fn command(&mut self) {
        let Some((number, text)) = self.text.split_once(';') else { return };
        if matches!(number, "0" | "2") {
            let end = text.floor_char_boundary(TITLE);
            self.title = Some(text.get(..end).unwrap_or_default().to_owned());
        }
    }

    /// Writes everything that is usual, so that what follows is all there is.
    pub(super) fn reset(into: &mut String) {
        for mode in SWITCHES.iter().filter(|mode| **mode != 12).chain(&MOUSE).chain(&ENCODING) {
            into.push_str(&format!("\x1b[?{mode}l"));
        }
        into.push_str("\x1b>\x1b[0 q");
    }

    /// Writes what differs from the usual.
    pub(super) fn write(&self, into: &mut String) {
        let switches = SWITCHES.iter().enumerate().filter(|(place, _)| self.switches & (1 << place) != 0);
        for mode in switches.map(|(_, mode)| mode).chain(&self.mouse).chain(&self.encoding) {
            into.push_str(&format!("\x1b[?{mode}h"));
        }
        if self.keypad {
            into.push_str("\x1b=");
        }
        if self.cursor != 0 {
            into.push_str(&format!("\x1b[{} q", self.cursor));
        }
        if let Some(title) = &self.title {
            into.push_str(&format!("\x1b]2;{title}\x1b\\"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> Modes {
        let mut modes = Modes::default();
        text.chars().for_each(|next| modes.push(next));
        modes
    }

    fn written(modes: &Modes) -> String {
        let mut text = String::new();
        modes.write(&mut text);
        text
    }

    #[test]
    fn what_is_set_is_written_and_comes_to_the_same() {
        let modes =
            after("\x1b[?2004;1h\x1b[?1000h\x1b[?1002;1006h\x1b=\x1b[4 q\x1b]0;a title\x07x\x1b[?1004h");
        let text = written(&modes);
        assert_eq!(text, "\x1b[?1004h\x1b[?2004h\x1b[?1002h\x1b[?1006h\x1b=\x1b[4 q\x1b]2;a title\x1b\\");
        assert_eq!(written(&after(&text)), text);
        assert_eq!(written(&after("\x1b[?2004h\x1b=\x1bc")), "");
        let mut reset = text;
        Modes::reset(&mut reset);
        assert_eq!(written(&after(&reset)), "\x1b]2;a title\x1b\\");
    }

    #[test]
    fn other_strings_are_none_of_its_business() {
        for text in ["\x1bP?2004h\x1b\\", "\x1b]52;c;\x1b[?2004", "\x1b[?2004\x18h", "\x1b[>4;2m", "\x1b(=x"]
        {
            assert_eq!(written(&after(text)), "", "{text:?}");
        }
        assert_eq!(after(&format!("\x1b]2;{}\x07", "é".repeat(1000))).title().len(), TITLE);
        assert_eq!(written(&after(&format!("\x1b[?{}2004h", "1;".repeat(1000)))), "");
    }
}
