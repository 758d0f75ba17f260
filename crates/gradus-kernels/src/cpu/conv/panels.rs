//! Weights in the order in which a tile reads them: a few vectors of output channels for each number
//! of the reduction.

use super::super::simd::{Level, level};

/// Some neighbouring output channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panel {
    /// The first channel.
    pub(super) first: usize,
    /// Channels, at most `vectors · lanes`.
    pub(super) width: usize,
    /// Vectors that hold them.
    pub(super) vectors: usize,
}

/// Numbers in a vector of the instruction set in use.
pub(super) fn lanes() -> usize {
    if level() == Level::Avx512 { 16 } else { 8 }
}

/// Cut `channels` into panels of `most` vectors or a little less, as even as can be.
pub(super) fn cut(channels: usize, most: usize) -> Vec<Panel> {
    let lanes = lanes();
    let vectors = channels.div_ceil(lanes);
    let count = vectors.div_ceil(most).max(1);
    let mut panels = Vec::with_capacity(count);
    let mut first = 0;
    for i in 0..count {
        let vectors = vectors / count + usize::from(i < vectors % count);
        let width = (vectors * lanes).min(channels - first);
        panels.push(Panel {
            first,
            width,
            vectors,
        });
        first += width;
    }
    panels
}

/// Where the weights of a product lie: weight of output channel n, reduced channel i and tap t is
/// `data[start + n·out_step + i·in_step + t]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) data: &'a [f32],
    pub(super) start: usize,
    pub(super) out_step: usize,
    pub(super) in_step: usize,
    /// Reduced channels.
    pub(super) channels: usize,
}

/// `to[tap, channel, vectors·lanes]` of one panel, zero beyond its width.
pub(super) fn pack(source: &Source<'_>, panel: &Panel, taps: &[usize], to: &mut [f32]) {
    let wide = panel.vectors * lanes();
    for (t, tap) in taps.iter().enumerate() {
        for i in 0..source.channels {
            let from = source.start + panel.first * source.out_step + i * source.in_step + tap;
            let row = &mut to[(t * source.channels + i) * wide..][..wide];
            for (n, value) in row.iter_mut().enumerate() {
                *value = if n < panel.width {
                    source.data[from + n * source.out_step]
                } else {
                    0.0
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_every_channel_once() {
        for channels in 1..300 {
            for most in 1..=4 {
                let mut next = 0;
                for panel in cut(channels, most) {
                    assert_eq!(panel.first, next);
                    assert!(panel.vectors >= 1 && panel.vectors <= most);
                    assert!(panel.width > (panel.vectors - 1) * lanes());
                    assert!(panel.width <= panel.vectors * lanes());
                    next += panel.width;
                }
                assert_eq!(next, channels);
            }
        }
    }
}
