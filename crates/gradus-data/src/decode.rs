//! From a JPEG or PNG file to bytes `[3, H, W]`, and from one size to another.
//!
//! - Greyscale becomes three equal channels; 16 bits are rounded to 8; transparency is composited on
//!   white, `c ← (a·c + (255 − a)·255) / 255`; an EXIF orientation is ignored.
//! - Resizing keeps the aspect ratio: the largest centred window of the wanted shape is scaled
//!   (Catmull–Rom, widened when shrinking, so that nothing aliases). Nothing is stretched.
//! - A picture may have 16,384 pixels a side and take 512 MiB while it is decoded.

use std::io::Cursor;
use std::path::Path;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use rayon::prelude::*;

use crate::{DataError, Dataset, ImageShape, Images};

/// The longest side of a picture, in pixels.
const MAX_SIDE: u32 = 16_384;
/// The most memory that decoding one picture may take, in bytes.
const MAX_ALLOC: u64 = 512 << 20;

/// A decoded picture: rows of red, green, blue.
pub(crate) struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>, String> {
    let format = image::guess_format(bytes)
        .ok()
        .filter(|format| matches!(format, ImageFormat::Jpeg | ImageFormat::Png))
        .ok_or_else(|| {
            let shown: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
            format!(
                "not a JPEG or PNG image ({} bytes: {} …)",
                bytes.len(),
                shown.join(" ")
            )
        })?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    Ok(reader)
}

/// Height and width from the header alone; the entry is named if it is not an image.
pub(crate) fn size(file: &Path, entry: &str, bytes: &[u8]) -> Result<(usize, usize), DataError> {
    reader(bytes)
        .and_then(|reader| {
            reader
                .into_dimensions()
                .map_err(|e| format!("does not decode: {e}"))
        })
        .map(|(width, height)| (height as usize, width as usize))
        .map_err(|problem| DataError::entry(file, entry, problem))
}

/// The whole picture; the entry is named if it does not decode.
pub(crate) fn decode(file: &Path, entry: &str, bytes: &[u8]) -> Result<Picture, DataError> {
    let decoded = reader(bytes).and_then(|reader| {
        if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_is_whole(bytes) {
            return Err("truncated JPEG: its end marker is missing".to_owned());
        }
        reader.decode().map_err(|e| format!("does not decode: {e}"))
    });
    decoded
        .map(flatten)
        .map_err(|problem| DataError::entry(file, entry, problem))
}

/// The decoder fills a cut JPEG with grey and says nothing. A whole one reaches its end marker
/// (FF D9); what lies behind that, such as the film of a motion photo, is not looked at.
///
/// Segments are skipped by their length, so that a thumbnail's end marker is not taken for the
/// picture's. Inside a scan every FF is followed by 00 or a restart marker (D0–D7).
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2; // behind the start of the image, FF D8
    let mut scanned = false;
    while let Some(&[first, marker]) = bytes.get(at..at + 2) {
        at += match (first, marker) {
            (0xff, 0xd9) => return scanned,
            // FF FF is filling: the second FF may begin a marker.
            (0xff, 0xff) => 1,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => 2,
            (0xff, _) => {
                scanned |= marker == 0xda;
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else {
                    return false;
                };
                2 + usize::from(u16::from_be_bytes([high, low]))
            }
            _ => 1,
        };
    }
    false
}

fn flatten(image: DynamicImage) -> Picture {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let rgb = if image.color().has_alpha() {
        let rgba = image.into_rgba8();
        rgba.pixels()
            .flat_map(|p| [p[0], p[1], p[2]].map(|c| on_white(c, p[3])))
            .collect()
    } else {
        image.into_rgb8().into_raw()
    };
    Picture { width, height, rgb }
}

fn on_white(colour: u8, alpha: u8) -> u8 {
    let (c, a) = (u32::from(colour), u32::from(alpha));
    ((a * c + (255 - a) * 255 + 127) / 255) as u8
}

impl Picture {
    /// Writes `[3, height, width]` bytes to `out`, resized if need be.
    ///
    /// `resizer` is reused between pictures: it keeps its tables.
    pub(crate) fn write(&self, resizer: &mut Resizer, shape: ImageShape, out: &mut [u8]) {
        let resized;
        let rgb = if (self.height, self.width) == (shape.height, shape.width) {
            &self.rgb
        } else {
            resized = self.resized(resizer, shape);
            &resized
        };
        let area = shape.height * shape.width;
        for (channel, plane) in out.chunks_exact_mut(area).enumerate() {
            for (value, pixel) in plane.iter_mut().zip(rgb.chunks_exact(3)) {
                *value = pixel[channel];
            }
        }
    }

    fn resized(&self, resizer: &mut Resizer, shape: ImageShape) -> Vec<u8> {
        // Sides are at most MAX_SIDE or the 1024 of OpenOptions, so they fit u32.
        let source = ImageRef::new(
            self.width as u32,
            self.height as u32,
            &self.rgb,
            PixelType::U8x3,
        )
        .expect("a picture holds 3 bytes for each of its pixels");
        let mut target = Image::new(shape.width as u32, shape.height as u32, PixelType::U8x3);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
            .fit_into_destination(Some((0.5, 0.5)));
        resizer
            .resize(&source, &mut target, &options)
            .expect("source and target have the same pixel type and a centred window fits");
        target.into_vec()
    }
}

/// A zeroed buffer for `count` images, or an error rather than an abort if there is no such memory.
pub(crate) fn buffer(what: &str, count: usize, shape: ImageShape) -> Result<Vec<u8>, DataError> {
    let bytes = (count as u64).saturating_mul(shape.bytes() as u64);
    let refused = || DataError::Memory {
        what: format!("{what} ({count} of {shape})"),
        bytes,
    };
    let length = usize::try_from(bytes).map_err(|_| refused())?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(length).map_err(|_| refused())?;
    buffer.resize(length, 0);
    Ok(buffer)
}

/// Resizes every image of both parts to `size` × `size`.
pub(crate) fn resize_dataset(data: &mut Dataset, size: usize) -> Result<(), DataError> {
    let (old, new) = (
        data.shape(),
        ImageShape::new(data.shape().channels, size, size),
    );
    if old == new {
        return Ok(());
    }
    for part in [&mut data.train, &mut data.test] {
        *part = resize(part, new)?;
    }
    data.notes.push(format!("resized from {old} to {new}"));
    Ok(())
}

fn resize(images: &Images, shape: ImageShape) -> Result<Images, DataError> {
    let mut pixels = buffer("resized images", images.len(), shape)?;
    let ImageShape { height, width, .. } = images.shape;
    pixels
        .par_chunks_exact_mut(shape.bytes())
        .enumerate()
        .for_each_init(Resizer::new, |resizer, (index, out)| {
            let planes = images.image(index);
            let area = height * width;
            let rgb = (0..area).flat_map(|p| [planes[p], planes[area + p], planes[2 * area + p]]);
            Picture {
                width,
                height,
                rgb: rgb.collect(),
            }
            .write(resizer, shape, out);
        });
    Images::new(shape, pixels, images.labels.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(image: &DynamicImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn decoded(image: &DynamicImage) -> Vec<u8> {
        decode(Path::new("x.zip"), "x.png", &png(image))
            .unwrap()
            .rgb
    }

    #[test]
    fn every_kind_of_pixel_becomes_three_bytes() {
        use image::{ImageBuffer, Luma, LumaA, Rgb, Rgba};
        let grey = DynamicImage::ImageLuma8(ImageBuffer::from_pixel(1, 1, Luma([7])));
        assert_eq!(decoded(&grey), [7, 7, 7]);
        let deep = DynamicImage::ImageRgb16(ImageBuffer::from_pixel(1, 1, Rgb([0, 32896, 65535])));
        assert_eq!(decoded(&deep), [0, 128, 255]);
        let clear = DynamicImage::ImageRgba8(ImageBuffer::from_pixel(1, 1, Rgba([9, 9, 9, 0])));
        assert_eq!(decoded(&clear), [255, 255, 255]);
        let half = DynamicImage::ImageRgba8(ImageBuffer::from_pixel(1, 1, Rgba([100, 0, 255, 51])));
        // a = 1/5: 0.2·100 + 0.8·255 = 224; 0.8·255 = 204; 255.
        assert_eq!(decoded(&half), [224, 204, 255]);
        let grey_alpha = DynamicImage::ImageLumaA8(ImageBuffer::from_pixel(1, 1, LumaA([5, 255])));
        assert_eq!(decoded(&grey_alpha), [5, 5, 5]);
    }

    #[test]
    fn a_wide_picture_is_cropped_to_its_centre_not_stretched() {
        // 12×4: red, green, blue thirds. The centred square is green.
        let image = DynamicImage::ImageRgb8(image::ImageBuffer::from_fn(12, 4, |x, _| {
            let mut p = [0; 3];
            p[x as usize / 4] = 255;
            image::Rgb(p)
        }));
        let picture = decode(Path::new("x"), "x.png", &png(&image)).unwrap();
        let shape = ImageShape::new(3, 2, 2);
        let mut out = [0; 12];
        picture.write(&mut Resizer::new(), shape, &mut out);
        // Not quite 0 and 255: the kernel reaches a little beyond the window.
        assert!(out[4..8].iter().all(|&green| green > 230), "{out:?}");
        assert!(
            out[..4].iter().chain(&out[8..]).all(|&other| other < 25),
            "{out:?}"
        );
    }

    #[test]
    fn shrinking_averages_instead_of_skipping() {
        // A fine checkerboard of 0 and 254 shrinks to an even grey.
        let image = DynamicImage::ImageLuma8(image::ImageBuffer::from_fn(64, 64, |x, y| {
            image::Luma([if (x + y) % 2 == 0 { 0 } else { 254 }])
        }));
        let mut out = [0; 192];
        let picture = decode(Path::new("x"), "x.png", &png(&image)).unwrap();
        picture.write(&mut Resizer::new(), ImageShape::new(3, 8, 8), &mut out);
        assert!(out.iter().all(|v| v.abs_diff(127) <= 3), "{out:?}");
    }

    #[test]
    fn what_is_not_a_whole_image_is_refused_by_name() {
        let refuse = |bytes: &[u8]| match decode(Path::new("a.tar"), "cat/1.jpg", bytes) {
            Ok(_) => panic!("decoded"),
            Err(error) => error.to_string(),
        };
        let message = refuse(b"hello, this is text");
        assert!(
            message.starts_with("a.tar: entry 'cat/1.jpg': not a JPEG or PNG image"),
            "{message}"
        );
        assert!(refuse(b"").contains("not a JPEG or PNG image (0 bytes"));
        let image = DynamicImage::ImageRgb8(image::ImageBuffer::from_fn(40, 40, |x, y| {
            image::Rgb([(x * y) as u8, (x * 7) as u8, (y * 5) as u8])
        }));
        let whole = png(&image);
        for cut in [10, 40, whole.len() / 2, whole.len() - 20] {
            assert!(
                refuse(&whole[..cut]).contains("does not decode"),
                "cut at {cut}"
            );
        }
        let mut jpeg = Cursor::new(Vec::new());
        image.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        let jpeg = jpeg.into_inner();
        assert!(decode(Path::new("x"), "x.jpg", &jpeg).is_ok());
        for cut in 4..jpeg.len() {
            let message = refuse(&jpeg[..cut]);
            assert!(
                message.contains("truncated JPEG") || message.contains("decode"),
                "{message}"
            );
        }
    }

    #[test]
    fn what_follows_the_end_of_a_jpeg_is_not_looked_at() {
        let image = DynamicImage::ImageRgb8(image::ImageBuffer::from_fn(24, 24, |x, y| {
            image::Rgb([(x * y) as u8, (x * 9) as u8, (y * 5) as u8])
        }));
        let mut jpeg = Cursor::new(Vec::new());
        image.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        let jpeg = jpeg.into_inner();
        // A start of scan without an end, then bytes as a film has them.
        let film = (0..3000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8);
        let trailer: Vec<u8> = [0xff, 0xda, 0, 8].into_iter().chain(film).collect();
        let motion = [jpeg.as_slice(), &trailer].concat();
        let picture = decode(Path::new("x"), "x.jpg", &motion).unwrap();
        let plain = decode(Path::new("x"), "x.jpg", &jpeg).unwrap();
        assert_eq!(picture.rgb, plain.rgb);
        // A whole picture inside a comment (a thumbnail) is no end of the outer one.
        let mut comment = vec![0xff, 0xfe];
        comment.extend((jpeg.len() as u16 + 2).to_be_bytes());
        comment.extend(&jpeg);
        let outer = [&jpeg[..2], &comment, &jpeg[2..]].concat();
        assert!(decode(Path::new("x"), "x.jpg", &outer).is_ok());
        for cut in 4..outer.len() {
            assert!(
                decode(Path::new("x"), "x.jpg", &outer[..cut]).is_err(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_header_that_promises_a_huge_picture_is_refused_at_once() {
        // A PNG header of 100,000 × 100,000: signature, IHDR, its CRC.
        let mut bytes =
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x01\x86\xa0\0\x01\x86\xa0\x08\x02\0\0\0".to_vec();
        bytes.extend(crc(&bytes[12..29]).to_be_bytes());
        bytes.extend(b"\0\0\0\0IDAT");
        let error = decode(Path::new("x"), "x.png", &bytes)
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("limit") || error.contains("Limit"),
            "{error}"
        );
    }

    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| {
                (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg())
            })
        })
    }

    #[test]
    fn memory_that_does_not_exist_is_an_error_not_an_abort() {
        let error = buffer("images", usize::MAX / 4096, ImageShape::new(3, 1024, 1024));
        assert!(error.is_err());
    }
}
