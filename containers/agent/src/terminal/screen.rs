//! The model of a terminal: what a viewer sees who looks at it now. It takes the output of programs as it comes and writes
//! itself down for whoever joins later.

use std::panic::{AssertUnwindSafe, catch_unwind};

use avt::{Color, Line, Pen};
use burstflare_ports::wire::terminal::{SCROLLBACK, Size};
use unicode_width::UnicodeWidthChar;

use super::modes::Modes;

/// Bytes of lines above the screen that are written down at most, the newest ones.
const HISTORY: usize = 256 << 10;

/// Brings a terminal to its usual state, whatever it was told before: CAN ends what was unfinished; the first screen, a soft
/// reset (DECSTR) and what that leaves out; the cursors saved on both screens at home.
const CLEAN: &str = "\x18\x1b[?1049l\x1b[!p\x1b[?1;6l\x1b[?7;25h\x1b[4;20l\x1b[r\x1b(B\x1b)B\x0f\x1b[0m\x1b[H\x1b7\
    \x1b[?1047h\x1b[H\x1b7\x1b[?1047l";

/// A terminal's state. At 80 columns it takes about 1.3 MB with a full scrollback, 16 bytes a character.
pub(super) struct Screen {
    terminal: Option<avt::Terminal>,
    modes: Modes,
    /// The beginning of a character whose other bytes are still to come.
    partial: Vec<u8>,
    size: Size,
}

impl Screen {
    /// An empty one.
    pub(super) fn new(size: Size) -> Self {
        Self { terminal: blank(size), modes: Modes::default(), partial: Vec::new(), size }
    }

    /// Its size.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// What the program calls it.
    pub(super) fn title(&self) -> &str {
        self.modes.title()
    }

    /// Takes output. Some sequences are a thousand times as much work as they are long, so callers give little at a time.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let text = self.decode(bytes);
        text.chars().for_each(|next| self.modes.push(next));
        self.guarded(|terminal| {
            if text.is_ascii() {
                terminal.feed(text.as_str());
            } else {
                // Marks that stand on the character before them take no place, which the model would give them.
                let wide = |next: &char| next.is_control() || next.width().is_some_and(|width| width > 0);
                terminal.feed(text.chars().filter(wide).collect::<String>().as_str());
            }
        });
    }

    /// Changes the size; lines are wrapped anew.
    pub(super) fn resize(&mut self, size: Size) {
        self.size = size;
        self.guarded(|terminal| terminal.resize(size.columns.into(), size.rows.into()));
    }

    /// Everything as output that brings a terminal of this size, in whatever state it is, to this one. With up to so many
    /// lines above the screen, which scroll out of it first.
    pub(super) fn replay(&self, scrollback: u16) -> Vec<u8> {
        let mut text = String::from(CLEAN);
        Modes::reset(&mut text);
        text.push_str("\x1b[3g");
        for stop in (9..=self.size.columns).step_by(8) {
            text.push_str(&format!("\x1b[{stop}G\x1bH"));
        }
        text.push_str("\x1b[H\x1b[J");
        if let Some(terminal) = &self.terminal {
            self.history(terminal, scrollback, &mut text);
            self.modes.write(&mut text);
            spell_out(&terminal.dump(), &mut text);
            self.modes.write_unfinished(&mut text);
        }
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.partial);
        bytes
    }

    fn history(&self, terminal: &avt::Terminal, wanted: u16, into: &mut String) {
        let rows = usize::from(self.size.rows);
        let lines: Vec<&Line> = terminal.primary_screen().all_lines().collect();
        let above = lines.get(..lines.len().saturating_sub(rows)).unwrap_or_default();
        let mut written = Vec::new();
        let mut bytes = 0;
        for (place, line) in above.iter().rev().take(wanted.min(SCROLLBACK).into()).enumerate() {
            let text = line_text(line, place == 0);
            bytes += text.len();
            if bytes > HISTORY {
                break;
            }
            written.push(text);
        }
        if written.is_empty() {
            return;
        }
        written.iter().rev().for_each(|line| into.push_str(line));
        // Up and out: as many as bring the last of them above the first row.
        into.push_str(&"\n".repeat(rows.saturating_sub(1)));
        into.push_str("\x1b[H");
    }

    fn decode(&mut self, bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len() + 4);
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(bytes);
        let mut rest = whole.as_slice();
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => error,
            };
            let (valid, after) = rest.split_at(error.valid_up_to());
            text.push_str(std::str::from_utf8(valid).unwrap_or_default());
            let Some(wrong) = error.error_len() else {
                self.partial = after.to_vec();
                return text;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = after.get(wrong..).unwrap_or_default();
        }
    }

    /// A defect in the model costs the picture, not the programs behind it.
    fn guarded(&mut self, act: impl FnOnce(&mut avt::Terminal)) {
        let Some(terminal) = &mut self.terminal else { return };
        if catch_unwind(AssertUnwindSafe(|| act(terminal))).is_err() {
            tracing::error!("the model of a terminal failed; it begins anew with an empty screen");
            self.terminal = blank(self.size);
        }
    }
}

fn blank(size: Size) -> Option<avt::Terminal> {
    avt::Terminal::with_scrollback(size.columns.into(), size.rows.into(), Some(SCROLLBACK.into())).ok()
}

/// The dump as every terminal understands it: with two-character introducers instead of C1 controls, and repeated
/// characters written out.
fn spell_out(dump: &str, into: &mut String) {
    let mut last = ' ';
    let mut rest = dump.chars();
    while let Some(next) = rest.next() {
        if next == '\x1b' && rest.as_str().starts_with('[') {
            let body = rest.as_str().get(1..).unwrap_or_default();
            let digits = body.len() - body.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
            if let (Some('b'), Ok(times)) = (
                body.get(digits..).and_then(|end| end.chars().next()),
                body.get(..digits).unwrap_or_default().parse::<usize>(),
            ) {
                into.extend(std::iter::repeat_n(last, times));
                rest = body.get(digits + 1..).unwrap_or_default().chars();
                continue;
            }
        }
        match next {
            '\u{9b}' => into.push_str("\x1b["),
            '\u{9d}' => into.push_str("\x1b]"),
            '\u{90}' => into.push_str("\x1bP"),
            '\u{98}' => into.push_str("\x1bX"),
            next => {
                into.push(next);
                last = next;
            }
        }
    }
}

/// A line with its colours. `last`: what follows begins a line of its own.
fn line_text(line: &Line, last: bool) -> String {
    let continued = line.is_wrapped() && !last;
    let usual = |cell: &avt::Cell| cell.char() == ' ' && sgr(cell.pen()) == "\x1b[0m";
    let cells = line.cells();
    let end = match continued {
        true => cells.len(),
        false => cells.iter().rposition(|cell| !usual(cell)).map_or(0, |place| place + 1),
    };
    let mut text = String::new();
    let mut pen: Option<&Pen> = None;
    for cell in cells.iter().take(end).filter(|cell| cell.width() > 0) {
        if pen != Some(cell.pen()) {
            text.push_str(&sgr(cell.pen()));
            pen = Some(cell.pen());
        }
        text.push(cell.char());
    }
    if pen.is_some() {
        text.push_str("\x1b[0m");
    }
    if !continued {
        text.push_str("\r\n");
    }
    text
}

fn sgr(pen: &Pen) -> String {
    let mut text = String::from("\x1b[0");
    let attributes = [
        (pen.is_bold(), 1),
        (pen.is_faint(), 2),
        (pen.is_italic(), 3),
        (pen.is_underline(), 4),
        (pen.is_blink(), 5),
        (pen.is_inverse(), 7),
        (pen.is_strikethrough(), 9),
    ];
    for (_, code) in attributes.iter().filter(|(on, _)| *on) {
        text.push_str(&format!(";{code}"));
    }
    for (color, code) in [(pen.foreground(), 38), (pen.background(), 48)] {
        match color {
            Some(Color::Indexed(index)) => text.push_str(&format!(";{code};5;{index}")),
            Some(Color::RGB(rgb)) => text.push_str(&format!(";{code};2;{};{};{}", rgb.r, rgb.g, rgb.b)),
            None => {}
        }
    }
    text.push('m');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: Size = Size { rows: 6, columns: 20 };

    /// Everything that a viewer could see, now or by what comes later.
    fn state(screen: &Screen) -> String {
        let terminal = screen.terminal.as_ref().unwrap();
        let mut modes = String::new();
        screen.modes.write(&mut modes);
        format!("{:?} {:?} {:?} {:?}", terminal.dump(), terminal.cursor(), modes, screen.partial)
    }

    fn history(screen: &Screen) -> Vec<String> {
        let terminal = screen.terminal.as_ref().unwrap();
        terminal.primary_screen().all_lines().map(|line| line.text().trim_end().to_owned()).collect()
    }

    /// A viewer who was shown `screen` before anything else.
    fn joiner(screen: &Screen, dirt: &[u8]) -> Screen {
        let mut joiner = Screen::new(screen.size());
        joiner.feed(dirt);
        joiner.feed(&screen.replay(0));
        joiner
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let sequence = prop_oneof![
            "[A-LPSTXZ@`abdefm]",
            "\\?(1|5|6|7|25|1000|1002|1006|1047|1048|1049|2004|2004;1)[hl]",
            "(4|20)[hl]",
            "[1-9];[1-9][Hr]",
            "[0-9]{1,2}(;[0-9]{1,3}){0,3}[A-LPSTXZ@abdefgm]",
            "(38|48);(5;[0-9]{1,2}|2;1;2;3)m",
            "[0-6] q",
            "!p",
        ];
        prop_oneof![
            4 => "[a-z ]{1,25}".prop_map(String::into_bytes),
            2 => "[é漢字😀─]{1,8}".prop_map(String::into_bytes),
            2 => Just(b"\r\n".to_vec()),
            1 => "[\t\x08\r\n\x0e\x0f]".prop_map(String::into_bytes),
            5 => sequence.prop_map(|rest| format!("\x1b[{rest}").into_bytes()),
            1 => "[78cDEHM=>]|\\(0|\\(B|\\)0|#8".prop_map(|rest| format!("\x1b{rest}").into_bytes()),
            1 => "[02];[a-z]{0,9}".prop_map(|rest| format!("\x1b]{rest}\x07").into_bytes()),
            1 => prop::collection::vec(any::<u8>(), 1..6),
        ]
    }

    fn output() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(piece(), 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Wherever in the output a viewer joins, in the middle of a character or a sequence too, and whatever its terminal
        /// showed before, it sees the same then and ever after.
        #[test]
        fn who_joins_sees_what_the_others_see(output in output(), dirt in output(), at in any::<prop::sample::Index>()) {
            let at = at.index(output.len() + 1);
            let mut screen = Screen::new(SIZE);
            screen.feed(&output[..at]);
            // A title cannot be taken away, so another terminal's would stay.
            let dirt: Vec<u8> = dirt.into_iter().map(|byte| if byte == b']' { b'[' } else { byte }).collect();
            for dirt in [&b""[..], &dirt] {
                let joiner = joiner(&screen, dirt);
                prop_assert_eq!(state(&joiner), state(&screen), "at once");
            }
            let mut joiner = joiner(&screen, b"");
            for byte in &output[at..] {
                screen.feed(&[*byte]);
                joiner.feed(&[*byte]);
            }
            prop_assert_eq!(state(&joiner), state(&screen), "later");
        }

        /// The pieces in which output comes do not matter.
        #[test]
        fn pieces_do_not_matter(output in output(), length in 1..9_usize) {
            let (mut whole, mut pieces) = (Screen::new(SIZE), Screen::new(SIZE));
            whole.feed(&output);
            output.chunks(length).for_each(|piece| pieces.feed(piece));
            prop_assert_eq!(state(&whole), state(&pieces));
        }

        #[test]
        fn sizes_change_at_any_time(output in output(), rows in 1..30_u16, columns in 2..60_u16) {
            let mut screen = Screen::new(SIZE);
            screen.feed(&output);
            screen.resize(Size { rows, columns });
            prop_assert!(screen.terminal.is_some());
            screen.feed(&output);
        }
    }

    #[test]
    fn lines_above_the_screen_come_along() {
        let mut screen = Screen::new(SIZE);
        for number in 0..50 {
            screen.feed(format!("\x1b[3{}mline {number}\x1b[0m\r\n", number % 8).as_bytes());
        }
        screen.feed("a long line that is wrapped at the right edge".as_bytes());
        for wanted in [0, 3, 10, 1000] {
            let mut joiner = Screen::new(SIZE);
            joiner.feed(&screen.replay(wanted));
            let (all, seen) = (history(&screen), history(&joiner));
            let shown = usize::from(wanted).min(all.len() - 6) + 6;
            assert_eq!(seen, all[all.len() - shown..], "{wanted}");
            assert_eq!(state(&joiner), state(&screen));
        }
        assert!(!screen.replay(3).windows(6).any(|bytes| bytes == b"line 9"));
    }

    #[test]
    fn memory_and_what_is_written_down_are_bounded() {
        let mut screen = Screen::new(SIZE);
        for number in 0..20_000 {
            screen.feed(format!("\x1b[38;2;1;2;{}m{}\r\n", number % 256, "x".repeat(20)).as_bytes());
        }
        assert_eq!(history(&screen).len(), usize::from(SCROLLBACK) + 6);
        screen.resize(burstflare_ports::wire::terminal::LARGEST);
        for color in 0..100_000_u32 {
            screen.feed(format!("\x1b[48;5;{}m#", color % 256).as_bytes());
        }
        assert!(screen.replay(SCROLLBACK).len() < 3 << 20, "{}", screen.replay(SCROLLBACK).len());
    }

    #[test]
    fn nothing_in_what_is_written_down_asks_or_is_unusual() {
        let mut screen = Screen::new(SIZE);
        screen.feed("\x1b(0qqq\x1b(B          wide\x1b]0;unfinished".as_bytes());
        let text = String::from_utf8(screen.replay(1000)).unwrap();
        assert!(text.contains("───          wide") && text.ends_with("\x1b]0;unfinished"), "{text:?}");
        assert!(!text.chars().any(|next| ('\u{80}'..'\u{a0}').contains(&next)), "{text:?}");
    }
}
