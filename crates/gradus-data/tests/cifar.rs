//! The binary readers: exact on the authors' records, and clear about everything else.

#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too

mod common;

use common::{gz, open, place, plant, refusal, shared, tar, tar_entry, xz, zip};
use gradus_data::{DataError, DataSpec, OpenOptions, verify};

/// Records of CIFAR-10 with pixel bytes that tell record and place.
fn records(labels: &[u8]) -> Vec<u8> {
    let record = |(n, &label): (usize, &u8)| {
        std::iter::once(label)
            .chain((0..3072).map(move |p| (p * 7 + n * 31) as u8))
            .collect::<Vec<_>>()
    };
    labels.iter().enumerate().flat_map(record).collect()
}

fn tiny_cifar10() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("cifar-10-batches-bin/data_batch_1.bin", records(&[3, 9])),
        ("cifar-10-batches-bin/data_batch_3.bin", records(&[0])),
        ("cifar-10-batches-bin/test_batch.bin", records(&[1, 2])),
    ]
}

fn borrowed<'a>(files: &'a [(&'static str, Vec<u8>)]) -> Vec<(&'a str, &'a [u8])> {
    files
        .iter()
        .map(|(name, body)| (*name, body.as_slice()))
        .collect()
}

/// The refusal of a tiny set whose first batch is `batch`.
fn with_batch(batch: &[u8]) -> String {
    let mut files = tiny_cifar10();
    files[0].1 = batch.to_vec();
    let (_folder, path) = place("x.tar", &tar(&borrowed(&files)));
    refusal("cifar10", &path)
}

#[test]
fn the_authors_sample_is_read_exactly_as_it_is_and_unpacked() {
    let Some(sample) = shared("cifar10-binary-sample.tar.xz") else {
        return;
    };
    // The reference: the tar crate and slices, nothing of ours.
    let mut raw = std::collections::BTreeMap::new();
    let file = std::io::BufReader::new(std::fs::File::open(&sample).unwrap());
    let mut archive = tar::Archive::new(lzma_rust2::XzReader::new(file, true));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry
            .path()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        raw.insert(name, bytes);
    }
    let packed = open(&format!("cifar10:{}", sample.display())).unwrap();
    assert_eq!((packed.train.len(), packed.test.len()), (1500, 300));
    assert_eq!(packed.classes[0], "airplane");
    assert_eq!(packed.classes[9], "truck");
    assert_eq!(packed.notes.len(), 6, "{:?}", packed.notes);
    assert_eq!(
        packed.notes[0],
        "data_batch_1.bin: 300 of the 10000 published records"
    );
    let train: Vec<&[u8]> = (1..=5)
        .flat_map(|n| raw[&format!("data_batch_{n}.bin")].chunks_exact(3073))
        .collect();
    for (images, records) in [
        (&packed.train, train),
        (
            &packed.test,
            raw["test_batch.bin"].chunks_exact(3073).collect(),
        ),
    ] {
        assert_eq!(images.len(), records.len());
        for (i, record) in records.into_iter().enumerate() {
            assert_eq!(images.label(i), u16::from(record[0]));
            assert_eq!(images.image(i), &record[1..]);
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("cifar-10-batches-bin");
    std::fs::create_dir(&inner).unwrap();
    for (name, bytes) in &raw {
        std::fs::write(inner.join(name), bytes).unwrap();
    }
    for place in [folder.path(), inner.as_path()] {
        let unpacked = open(&format!("cifar10:{}", place.display())).unwrap();
        assert_eq!(unpacked.fingerprint(), packed.fingerprint());
        assert_eq!(unpacked.classes, packed.classes);
    }
    // As the data folder, without a path.
    let options = OpenOptions {
        data_dir: Some(folder.path().into()),
        ..OpenOptions::default()
    };
    let found = verify(&"cifar10".parse().unwrap(), &options).unwrap();
    assert_eq!(found.fingerprint, packed.fingerprint());
    assert_eq!(found.published_checksum, None);
    assert_eq!(found.classes.iter().map(|(_, n)| n).sum::<usize>(), 1500);
}

#[test]
fn every_wrapping_of_the_same_files_gives_the_same_set() {
    let files = tiny_cifar10();
    let files = borrowed(&files);
    let plain = tar(&files);
    let mut prints = Vec::new();
    // The names lie: the first bytes decide.
    for (name, bytes) in [
        ("a.tar", plain.clone()),
        ("b.tar", gz(&plain)),
        ("c.zip", xz(&plain)),
        ("d", zip(&files)),
    ] {
        let (_folder, path) = place(name, &bytes);
        let data = open(&format!("cifar10:{}", path.display())).unwrap();
        assert_eq!(data.train.labels, [3, 9, 0]);
        assert_eq!(
            data.notes.last().unwrap(),
            "test_batch.bin: 2 of the 10000 published records"
        );
        assert!(data.notes.contains(
            &"not there: data_batch_2.bin, data_batch_4.bin, data_batch_5.bin".to_owned()
        ));
        prints.push(data.fingerprint());
    }
    // A folder that holds the archive under its published name.
    let (folder, _) = place("cifar-10-binary.tar.gz", &gz(&plain));
    prints.push(
        open(&format!("cifar10:{}", folder.path().display()))
            .unwrap()
            .fingerprint(),
    );
    assert!(prints.iter().all(|print| *print == prints[0]));
}

#[test]
fn cifar100_has_fine_and_coarse_labels() {
    let record = |coarse: u8, fine: u8| [vec![coarse, fine], vec![fine; 3072]].concat();
    let train = [record(4, 0), record(19, 99)].concat();
    let (_folder, path) = place(
        "x.tar.gz",
        &gz(&tar(&[
            ("cifar-100-binary/train.bin", &train),
            ("cifar-100-binary/test.bin", &record(1, 2)),
        ])),
    );
    let fine = open(&format!("cifar100:{}", path.display())).unwrap();
    assert_eq!(
        (fine.train.labels.as_slice(), fine.test.labels.as_slice()),
        (&[0, 99][..], &[2][..])
    );
    assert_eq!(
        (fine.classes.len(), fine.classes[99].as_str()),
        (100, "worm")
    );
    assert_eq!(fine.train.image(1), [99; 3072]);
    let coarse = open(&format!("cifar100-coarse:{}", path.display())).unwrap();
    assert_eq!(coarse.train.labels, [4, 19]);
    assert_eq!(
        (coarse.classes.len(), coarse.classes[4].as_str()),
        (20, "fruit_and_vegetables")
    );
    assert_eq!(coarse.train.pixels, fine.train.pixels);
    // The label that is not asked for is checked too.
    let (_folder, path) = place(
        "x.tar",
        &tar(&[("train.bin", &record(20, 5)), ("test.bin", &train)]),
    );
    assert_eq!(
        refusal("cifar100", &path),
        ": train.bin at byte 0: label 20 of record 0: expected below 20"
    );
}

#[test]
fn class_names_come_from_the_set_if_it_has_them() {
    let mut files = tiny_cifar10();
    files.push((
        "cifar-10-batches-bin/batches.meta.txt",
        b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n".to_vec(),
    ));
    let (_folder, path) = place("x.tar", &tar(&borrowed(&files)));
    let data = open(&format!("cifar10:{}", path.display())).unwrap();
    assert_eq!(data.classes.concat(), "abcdefghij");
    files.last_mut().unwrap().1 = b"only\nthree\nnames\n".to_vec();
    let (_folder, path) = place("x.tar", &tar(&borrowed(&files)));
    assert_eq!(
        refusal("cifar10", &path),
        ": cifar-10-batches-bin/batches.meta.txt: 3 class names: expected 10"
    );
}

#[test]
fn malformed_records_are_named_with_file_and_offset() {
    let file = ": cifar-10-batches-bin/data_batch_1.bin";
    assert_eq!(
        with_batch(&records(&[3, 9])[..5000]),
        format!(
            "{file} at byte 3073: 5000 bytes are not a whole number of 3073-byte records: \
             1927 bytes left over"
        )
    );
    assert_eq!(
        with_batch(&records(&[3, 10])),
        format!("{file} at byte 3073: label 10 of record 1: expected below 10")
    );
    assert_eq!(
        with_batch(&[]),
        format!("{file} at byte 0: no record: expected 3073 bytes each")
    );
}

#[test]
fn sets_that_are_no_classification_problem_are_refused() {
    let one = [
        ("data_batch_1.bin", records(&[4, 4, 4])),
        ("test_batch.bin", records(&[1])),
    ];
    let (_folder, path) = place("x.tar", &tar(&borrowed(&one)));
    assert_eq!(
        refusal("cifar10", &path),
        ": one class only: every training label is 4 (deer)"
    );
    let (_folder, path) = place("x.tar", &tar(&[("test_batch.bin", &records(&[1]))]));
    assert!(refusal("cifar10", &path).starts_with(": none of data_batch_1.bin, "));
    let (_folder, path) = place("x.tar", &tar(&[("data_batch_1.bin", &records(&[1]))]));
    assert_eq!(
        refusal("cifar10", &path),
        ": no test_batch.bin in it (nor one folder below): not cifar10"
    );
    let two = [
        ("a/test_batch.bin", records(&[1])),
        ("b/test_batch.bin", records(&[1])),
    ];
    let (_folder, path) = place("x.tar", &tar(&borrowed(&two)));
    assert_eq!(
        refusal("cifar10", &path),
        ": two sets in it, 'a/' and 'b/': name one of them"
    );
    let folder = tempfile::tempdir().unwrap();
    plant(folder.path(), &[("readme.txt", b"nothing here")]);
    assert!(refusal("cifar10", folder.path()).contains("no test_batch.bin"));
}

#[test]
fn a_batch_longer_than_published_is_refused_before_it_is_stored() {
    // A header that promises 40 MB in a file of 1.5 kB.
    let mut entry = tar_entry(b'0', b"test_batch.bin", b"", &[]);
    entry[124..135].copy_from_slice(format!("{:011o}", 40_000_000).as_bytes());
    common::seal(&mut entry);
    entry.resize(1536, 0);
    let (_folder, path) = place("x.tar", &entry);
    assert_eq!(
        refusal("cifar10", &path),
        ": entry 'test_batch.bin': longer than the 30730000 bytes that such a file may have"
    );
}

#[test]
fn a_missing_set_says_where_it_looked_and_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions {
        data_dir: Some(folder.path().into()),
        ..OpenOptions::default()
    };
    let error = "cifar10"
        .parse::<DataSpec>()
        .unwrap()
        .open(&options)
        .unwrap_err();
    let root = folder.path().display();
    assert_eq!(
        error.to_string(),
        format!(
            "cifar10 was not found.\n\
             Looked for: {root}/cifar-10-batches-bin, {root}/cifar-10-binary.tar.gz\n\
             Fetch it:   gradus data fetch cifar10\n\
             By hand:    put https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz \
             (170052171 bytes, MD5 c32a1d4ab5d03f1284b67883e8d87530) at {root}/cifar-10-binary.tar.gz"
        )
    );
    let error = open("cifar10:/no/such/place").unwrap_err();
    assert!(matches!(error, DataError::NotFound { .. }));
    assert_eq!(error.to_string(), "/no/such/place: no such file or folder");
}

#[test]
fn a_file_that_only_bears_the_published_name_fails_verification() {
    let (folder, path) = place("cifar-10-binary.tar.gz", b"not it");
    let options = OpenOptions {
        data_dir: Some(folder.path().into()),
        ..OpenOptions::default()
    };
    let error = verify(&"cifar10".parse().unwrap(), &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: size is 6 bytes, published is 170052171 bytes; \
             delete it and run 'gradus data fetch cifar10'",
            path.display()
        )
    );
}
