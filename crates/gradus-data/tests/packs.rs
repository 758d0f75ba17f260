//! A pack is read back as it was written, and no damage goes unnoticed.

#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too

mod common;

use common::{open, place};
use gradus_data::{Dataset, ImageShape, Images, pack};

fn tiny() -> Dataset {
    let shape = ImageShape::new(3, 2, 2);
    Dataset {
        name: "tiny".into(),
        classes: vec!["a".into(), "b".into()],
        train: Images::new(shape, (0..24).collect(), vec![0, 1]).unwrap(),
        test: Images::new(shape, (50..62).collect(), vec![1]).unwrap(),
        notes: vec!["a note".into()],
    }
}

fn packed() -> Vec<u8> {
    let (_folder, path) = place("x", b"");
    pack::write(&tiny(), &path).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn a_pack_is_read_back_by_both_names() {
    let (_folder, path) = place("x.gradus", &packed());
    for kind in ["pack", "folder"] {
        let data = open(&format!("{kind}:{}", path.display())).unwrap();
        assert_eq!(
            Dataset {
                name: "tiny".into(),
                ..data
            },
            tiny()
        );
    }
    assert!(pack::is_pack(&path));
    // Nothing but the pack is left in the folder.
    assert_eq!(
        std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
        1
    );
    assert_eq!(packed(), packed());
}

#[test]
fn every_truncation_and_every_flipped_bit_is_noticed() {
    let bytes = packed();
    let (_folder, path) = place("x.gradus", b"");
    for cut in 0..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(pack::read(&path).is_err(), "cut at {cut}");
    }
    let reference = tiny();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            std::fs::write(&path, &flipped).unwrap();
            // A flip inside a name in the header is a name; pixels and labels stay what they were.
            if let Ok(data) = pack::read(&path) {
                assert_eq!(
                    data.fingerprint(),
                    reference.fingerprint(),
                    "bit {bit} of byte {at}"
                );
            }
        }
    }
    let longer = [bytes, vec![0]].concat();
    std::fs::write(&path, &longer).unwrap();
    assert!(
        pack::read(&path)
            .unwrap_err()
            .to_string()
            .contains("but its header promises")
    );
}

#[test]
fn each_lie_has_its_message() {
    let bytes = packed();
    let refuse = |bytes: &[u8]| {
        let (_folder, path) = place("x.gradus", bytes);
        pack::read(&path)
            .unwrap_err()
            .to_string()
            .split_once("x.gradus")
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(
        refuse(b"something"),
        " at byte 0: not a pack: it does not start with 'GRADUSPK'"
    );
    assert_eq!(refuse(&bytes[..12]), " at byte 8: truncated pack: 12 bytes");
    let mut huge = bytes.clone();
    huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(
        refuse(&huge),
        format!(
            " at byte 8: a header of {} bytes in a file of {}",
            u64::MAX,
            bytes.len()
        )
    );
    let mut pixel = bytes.clone();
    *pixel.last_mut().unwrap() ^= 1;
    assert!(refuse(&pixel).contains(": damaged: SHA-256 "));
    let field = b"\"train\":2";
    let at = bytes
        .windows(field.len())
        .position(|window| window == field)
        .unwrap();
    let mut count = bytes.clone();
    count[at + 8] = b'9';
    assert!(refuse(&count).contains("but its header promises"));
    let (_folder, path) = place("x.gradus", b"");
    let mut wrong = tiny();
    wrong.train.labels[0] = 2;
    pack::write(&wrong, &path).unwrap();
    let message = pack::read(&path).unwrap_err().to_string();
    assert!(
        message.ends_with("training label 2: expected below 2"),
        "{message}"
    );
}

#[test]
fn only_three_channels_are_packed_and_read() {
    let bytes = packed();
    let field = b"\"channels\":3";
    let at = bytes
        .windows(field.len())
        .position(|window| window == field)
        .unwrap();
    for (count, digit) in [(1, b'1'), (4, b'4')] {
        let mut other = bytes.clone();
        other[at + field.len() - 1] = digit;
        let (_folder, path) = place("x.gradus", &other);
        let message = pack::read(&path).unwrap_err().to_string();
        let expected = format!("at byte 16: images of {count}×2×2, {count} channels: expected 3");
        assert!(message.contains(&expected), "{message}");
        // What cannot be read back is not written either.
        let shape = ImageShape::new(count, 2, 2);
        let images = Images::new(shape, vec![0; 2 * shape.bytes()], vec![0, 1]).unwrap();
        let set = Dataset {
            train: images.clone(),
            test: images,
            ..tiny()
        };
        let message = pack::write(&set, &path).unwrap_err().to_string();
        assert!(message.contains("channels: expected 3"), "{message}");
    }
}
