//! `flare cloudflare` against a stand-in of Cloudflare's API that answers as the documented one does, and fails when told.

mod deploy;
mod keys;
mod migrate;
mod provision;
mod stub;
mod verify;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use self::stub::{ACCOUNT, Stub, TOKEN};
use crate::flare::{Answer, EXE, Place, run};

/// The secret half of Turnstile's keys.
const TURNSTILE: &str = "0x4AAAA-the-secret-half";

/// A folder with a description, keys, a Worker that looks built, and a wrangler that writes down how it was called.
struct Desk {
    place: Place,
    stub: Stub,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { place: Place::new(), stub: Stub::start() };
        desk.write(
            "cloudflare.toml",
            "worker = \"worker\"\nimage = \"image/Dockerfile\"\n\n[staging]\ndomain = \"flare.example.com\"\npreview_domain = \"example.net\"\nlocation = \"weur\"\n",
        );
        desk.write(".env", &format!("CLOUDFLARE_ACCOUNT_ID={ACCOUNT}\nCLOUDFLARE_API_TOKEN='{TOKEN}'\nTURNSTILE_SITE_KEY=site\nTURNSTILE_SECRET_KEY={TURNSTILE}\n"));
        desk.mode(".env", 0o600);
        for name in ["worker/entry.mjs", "worker/build/index.js", "worker/build/index_bg.wasm"] {
            desk.write(name, "");
        }
        let root = desk.place.root.path().display();
        desk.write("../bin/wrangler", &format!("#!/bin/sh\n[ \"$1\" = --version ] && {{ echo 4.164.0; exit; }}\nprintf '%s\\n' \"$@\" >>{root}/argv\nenv | cut -d= -f1 >{root}/names\n[ \"$CLOUDFLARE_API_TOKEN\" = {TOKEN} ] && touch {root}/token-was-right\necho wrangler says hello\nexit $(cat {root}/wrangler-exit 2>/dev/null || echo 0)\n"));
        desk.write("../bin/node", "#!/bin/sh\necho v24.21.0\n");
        for name in ["../bin/wrangler", "../bin/node"] {
            desk.mode(name, 0o755);
        }
        desk
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.place.path("work").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.place.path(name)).unwrap_or_default()
    }

    fn mode(&self, name: &str, mode: u32) {
        let path = self.place.path("work").join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.place.command(EXE);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.place.path("bin").display()));
        command.env("FLARE_CLOUDFLARE_API", &self.stub.url).arg("cloudflare").args(words);
        command
    }

    #[track_caller]
    fn flare(&self, words: &[&str]) -> Answer {
        run(&mut self.command(words))
    }

    /// Up to where it can be deployed.
    #[track_caller]
    fn ready() -> Self {
        let desk = Self::new();
        desk.flare(&["provision", "--yes"]).ok();
        desk.flare(&["generate"]).ok();
        desk.flare(&["migrate", "--yes"]).ok();
        desk
    }
}

/// Every file below a folder that holds one of the texts.
fn files_with(folder: &Path, texts: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, texts));
        } else {
            let bytes = fs::read(&path).expect("a file");
            let text = String::from_utf8_lossy(&bytes);
            if texts.iter().any(|secret| text.contains(secret.as_str())) {
                found.push(path.file_name().expect("a name").to_string_lossy().into_owned());
            }
        }
    }
    found
}
