//! What a file is that is no checkpoint, by how it begins: most are what a failed download left.

/// Beginnings of files, and what they are.
const MAGIC: [(&[u8], &str); 17] = [
    (b"\x1f\x8b", "a gzip file: unpack it and give what is in it"),
    (
        b"\xfd7zXZ\0",
        "an xz file: unpack it and give what is in it",
    ),
    (
        b"\x28\xb5\x2f\xfd",
        "a zstd file: unpack it and give what is in it",
    ),
    (b"BZh", "a bzip2 file: unpack it and give what is in it"),
    (
        b"7z\xbc\xaf\x27\x1c",
        "a 7z archive: unpack it and give the file with the weights",
    ),
    (
        b"Rar!",
        "a RAR archive: unpack it and give the file with the weights",
    ),
    (
        b"\x89HDF",
        "an HDF5 file, as Keras saves: give the PyTorch or safetensors weights of the model",
    ),
    (
        b"GGUF",
        "a GGUF file of llama.cpp's: give the PyTorch or safetensors weights of the model",
    ),
    (
        b"ggml",
        "a GGML file: give the PyTorch or safetensors weights of the model",
    ),
    (
        b"\x93NUMPY",
        "a NumPy array: give a PyTorch or safetensors file",
    ),
    (b"PK\x05\x06", "an empty zip archive: fetch it again"),
    (b"\x89PNG", "a PNG image, not weights"),
    (b"\xff\xd8\xff", "a JPEG image, not weights"),
    (b"GIF8", "a GIF image, not weights"),
    (b"%PDF", "a PDF document, not weights"),
    (b"\x7fELF", "a program, not weights"),
    (
        b"\x08\x01\x12",
        "an ONNX or TensorFlow graph: give the PyTorch or safetensors weights of the model",
    ),
];
/// Where a tar archive says that it is one.
const TAR: (usize, &[u8]) = (257, b"ustar");
/// How a page or feed may begin, in lower case.
const PAGES: [&str; 6] = ["<!doctype", "<html", "<head", "<body", "<?xml", "<!--"];
/// Characters of a text that are quoted.
const QUOTED: usize = 60;

/// Bytes that are enough to tell.
pub const ENOUGH: usize = 512;

/// What a file is and what to do, as the end of "it is ...", where that can be told by its first bytes.
pub fn describe(first: &[u8]) -> Option<String> {
    if first.is_empty() {
        return Some("empty: what made or fetched it failed; do that again".into());
    }
    if first.iter().all(|&byte| byte == 0) {
        return Some(
            "nothing but zeros where it begins: the download was cut off; fetch it again".into(),
        );
    }
    if let Some(text) = text(first) {
        return Some(describe_text(text));
    }
    let (place, name) = TAR;
    if first
        .get(place..)
        .is_some_and(|rest| rest.starts_with(name))
    {
        return Some("a tar archive: unpack it and give the file with the weights".into());
    }
    let known = MAGIC.iter().find(|(magic, _)| first.starts_with(magic));
    known.map(|(_, what)| (*what).to_string())
}

/// The beginning of a file as text, if it is one.
fn text(first: &[u8]) -> Option<&str> {
    let text = match str::from_utf8(first) {
        Ok(text) => text,
        // The last character may be cut in two.
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(&first[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let is_plain = |c: char| !c.is_control() || c.is_whitespace();
    (!text.is_empty() && text.chars().all(is_plain)).then_some(text)
}

fn describe_text(text: &str) -> String {
    let lower = text.to_lowercase();
    if PAGES.iter().any(|start| lower.starts_with(start)) {
        return "a web page, not weights: the address led to a page about the file, or to a login; fetch the file itself (on the Hub its address has /resolve/, not /blob/)".into();
    }
    if lower.starts_with("version https://git-lfs") {
        return "a Git LFS pointer, not the file itself: get it with `git lfs pull`".into();
    }
    let mut quoted: String = text.chars().take(QUOTED).collect();
    quoted = quoted.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.starts_with(['{', '[']) {
        return format!(
            "JSON, not weights: a server's answer, or settings ({quoted}); fetch or name the file with the weights"
        );
    }
    format!("a text, not weights (it begins `{quoted}`): fetch or name the file with the weights")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_downloads_leave_is_called_what_it_is() {
        for (bytes, word) in [
            (&b""[..], "empty"),
            (&[0; 64], "zeros"),
            (b"\xef\xbb\xbf\n <!DOCTYPE html><html>", "web page"),
            (b"<html lang=\"en\">", "web page"),
            (
                b"<?xml version=\"1.0\"?><Error><Code>AccessDenied",
                "web page",
            ),
            (b"{\"error\": \"Repository not found\"}", "JSON"),
            (b"Not Found", "a text, not weights (it begins `Not Found`)"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid",
                "git lfs pull",
            ),
            (b"\x1f\x8b\x08\x00\x00\xff", "gzip"),
            (b"\x89HDF\r\n\x1a\n\0\0", "HDF5"),
        ] {
            let told = describe(bytes).unwrap_or_default();
            assert!(told.contains(word), "{word}: {told}");
        }
        assert_eq!(describe(b"\x00\x01\xff\xfe other"), None);
        let mut tar = vec![1; 512];
        tar[257..262].copy_from_slice(b"ustar");
        tar[0] = 0xff;
        assert!(describe(&tar).unwrap().contains("tar archive"));
    }
}
