//! Small pictures: the images of a data set and the filters of a network, kept as interleaved RGB.

use std::io::Cursor;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

/// An RGB image, `[H, W, 3]` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Pixels {
    /// From planes, `[C, H, W]` bytes: three channels are colour, one is grey, of any other number
    /// the first is shown.
    ///
    /// # Errors
    /// A sentence, if a side is zero or the number of bytes is not C·H·W.
    pub fn from_planes([c, h, w]: [usize; 3], planes: &[u8]) -> Result<Self, String> {
        let expected = c.checked_mul(h).and_then(|n| n.checked_mul(w));
        if expected != Some(planes.len()) || planes.is_empty() {
            return Err(format!(
                "expected C·H·W = {c}·{h}·{w} bytes and at least one, found {}",
                planes.len()
            ));
        }
        let area = h * w;
        let channel = |i: usize| if c == 3 { i * area } else { 0 };
        let rgb = (0..area)
            .flat_map(|p| [0, 1, 2].map(|i| planes[channel(i) + p]))
            .collect();
        Ok(Self {
            width: w,
            height: h,
            rgb,
        })
    }

    /// From colours, row by row.
    ///
    /// # Errors
    /// A sentence, if a side is zero or the number of colours is not `width`·`height`.
    pub fn from_rgb(width: usize, height: usize, colours: &[[u8; 3]]) -> Result<Self, String> {
        if width.checked_mul(height) != Some(colours.len()) || colours.is_empty() {
            return Err(format!(
                "expected {width}·{height} colours, found {}",
                colours.len()
            ));
        }
        Ok(Self {
            width,
            height,
            rgb: colours.concat(),
        })
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// As a PNG file's bytes.
    #[must_use]
    pub fn png(&self) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let (w, h) = (self.width as u32, self.height as u32);
        PngEncoder::new(&mut bytes)
            .write_image(&self.rgb, w, h, ExtendedColorType::Rgb8)
            .expect("the constructors keep the size equal to the number of bytes");
        bytes.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_become_the_same_pixels_in_a_png() {
        let planes = [
            1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
        ];
        let png = Pixels::from_planes([3, 2, 3], &planes).unwrap().png();
        let back = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(back.get_pixel(2, 1).0, [6, 12, 18]);
        let grey = Pixels::from_planes([1, 1, 2], &[7, 9]).unwrap();
        assert_eq!(
            image::load_from_memory(&grey.png())
                .unwrap()
                .to_rgb8()
                .into_raw(),
            [7, 7, 7, 9, 9, 9]
        );
        assert!(Pixels::from_planes([3, usize::MAX, 2], &planes).is_err());
        assert!(Pixels::from_planes([0, 0, 0], &[]).is_err());
    }
}
