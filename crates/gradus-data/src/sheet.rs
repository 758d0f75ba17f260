//! A sheet of samples: what the network will see, at a glance.

use image::{Rgb, RgbImage, imageops};

use crate::Images;

/// Pixels between pictures and around them.
const GAP: u32 = 4;
/// Every picture is enlarged by a whole factor to at least this many pixels.
const LEAST_SIDE: u32 = 64;
/// The colour between the pictures: near-white, so that a sheet prints well.
const PAPER: Rgb<u8> = Rgb([246, 246, 244]);

/// Draws the images at `indices`, `columns` in a row, enlarged without smoothing.
///
/// Positions that are not in the set are left blank, so a row can be cut short.
#[must_use]
pub fn sheet(images: &Images, indices: &[usize], columns: usize) -> RgbImage {
    let columns = columns.clamp(1, indices.len().max(1));
    let rows = indices.len().div_ceil(columns).max(1);
    let (height, width) = (images.shape.height as u32, images.shape.width as u32);
    let scale = LEAST_SIDE.div_ceil(height.min(width).max(1)).max(1);
    let (cell_width, cell_height) = (width * scale + GAP, height * scale + GAP);
    let size = (
        columns as u32 * cell_width + GAP,
        rows as u32 * cell_height + GAP,
    );
    let mut page = RgbImage::from_pixel(size.0, size.1, PAPER);
    for (place, &index) in indices
        .iter()
        .enumerate()
        .filter(|(_, index)| **index < images.len())
    {
        let picture = picture(images, index);
        let (x, y) = (
            (place % columns) as u32 * cell_width,
            (place / columns) as u32 * cell_height,
        );
        let large = imageops::resize(
            &picture,
            width * scale,
            height * scale,
            imageops::FilterType::Nearest,
        );
        imageops::replace(&mut page, &large, i64::from(x + GAP), i64::from(y + GAP));
    }
    page
}

/// Draws one row per class: its first `columns` images in the set.
#[must_use]
pub fn sheet_by_class(images: &Images, classes: usize, columns: usize) -> RgbImage {
    let mut indices = vec![usize::MAX; classes * columns];
    let mut filled = vec![0; classes];
    for (index, &label) in images.labels.iter().enumerate() {
        let class = usize::from(label);
        if class < classes && filled[class] < columns {
            indices[class * columns + filled[class]] = index;
            filled[class] += 1;
        }
    }
    sheet(images, &indices, columns)
}

fn picture(images: &Images, index: usize) -> RgbImage {
    let (height, width) = (images.shape.height, images.shape.width);
    let bytes = images.image(index);
    // One channel is shown as grey; of more than three, the first three.
    let channel = |c: usize| c.min(images.shape.channels - 1) * height * width;
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let place = y as usize * width + x as usize;
        Rgb([0, 1, 2].map(|c| bytes[channel(c) + place]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageShape;

    #[test]
    fn pictures_stand_in_their_cells_and_gaps_are_paper() {
        let shape = ImageShape::new(3, 2, 2);
        let pixels: Vec<u8> = [[10u8; 12], [20; 12], [30; 12]].concat();
        let images = Images::new(shape, pixels, vec![1, 0, 1]).unwrap();
        let page = sheet_by_class(&images, 2, 2);
        assert_eq!(page.dimensions(), (2 * 68 + 4, 2 * 68 + 4));
        let at = |column: u32, row: u32| page.get_pixel(4 + column * 68 + 30, 4 + row * 68 + 30).0;
        assert_eq!(at(0, 0), [20; 3]); // class 0 has one image
        assert_eq!(at(1, 0), PAPER.0);
        assert_eq!((at(0, 1), at(1, 1)), ([10; 3], [30; 3]));
        assert_eq!(page.get_pixel(0, 0), &PAPER);
        assert_eq!(sheet(&images, &[], 8).dimensions(), (72, 72));
    }
}
