//! The folder that becomes the template.

use std::fs;
use std::io;
use std::path::Path;

/// What the build step makes of [`TOLD`].
pub(super) const BUILT: &str = "TOLD BY THE SMOKE TEST\n";
const TOLD: &str = "told by the smoke test\n";
const SERVER: &str = include_str!("serve.py");

/// Writes it. The session serves a page on `port` where it has python3; one that is left behind by a run that was killed
/// sleeps soon.
pub(super) fn write(dir: &Path, port: u16) -> io::Result<()> {
    let manifest = format!(
        "setup = [\"tr a-z A-Z <told >built\"]\n\
         on_start = \"if command -v python3 >/dev/null; then exec python3 /workspace/serve.py {port}; fi\"\n\
         sleep_after = \"15m\"\n\
         [[ports]]\n\
         port = {port}\n\
         name = \"web\"\n"
    );
    fs::create_dir(dir)?;
    fs::write(dir.join("flare.toml"), manifest)?;
    fs::write(dir.join("told"), TOLD)?;
    fs::write(dir.join("serve.py"), SERVER)
}

/// Bytes that do not compress, the same for each run.
pub(super) fn payload() -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    blake3::Hasher::new().update(TOLD.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
