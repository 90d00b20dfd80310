//! Signals by their names in RFC 4254 (section 6.10) and by their numbers here.

use russh::Sig;
use rustix::process::Signal;

use crate::reaper::signal_name;

/// What a client asked to send; `None` for names that mean nothing here.
pub(super) fn wanted(signal: &Sig) -> Option<Signal> {
    Some(match signal {
        Sig::ABRT => Signal::ABORT,
        Sig::ALRM => Signal::ALARM,
        Sig::FPE => Signal::FPE,
        Sig::HUP => Signal::HUP,
        Sig::ILL => Signal::ILL,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::PIPE => Signal::PIPE,
        Sig::QUIT => Signal::QUIT,
        Sig::SEGV => Signal::SEGV,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        Sig::Custom(name) => match name.strip_prefix("SIG").unwrap_or(name) {
            "USR2" => Signal::USR2,
            // OpenSSH's own: the client's Ctrl-T on the BSDs. Nothing here listens to it.
            _ => return None,
        },
    })
}

/// What ended a program, for `exit-signal`.
pub(super) fn ended_by(signal: i32) -> Sig {
    match signal_name(signal) {
        "ABRT" => Sig::ABRT,
        "ALRM" => Sig::ALRM,
        "FPE" => Sig::FPE,
        "HUP" => Sig::HUP,
        "ILL" => Sig::ILL,
        "INT" => Sig::INT,
        "KILL" => Sig::KILL,
        "PIPE" => Sig::PIPE,
        "QUIT" => Sig::QUIT,
        "SEGV" => Sig::SEGV,
        "TERM" => Sig::TERM,
        "USR1" => Sig::USR1,
        // RFC 4254 section 6.10: local names carry a domain.
        other => Sig::Custom(format!("{other}@burstflare")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_sent_comes_back_by_the_same_name() {
        for sig in [Sig::ABRT, Sig::HUP, Sig::INT, Sig::KILL, Sig::TERM, Sig::USR1, Sig::SEGV] {
            let signal = wanted(&sig).expect("a signal");
            assert_eq!(format!("{:?}", ended_by(signal.as_raw())), format!("{sig:?}"));
        }
        assert_eq!(wanted(&Sig::Custom("USR2".into())), Some(Signal::USR2));
        assert_eq!(wanted(&Sig::Custom("INFO@openssh.com".into())), None);
        assert!(matches!(ended_by(libc::SIGBUS), Sig::Custom(name) if name == "BUS@burstflare"));
    }
}
