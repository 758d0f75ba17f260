//! Archives that lie: every kind is refused by name, quickly, and nothing is written anywhere.

#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too

mod common;

use std::time::{Duration, Instant};

use common::{gz, open, place, png, refusal, seal, tar, tar_entry, xz, zip};

/// A sound set of two classes, as tar entries without the end mark.
fn sound() -> Vec<u8> {
    let picture = png(4, 4, [1, 2, 3]);
    [
        "train/a/1.png",
        "train/b/1.png",
        "test/a/1.png",
        "test/b/1.png",
    ]
    .iter()
    .flat_map(|name| tar_entry(b'0', name.as_bytes(), b"", &picture))
    .collect()
}

fn closed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// The refusal of a sound archive with `extra` put at its end.
fn with(extra: &[u8]) -> String {
    let (_folder, path) = place("x.tar", &closed([sound(), extra.to_vec()].concat()));
    let start = Instant::now();
    let message = refusal("folder", &path);
    assert!(start.elapsed() < Duration::from_secs(1));
    message
}

#[test]
fn the_sound_archive_opens() {
    let (_folder, path) = place("x.tar", &closed(sound()));
    let data = open(&format!("folder:{}", path.display())).unwrap();
    assert_eq!(
        (data.train.len(), data.test.len(), data.notes.len()),
        (2, 2, 0)
    );
}

#[test]
fn paths_that_leave_the_archive_are_refused() {
    let picture = png(1, 1, [0; 3]);
    for name in ["../evil.png", "train/a/../../../evil.png", "..\\evil.png"] {
        let message = with(&tar_entry(b'0', name.as_bytes(), b"", &picture));
        assert!(
            message.ends_with("its path leaves the archive ('..'): refused"),
            "{message}"
        );
        assert!(message.starts_with(": entry '"), "{message}");
    }
    for name in ["/tmp/evil.png", "C:\\evil.png"] {
        let message = with(&tar_entry(b'0', name.as_bytes(), b"", &picture));
        assert!(
            message.ends_with("is an absolute path: refused"),
            "{message}"
        );
    }
    let message = with(&tar_entry(b'0', b"train/a/\x07.png", b"", &picture));
    assert!(
        message.ends_with("holds a control character: refused"),
        "{message}"
    );
    let message = with(&tar_entry(b'0', b"train/a/\xff.png", b"", &picture));
    assert!(
        message.ends_with("its name is not UTF-8: refused"),
        "{message}"
    );
}

#[test]
fn whatever_is_not_a_regular_file_is_refused() {
    for (kind, what) in [
        (b'1', "hard link"),
        (b'2', "symbolic link"),
        (b'3', "device"),
        (b'4', "device"),
        (b'6', "pipe"),
        (b'S', "sparse file"),
    ] {
        let message = with(&tar_entry(kind, b"train/a/x.png", b"/etc/passwd", b""));
        assert!(
            message.contains(&format!("is a {what}, not a regular file: refused"))
                // The tar library itself checks the map of a sparse file first.
                || (kind == b'S' && message.contains("broken archive")),
            "{message}"
        );
    }
}

#[test]
fn the_same_path_twice_is_refused() {
    let message = with(&tar_entry(b'0', b"./train/a//1.png", b"", b"other"));
    assert_eq!(
        message,
        ": entry 'train/a/1.png': is in the archive twice: refused"
    );
    // The zip library keeps the last of two, so ours must look for itself: write b, call it a.
    let picture = png(2, 2, [0; 3]);
    let bytes = zip(&[("a/1.png", &picture), ("b/1.png", &picture)]);
    let name = b"b/1.png";
    let mut forged = bytes.clone();
    for at in 0..bytes.len() - name.len() {
        if &bytes[at..at + name.len()] == name {
            forged[at] = b'a';
        }
    }
    let (_folder, path) = place("x.zip", &forged);
    assert_eq!(
        refusal("folder", &path),
        ": entry 'a/1.png': is in the archive twice: refused"
    );
}

#[test]
fn a_pax_size_that_contradicts_the_header_is_refused() {
    let pax = tar_entry(b'x', b"PaxHeaders/x", b"", b"11 size=99\n");
    let file = tar_entry(b'0', b"train/a/x.png", b"", &[0; 600]);
    let message = with(&[pax, file].concat());
    assert_eq!(
        message,
        ": entry 'train/a/x.png': its PAX size contradicts its header: refused"
    );
}

#[test]
fn a_header_that_promises_more_than_there_is_does_not_allocate() {
    let mut entry = tar_entry(b'0', b"train/a/x.png", b"", b"");
    entry[124..135].copy_from_slice(format!("{:011o}", 60_000_000).as_bytes());
    seal(&mut entry);
    let message = with(&entry);
    assert!(
        message.contains("entry 'train/a/x.png': truncated archive"),
        "{message}"
    );
    entry[124..135].copy_from_slice(format!("{:011o}", 8_000_000_000u64).as_bytes());
    seal(&mut entry);
    let message = with(&entry);
    assert!(
        message.contains("longer than the 67108864 bytes"),
        "{message}"
    );
}

#[test]
fn bombs_are_refused_within_a_second() {
    // 100 MiB of zeros in 100 kB of gzip: in an unwanted entry, so that the skipping counts too.
    let zeros = vec![0u8; 100 << 20];
    let bomb = closed([sound(), tar_entry(b'0', b"padding.bin", b"", &zeros)].concat());
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut writer, &bomb).unwrap();
    let bomb = writer.finish().unwrap();
    let (_folder, path) = place("bomb.tar.gz", &bomb);
    let start = Instant::now();
    let message = refusal("folder", &path);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert!(
        message.contains("refused as a decompression bomb"),
        "{message}"
    );
    // The same as an entry that calls itself an image, in a zip.
    let (_folder, path) = place("bomb.zip", &zip(&[("a/1.png", &zeros), ("b/1.png", b"")]));
    let message = refusal("folder", &path);
    assert!(
        message.contains("entry 'a/1.png': longer than the 67108864 bytes"),
        "{message}"
    );
}

#[test]
fn a_truncated_or_damaged_archive_never_passes_for_a_whole_one() {
    let files: Vec<(String, Vec<u8>)> = ["train/a", "train/b", "test/a", "test/b"]
        .iter()
        .enumerate()
        .map(|(i, class)| (format!("{class}/1.png"), png(4, 4, [i as u8 * 50; 3])))
        .collect();
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(n, b)| (n.as_str(), b.as_slice()))
        .collect();
    let plain = tar(&files);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let spec = format!("folder:{}", path.display());
    std::fs::write(&path, &plain).unwrap();
    let whole = open(&spec).unwrap().fingerprint();
    for (kind, bytes) in [
        ("tar", plain.clone()),
        ("gz", gz(&plain)),
        ("xz", xz(&plain)),
        ("zip", zip(&files)),
    ] {
        // Every byte of the compressed kinds; a prime stride through the blocks of the plain tar.
        let stride = if kind == "tar" { 13 } else { 1 };
        for cut in (0..bytes.len()).step_by(stride) {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            match open(&spec) {
                // A tar may lose zero blocks after the first of its end mark.
                Ok(data) => {
                    assert_eq!(data.fingerprint(), whole);
                    assert!(
                        kind == "tar" && cut >= plain.len() - 512,
                        "{kind} cut at {cut}"
                    );
                }
                Err(error) => {
                    let error = error.to_string();
                    let placed = error.contains(": entry '") || error.contains(" at byte ");
                    assert!(placed, "{kind} cut at {cut}: {error}");
                }
            }
        }
        // One flipped bit: refused, or without effect (a time stamp, padding), never other pixels
        // where a checksum covers them; and never a panic.
        for at in (0..bytes.len()).step_by(stride) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            std::fs::write(&path, &flipped).unwrap();
            if let Ok(data) = open(&spec) {
                let same = data.fingerprint() == whole;
                assert!(
                    same || kind == "tar" || !data.notes.is_empty(),
                    "{kind} bit at {at}"
                );
            }
        }
    }
}

#[test]
fn what_is_no_archive_says_so() {
    let (_folder, path) = place("x.tar.gz", b"<html>404 not found</html>");
    assert_eq!(
        refusal("folder", &path),
        " at byte 0: not a .tar, .tar.gz, .tar.xz or .zip archive (first bytes 3c 68 74 6d 6c 3e 34 30)"
    );
    let (_folder, path) = place("x.tar", b"");
    assert!(refusal("folder", &path).contains("the file is empty"));
    let (_folder, path) = place("x.gz", &gz(b"just text, no tar inside"));
    assert!(
        refusal("folder", &path).contains("broken archive"),
        "{}",
        refusal("folder", &path)
    );
}
