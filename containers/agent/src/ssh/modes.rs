//! Terminal modes of a pty request (RFC 4254 section 8) put into a terminal.

use std::os::fd::AsFd;

use russh::Pty;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex as Code, Termios,
};

/// Applies what the client asked for; what this system does not know is left out.
pub(super) fn apply(terminal: impl AsFd, modes: &[(Pty, u32)]) -> std::io::Result<()> {
    let mut termios = rustix::termios::tcgetattr(&terminal)?;
    // The session speaks UTF-8 whether or not the client says so.
    termios.input_modes.insert(InputModes::IUTF8);
    for (mode, value) in modes {
        set(&mut termios, *mode, *value);
    }
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &termios)?;
    Ok(())
}

fn set(termios: &mut Termios, mode: Pty, value: u32) {
    if let Some(code) = code(mode) {
        // 255 stands for "none", which is 0 here.
        termios.special_codes[code] = u8::try_from(value).ok().filter(|value| *value != 255).unwrap_or(0);
        return;
    }
    let on = value != 0;
    if let Some(flag) = input(mode) {
        termios.input_modes.set(flag, on);
    } else if let Some(flag) = local(mode) {
        termios.local_modes.set(flag, on);
    } else if let Some(flag) = output(mode) {
        termios.output_modes.set(flag, on);
    } else if let Some(flag) = control(mode).filter(|_| on || !matches!(mode, Pty::CS7 | Pty::CS8)) {
        if matches!(mode, Pty::CS7 | Pty::CS8) {
            termios.control_modes.remove(ControlModes::CSIZE);
        }
        termios.control_modes.set(flag, on);
    }
}

fn code(mode: Pty) -> Option<Code> {
    Some(match mode {
        Pty::VINTR => Code::VINTR,
        Pty::VQUIT => Code::VQUIT,
        Pty::VERASE => Code::VERASE,
        Pty::VKILL => Code::VKILL,
        Pty::VEOF => Code::VEOF,
        Pty::VEOL => Code::VEOL,
        Pty::VEOL2 => Code::VEOL2,
        Pty::VSTART => Code::VSTART,
        Pty::VSTOP => Code::VSTOP,
        Pty::VSUSP => Code::VSUSP,
        Pty::VREPRINT => Code::VREPRINT,
        Pty::VWERASE => Code::VWERASE,
        Pty::VLNEXT => Code::VLNEXT,
        Pty::VDISCARD => Code::VDISCARD,
        _ => return None,
    })
}

fn input(mode: Pty) -> Option<InputModes> {
    Some(match mode {
        Pty::IGNPAR => InputModes::IGNPAR,
        Pty::PARMRK => InputModes::PARMRK,
        Pty::INPCK => InputModes::INPCK,
        Pty::ISTRIP => InputModes::ISTRIP,
        Pty::INLCR => InputModes::INLCR,
        Pty::IGNCR => InputModes::IGNCR,
        Pty::ICRNL => InputModes::ICRNL,
        Pty::IXON => InputModes::IXON,
        Pty::IXANY => InputModes::IXANY,
        Pty::IXOFF => InputModes::IXOFF,
        Pty::IMAXBEL => InputModes::IMAXBEL,
        Pty::IUTF8 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local(mode: Pty) -> Option<LocalModes> {
    Some(match mode {
        Pty::ISIG => LocalModes::ISIG,
        Pty::ICANON => LocalModes::ICANON,
        Pty::ECHO => LocalModes::ECHO,
        Pty::ECHOE => LocalModes::ECHOE,
        Pty::ECHOK => LocalModes::ECHOK,
        Pty::ECHONL => LocalModes::ECHONL,
        Pty::NOFLSH => LocalModes::NOFLSH,
        Pty::TOSTOP => LocalModes::TOSTOP,
        Pty::IEXTEN => LocalModes::IEXTEN,
        Pty::ECHOCTL => LocalModes::ECHOCTL,
        Pty::ECHOKE => LocalModes::ECHOKE,
        Pty::PENDIN => LocalModes::PENDIN,
        _ => return None,
    })
}

fn output(mode: Pty) -> Option<OutputModes> {
    Some(match mode {
        Pty::OPOST => OutputModes::OPOST,
        Pty::ONLCR => OutputModes::ONLCR,
        Pty::OCRNL => OutputModes::OCRNL,
        Pty::ONOCR => OutputModes::ONOCR,
        Pty::ONLRET => OutputModes::ONLRET,
        _ => return None,
    })
}

fn control(mode: Pty) -> Option<ControlModes> {
    Some(match mode {
        Pty::CS7 => ControlModes::CS7,
        Pty::CS8 => ControlModes::CS8,
        Pty::PARENB => ControlModes::PARENB,
        Pty::PARODD => ControlModes::PARODD,
        _ => return None,
    })
}
