//! The program as it is: the real binary, a real server, the system's OpenSSH.

mod bundle;
mod config_ssh;
mod credentials;
mod direction;
mod flare;
mod folder;
mod full_disk;
mod kill_loop;
mod lifecycle;
mod offline;
mod reference;
mod six_lines;
mod ssh;
