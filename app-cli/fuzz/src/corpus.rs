//! Inputs that are kept: one file for each target, one input a line, in base64.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Target;

/// The kept inputs of a target, its seeds first.
pub struct Corpus {
    /// The inputs.
    pub inputs: Vec<Vec<u8>>,
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{name}.txt"))
}

impl Corpus {
    /// Reads what is kept; without a file there are the seeds alone.
    ///
    /// # Errors
    /// When the file cannot be read or has a line that is no base64.
    pub fn of(target: &Target) -> io::Result<Self> {
        let mut inputs = (target.seeds)();
        match fs::read_to_string(file(target.name)) {
            Ok(text) => {
                for line in text.lines() {
                    inputs.push(STANDARD.decode(line).map_err(io::Error::other)?);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self { inputs })
    }
}

/// Writes each input into a file of its own, as libFuzzer wants them.
///
/// # Errors
/// When the folder cannot be written.
pub fn unpack(target: &Target, folder: &Path) -> io::Result<usize> {
    fs::create_dir_all(folder)?;
    let corpus = Corpus::of(target)?;
    for (index, input) in corpus.inputs.iter().enumerate() {
        fs::write(folder.join(format!("kept-{index:04}")), input)?;
    }
    Ok(corpus.inputs.len())
}

/// Bytes of the inputs of one target that are kept.
const ROOM: usize = 48 << 10;

/// Keeps inputs of a folder, in place of those that were kept: at most `most` of them, of all lengths.
///
/// # Errors
/// When the folder cannot be read or the corpus not written.
pub fn pack(target: &Target, folder: &Path, most: usize) -> io::Result<usize> {
    let seeds: BTreeSet<Vec<u8>> = (target.seeds)().into_iter().collect();
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let input = fs::read(entry?.path())?;
        if !seeds.contains(&input) && input.len() <= target.longest {
            inputs.push(input);
        }
    }
    inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    inputs.dedup();
    let every = inputs.len().div_ceil(most.max(1)).max(1);
    let mut room = ROOM;
    let inputs: Vec<_> = inputs
        .into_iter()
        .step_by(every)
        .take_while(|input| {
            let fits = input.len() <= room;
            room = room.saturating_sub(input.len());
            fits
        })
        .collect();
    let lines: Vec<String> = inputs.iter().map(|input| STANDARD.encode(input) + "\n").collect();
    fs::write(file(target.name), lines.concat())?;
    Ok(inputs.len())
}
