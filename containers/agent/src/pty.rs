//! Real terminals: a pair from /dev/ptmx, opened by handle, and its master end for async use.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;

/// What one read of a terminal takes at most; the kernel hands out about 4 KiB at a time.
const BATCH: usize = 32 << 10;
/// Room for keystrokes and their answers; who has more to say gets the whole of [`BATCH`].
const KEYS: usize = 512;

/// Our end of a terminal.
pub(crate) struct Master(AsyncFd<OwnedFd>);

/// A terminal before a process has it.
pub(crate) struct Pair {
    /// Our end.
    pub(crate) master: Master,
    /// The process's end.
    pub(crate) slave: OwnedFd,
    /// Its path, for SSH_TTY.
    pub(crate) name: String,
}

/// Opens a terminal of this size.
pub(crate) fn open(size: Winsize) -> io::Result<Pair> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    // By handle: no path that somebody could replace in between.
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?.to_string_lossy().into_owned();
    rustix::termios::tcsetwinsize(&master, size)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    // SAFETY: the descriptor is owned by what is registered, which never gives it away or closes it before.
    let master = unsafe { AsyncFd::register(master) }.map_err(io::Error::from)?;
    Ok(Pair { master: Master(master), slave, name })
}

impl Master {
    /// Changes the size; the foreground process group is told by the kernel.
    pub(crate) fn resize(&self, size: Winsize) -> io::Result<()> {
        Ok(rustix::termios::tcsetwinsize(self.0.get_ref(), size)?)
    }

    /// Takes what is there, waiting for the first byte only: a flood comes in large pieces, a keystroke at once.
    /// `None` when nobody holds the other end any more.
    pub(crate) async fn read(&self) -> Option<BytesMut> {
        let mut batch = BytesMut::zeroed(KEYS);
        loop {
            let mut ready = self.0.readable().await.ok()?;
            let mut filled = 0;
            loop {
                if filled == batch.len() && filled < BATCH {
                    batch.resize(BATCH, 0);
                }
                let Some(room) = batch.get_mut(filled..).filter(|room| !room.is_empty()) else { break };
                match rustix::io::read(self.0.get_ref().as_fd(), room) {
                    Ok(length) if length > 0 => filled += length,
                    Err(Errno::INTR) => {}
                    // Said here, it is not asked for again before there is more.
                    Err(Errno::AGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    // What came before the end is delivered first; the next read meets the end again.
                    _ if filled > 0 => break,
                    // EIO is how Linux says that the last holder has closed.
                    _ => return None,
                }
            }
            if filled > 0 {
                batch.truncate(filled);
                return Some(batch);
            }
        }
    }

    /// Writes everything, waiting while the terminal takes no more; an error when nobody is there to take it.
    pub(crate) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match rustix::io::write(self.0.get_ref().as_fd(), bytes) {
                Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // Nobody holds the other end and what was written before fills it: that it could be written to is
                // said for ever, and would be tried for ever.
                Err(Errno::AGAIN) if ready.ready().is_write_closed() => {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_writer_ends_when_the_program_goes_without_having_read() {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let Pair { master, slave, .. } = open(size).expect("a terminal");
        // Raw: a line discipline that cuts lines throws away what nobody reads.
        let mut modes = rustix::termios::tcgetattr(&slave).expect("its modes");
        modes.make_raw();
        rustix::termios::tcsetattr(&slave, rustix::termios::OptionalActions::Now, &modes).expect("raw");
        let paste = vec![b'x'; 1 << 20];
        let filling = tokio::time::timeout(Duration::from_millis(200), master.write(&paste)).await;
        assert!(filling.is_err(), "nobody reads, so it waits");
        drop(slave);
        // It never waited for anything before, so a deadline in this thread would not have come.
        let ended = master.write(&paste).await;
        assert!(ended.is_err(), "{ended:?}");
    }
}
