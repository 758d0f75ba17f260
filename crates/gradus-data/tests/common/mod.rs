//! What several of these tests need: archives made byte by byte, and small pictures.
#![allow(clippy::print_stdout)] // a skipped test says so loudly
#![allow(dead_code)] // each test binary uses its own part

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use gradus_data::{DataError, DataSpec, Dataset, OpenOptions};

/// The folder of real data beside the checkout, or a loud line and `None`.
pub(crate) fn shared(file: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("../shared/data").join(file))
        .find(|path| path.exists());
    if found.is_none() {
        println!("SKIPPED: no shared/data/{file} beside the checkout");
    }
    found
}

pub(crate) fn open(spec: &str) -> Result<Dataset, DataError> {
    spec.parse::<DataSpec>()?.open(&OpenOptions::default())
}

/// The error's message with the path of the file in front cut off.
pub(crate) fn refusal(kind: &str, path: &Path) -> String {
    let message = match open(&format!("{kind}:{}", path.display())) {
        Ok(data) => panic!("opened: {data:?}"),
        Err(error) => error.to_string(),
    };
    let prefix = path.display().to_string();
    message
        .strip_prefix(&prefix)
        .unwrap_or_else(|| panic!("no file named in: {message}"))
        .to_owned()
}

/// A plain-coloured PNG of the given size.
pub(crate) fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    let image = image::RgbImage::from_pixel(width, height, image::Rgb(colour));
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// One tar entry of any kind, name and contents, without the manners of a library.
pub(crate) fn tar_entry(kind: u8, name: &[u8], link: &[u8], contents: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", contents.len()).as_bytes());
    header[136..147].copy_from_slice(b"00000000000");
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link);
    header[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut header);
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(contents);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Writes the checksum of a tar header.
pub(crate) fn seal(header: &mut [u8]) {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A whole tar file of regular files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes: Vec<u8> = files
        .iter()
        .flat_map(|(name, body)| tar_entry(b'0', name.as_bytes(), b"", body))
        .collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

pub(crate) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

pub(crate) fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, body) in files {
        writer
            .start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        writer.write_all(body).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Writes `bytes` to `name` in a folder of its own.
pub(crate) fn place(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Writes files below `root`, making folders.
pub(crate) fn plant(root: &Path, files: &[(&str, &[u8])]) {
    for (name, body) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }
}
