//! Refusals of file calls.

use std::io;

use http::StatusCode;
use rustix::io::Errno;

use crate::reply::Refused;

macro_rules! refusals {
    ($($name:ident, $status:ident, $code:literal, $message:literal;)*) => {
        $(
            #[doc = $message]
            pub(super) fn $name() -> Refused {
                Refused { status: StatusCode::$status, code: $code, message: $message.to_owned() }
            }
        )*
    };
}

refusals! {
    missing, NOT_FOUND, "no_such_file", "There is nothing at this path.";
    outside, FORBIDDEN, "outside", "The path, or a link on it, leads out of the session's folders.";
    denied, FORBIDDEN, "denied", "The mode of the file or of a folder on the way forbids that.";
    is_folder, CONFLICT, "is_folder", "That is a folder.";
    not_folder, CONFLICT, "not_folder", "Something on the path is not a folder.";
    not_file, CONFLICT, "not_file", "That is neither a file nor a folder.";
    is_link, CONFLICT, "is_link", "That is a link; write to what it points to, or delete it first.";
    is_root, CONFLICT, "is_root", "The session's own folders can be neither renamed nor deleted nor replaced.";
    exists, CONFLICT, "exists", "Something has that name already.";
    not_empty, CONFLICT, "not_empty", "The folder is not empty.";
    changed, PRECONDITION_FAILED, "changed", "It is not what the request's condition says: it was changed meanwhile.";
    unfinished, CONFLICT, "unfinished", "There was more to delete than one call does; it has to be asked again.";
    busy, SERVICE_UNAVAILABLE, "busy", "As many files are being moved as the machine carries at a time.";
}

/// What an error of the kernel means for a path.
pub(super) fn of(error: Errno) -> Refused {
    match error {
        Errno::NOENT => missing(),
        Errno::NOTDIR => not_folder(),
        Errno::ISDIR => is_folder(),
        Errno::EXIST => exists(),
        Errno::NOTEMPTY => not_empty(),
        Errno::XDEV | Errno::LOOP => outside(),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => denied(),
        Errno::NAMETOOLONG => Refused::invalid("A name on the path is too long."),
        Errno::TXTBSY | Errno::BUSY => {
            Refused { status: StatusCode::CONFLICT, code: "in_use", message: "It is in use.".to_owned() }
        }
        // A device or pipe that nobody serves.
        Errno::NXIO | Errno::NODEV => not_file(),
        // Renamed into itself.
        Errno::INVAL => Refused::invalid("The file system cannot do that with these names."),
        other => other.into(),
    }
}

/// The same for errors that came through std.
pub(super) fn of_io(error: io::Error) -> Refused {
    match error.raw_os_error() {
        Some(number) => of(Errno::from_raw_os_error(number)),
        None => error.into(),
    }
}
