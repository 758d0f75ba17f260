//! Image-classification data sets, augmentation and a deterministic loader.
