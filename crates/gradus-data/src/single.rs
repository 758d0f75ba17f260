//! One image file, read as a folder's are: for classifying a picture that belongs to no set.

use std::io::Read;
use std::path::Path;

use fast_image_resize::Resizer;

use crate::{DataError, ImageShape, decode};

/// A file larger than this is no photograph, in bytes.
const MAX_FILE: u64 = 512 << 20;

/// Reads a JPEG or PNG file as `[3, H, W]` bytes of `shape`, scaled and cropped as
/// [`folder::read`](crate::folder::read) does.
///
/// # Errors
/// If the file cannot be read, is no JPEG or PNG, or does not decode, naming it; if `shape` has not
/// three channels.
pub fn read_image(path: &Path, shape: ImageShape) -> Result<Vec<u8>, DataError> {
    if shape.channels != 3 || shape.bytes() == 0 || shape.height.max(shape.width) > 1024 {
        let expected = "3 channels and sides of 1 to 1024 pixels";
        return Err(DataError::option("image shape", shape, expected));
    }
    if !path.exists() {
        return Err(DataError::NotFound {
            path: path.to_path_buf(),
        });
    }
    let file = std::fs::File::open(path).map_err(DataError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(DataError::io("read", path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(DataError::file(
            path.display(),
            "larger than 512 MiB, so it is no photograph",
        ));
    }
    let picture = decode::decode(path, "", &bytes).map_err(|error| match error {
        DataError::Entry { problem, .. } => DataError::file(path.display(), problem),
        other => other,
    })?;
    let mut pixels = vec![0; shape.bytes()];
    picture.write(&mut Resizer::new(), shape, &mut pixels);
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_resized_and_laid_out_by_channel() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("red.png");
        image::RgbImage::from_pixel(40, 20, image::Rgb([200, 10, 0]))
            .save(&path)
            .unwrap();
        let pixels = read_image(&path, ImageShape::new(3, 8, 8)).unwrap();
        assert_eq!(pixels, [[200u8; 64], [10; 64], [0; 64]].concat());
    }

    #[test]
    fn what_is_no_image_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.png");
        std::fs::write(&path, "hello").unwrap();
        let shape = ImageShape::new(3, 8, 8);
        let error = read_image(&path, shape).unwrap_err().to_string();
        assert!(
            error.contains("notes.png") && error.contains("not a JPEG or PNG"),
            "{error}"
        );
        let missing = read_image(&folder.path().join("absent.png"), shape).unwrap_err();
        assert!(missing.to_string().contains("absent.png"), "{missing}");
        assert!(read_image(&path, ImageShape::new(1, 8, 8)).is_err());
    }
}
