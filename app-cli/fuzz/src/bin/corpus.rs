//! Takes a corpus apart into files for libFuzzer, and puts one together again.
#![expect(clippy::print_stdout, reason = "it tells what it did")]

use std::path::Path;

fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["list"] => burstflare_fuzz::TARGETS.iter().for_each(|target| println!("{}", target.name)),
        [what @ ("unpack" | "pack" | "words"), name, place] => {
            let target =
                burstflare_fuzz::target(name).ok_or_else(|| std::io::Error::other("no such target"))?;
            // Making seeds changes the working folder.
            let place = &std::path::absolute(Path::new(place))?;
            match what {
                "unpack" => println!("{} inputs", burstflare_fuzz::unpack(target, place)?),
                "pack" => println!("{} inputs kept", burstflare_fuzz::pack(target, place, 120)?),
                _ => {
                    let quote = |word: &&[u8]| {
                        let bytes: Vec<String> = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
                        format!("\"{}\"\n", bytes.concat())
                    };
                    std::fs::write(place, target.words.iter().map(quote).collect::<String>())?;
                }
            }
        }
        _ => println!(
            "usage: flare-fuzz-corpus list | unpack TARGET FOLDER | pack TARGET FOLDER | words TARGET FILE"
        ),
    }
    Ok(())
}
