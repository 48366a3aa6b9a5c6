//! Puts the sample model, deflated, into the library, and notes the commit that it is built from.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// The sample model's folder in the source.
const SAMPLE: &str = "model/sample";

fn main() -> io::Result<()> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    pack(&root.join(SAMPLE), &out)?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SAMPLE}");
    println!("cargo::rerun-if-env-changed=CLIPCAP_COMMIT");
    println!("cargo::rustc-env=CLIPCAP_COMMIT={}", commit(&root));
    Ok(())
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// Deflates every file of the folder, and writes `sample_model.rs` with their names, lengths and bytes, and with a
/// fingerprint of all of them.
fn pack(folder: &Path, out: &Path) -> io::Result<()> {
    let mut names: Vec<String> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    names.sort();
    let mut fingerprint = Fnv::default();
    let mut files = String::new();
    for name in &names {
        let bytes = fs::read(folder.join(name))?;
        fingerprint.add(name.as_bytes());
        fingerprint.add(&bytes);
        let packed = out.join(format!("{name}.deflate"));
        let mut encoder = DeflateEncoder::new(fs::File::create(&packed)?, Compression::default());
        encoder.write_all(&bytes)?;
        encoder.finish()?;
        files += &format!(
            "    ({name:?}, {}, include_bytes!({packed:?})),\n",
            bytes.len()
        );
    }
    let source = format!(
        "const FINGERPRINT: &str = \"{:016x}\";\nconst FILES: &[(&str, u64, &[u8])] = &[\n{files}];\n",
        fingerprint.0
    );
    fs::write(out.join("sample_model.rs"), source)
}

/// FNV-1a, which tells models apart that were built at different times; it protects from nothing.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// `CLIPCAP_COMMIT`, which releases set; the commit that a package was made of; or that of the checkout. The script is not
/// run again for every commit, which would build everything anew, so a checkout may have gone on since.
fn commit(root: &Path) -> String {
    if let Ok(commit) = env::var("CLIPCAP_COMMIT") {
        return commit;
    }
    let packaged = fs::read_to_string(root.join(".cargo_vcs_info.json")).unwrap_or_default();
    if let Some((_, rest)) = packaged.split_once("\"sha1\": \"") {
        return rest.chars().take_while(|c| *c != '"').take(10).collect();
    }
    let git = Command::new("git")
        .args(["rev-parse", "--short=10", "HEAD"])
        .current_dir(root)
        .output();
    match git {
        Ok(output) if output.status.success() && root.join(".git").exists() => {
            let commit = String::from_utf8_lossy(&output.stdout);
            format!("{} or later", commit.trim())
        }
        _ => "unknown".to_string(),
    }
}
