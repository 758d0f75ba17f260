//! Class folders of JPEG and PNG files: a directory, or straight from an archive of one.
//!
//! ```text
//! [wrapper/] train/CLASS/….jpg + test/CLASS/….jpg     the test part as given
//! [wrapper/] CLASS/….jpg                              test_fraction of each class, stratified
//! [wrapper/] train/CLASS/….jpg                        the same; folders beside train/ are left out
//! ```
//!
//! - `val/` or `valid/` serves as the test part if there is no `test/`; beside one it is left out.
//! - Classes are the folder names in byte order; images are in order of path. Files in deeper folders
//!   belong to the class above them.
//! - The test part of a tree without one depends on the number of images alone, on no seed: runs with
//!   different seeds are judged on the same images.
//! - Images that all have one size keep it; otherwise they become 32×32, unless a size is given.
//! - Other files (`.DS_Store`, `Thumbs.db`, `README`, `__MACOSX/`) are ignored and counted in the
//!   notes. A file called `.jpg` or `.png` which does not decode is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fast_image_resize::Resizer;
use rayon::prelude::*;

use crate::archive::{self, Contents, Entry};
use crate::{DataError, Dataset, ImageShape, Images, OpenOptions, Split, decode};

/// The most bytes that one image file may have: 64 MiB.
const FILE_LIMIT: u64 = 64 << 20;
/// The side that images of unequal sizes are resized to.
const DEFAULT_SIDE: usize = 32;
/// Folder levels that are searched.
const DEPTH: usize = 16;

const TRAIN: [&str; 2] = ["train", "training"];
const TEST: [&str; 2] = ["test", "testing"];
const VALIDATION: [&str; 3] = ["val", "valid", "validation"];

/// Opens a directory or archive of class folders.
///
/// # Errors
/// If it holds no images, fewer than two classes, an empty class, a test class that is not trained,
/// or an image file that does not decode.
pub fn read(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    if !(options.test_fraction > 0.0 && options.test_fraction < 1.0) {
        return Err(DataError::option(
            "test fraction",
            options.test_fraction,
            "0 < fraction < 1",
        ));
    }
    let contents = archive::read(path, DEPTH, &|name| is_image(name).then_some(FILE_LIMIT))?;
    let mut notes = Vec::new();
    let Tree {
        train,
        test,
        classes,
    } = arrange(path, contents, &mut notes)?;
    let shape = common_shape(path, &train, &test, options.image_size, &mut notes)?;
    let train = decode_all(path, &train, shape)?;
    let (train, test) = match test {
        Some(test) => (train, decode_all(path, &test, shape)?),
        None => {
            let fraction = options.test_fraction;
            notes.push(format!(
                "no test folder: {fraction} of each class is the test part"
            ));
            let (rest, test) = set_aside(&train, classes.len(), fraction)?;
            notes.extend(too_small(&classes, &train, &test));
            (rest, test)
        }
    };
    if test.is_empty() {
        return Err(DataError::classes(path, "the test part has no image"));
    }
    Ok(Dataset {
        name: format!("folder:{}", path.display()),
        classes,
        train,
        test,
        notes,
    })
}

/// Whether a path looks like an image that a person put there.
fn is_image(path: &str) -> bool {
    let hidden = path
        .split('/')
        .any(|part| part.starts_with('.') || part == "__MACOSX");
    let extension = path
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    !hidden && matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png"))
}

/// Image files with their class numbers.
struct Labelled {
    files: Vec<(u16, Entry)>,
}

struct Tree {
    train: Labelled,
    test: Option<Labelled>,
    classes: Vec<String>,
}

/// Finds out which folders are parts and which are classes.
fn arrange(path: &Path, contents: Contents, notes: &mut Vec<String>) -> Result<Tree, DataError> {
    let Contents {
        files,
        folders,
        ignored,
    } = contents;
    note_ignored("not JPEG or PNG", &ignored, notes);
    if files.is_empty() {
        return Err(DataError::classes(path, "no JPEG or PNG file in it"));
    }
    let wrapper = wrapper(&files);
    let inside = |full: &str| full.strip_prefix(wrapper.as_str()).map(str::to_owned);
    let mut loose = Vec::new();
    let mut groups = BTreeMap::<String, Vec<Entry>>::new();
    for entry in files {
        match inside(&entry.path).and_then(|p| p.split_once('/').map(|(top, _)| top.to_owned())) {
            Some(top) => groups.entry(top).or_default().push(entry),
            None => loose.push(entry.path),
        }
    }
    let named = |names: &[&str], groups: &BTreeMap<String, Vec<Entry>>| {
        groups
            .keys()
            .find(|top| names.contains(&top.to_ascii_lowercase().as_str()))
            .cloned()
    };
    let (train, test, validation) = (
        named(&TRAIN, &groups),
        named(&TEST, &groups),
        named(&VALIDATION, &groups),
    );
    let parts = match (train, test.or(validation)) {
        (Some(train), Some(test)) => Some((train, Some(test))),
        // `train/` holds the classes if it is alone or has folders below it; otherwise it may well
        // be a class itself, as `test` may without it.
        (Some(train), None) if groups.len() == 1 || holds_classes(&wrapper, &train, &groups) => {
            Some((train, None))
        }
        _ => None,
    };
    let tree = match parts {
        None => {
            let files = groups.into_values().flatten().collect();
            let (train, classes) = label(path, &wrapper, files, &folders, None, &mut loose)?;
            Tree {
                train,
                test: None,
                classes,
            }
        }
        Some((train, test)) => {
            let mut take = |top: &str| groups.remove(top).unwrap_or_default();
            let below = |top: &str| format!("{wrapper}{top}/");
            let files = take(&train);
            let (labelled, classes) =
                label(path, &below(&train), files, &folders, None, &mut loose)?;
            let test = match test {
                None => None,
                Some(top) => {
                    if !TEST.contains(&top.to_ascii_lowercase().as_str()) {
                        notes.push(format!("no test folder: '{top}' is the test part"));
                    }
                    let files = take(&top);
                    let known = Some(classes.as_slice());
                    Some(label(path, &below(&top), files, &folders, known, &mut loose)?.0)
                }
            };
            let rest: Vec<String> = groups.into_values().flatten().map(|e| e.path).collect();
            let parts = match &test {
                Some(_) => "outside train and test".to_owned(),
                None => format!("outside '{train}'"),
            };
            note_ignored(&parts, &rest, notes);
            Tree {
                train: labelled,
                test,
                classes,
            }
        }
    };
    loose.sort();
    note_ignored("in no class folder", &loose, notes);
    if let Some(test) = &tree.test {
        for (number, class) in tree.classes.iter().enumerate() {
            if !test
                .files
                .iter()
                .any(|(label, _)| usize::from(*label) == number)
            {
                notes.push(format!("class '{class}' has no test image"));
            }
        }
    }
    Ok(tree)
}

/// Whether the images of the folder `top` lie in folders below it: two or more, or all in one.
fn holds_classes(wrapper: &str, top: &str, groups: &BTreeMap<String, Vec<Entry>>) -> bool {
    let root = format!("{wrapper}{top}/");
    let inside = groups.get(top).into_iter().flatten();
    let folders: BTreeSet<Option<&str>> = inside
        .filter_map(|entry| entry.path.strip_prefix(&root))
        .map(|rest| rest.split_once('/').map(|(folder, _)| folder))
        .collect();
    folders.iter().flatten().count() >= 2 || !folders.contains(&None)
}

fn note_ignored(why: &str, paths: &[String], notes: &mut Vec<String>) {
    if let Some(first) = paths.first() {
        let files = if paths.len() == 1 { "file" } else { "files" };
        notes.push(format!(
            "ignored {} {files} {why}, such as '{first}'",
            paths.len()
        ));
    }
}

/// The folders that everything lies in, ending in `/`: stripped as long as classes remain below.
fn wrapper(files: &[Entry]) -> String {
    let mut prefix = String::new();
    loop {
        let deep: Vec<Vec<&str>> = files
            .iter()
            .filter_map(|entry| entry.path.strip_prefix(&prefix))
            .map(|rest| rest.split('/').collect::<Vec<_>>())
            .filter(|parts| parts.len() >= 2)
            .collect();
        let Some(first) = deep.first().map(|parts| parts[0]) else {
            return prefix;
        };
        let is_part = TRAIN.contains(&first.to_ascii_lowercase().as_str());
        if is_part
            || deep
                .iter()
                .any(|parts| parts[0] != first || parts.len() < 3)
        {
            return prefix;
        }
        prefix = format!("{prefix}{first}/");
    }
}

/// Gives each file of one part the number of its class folder.
///
/// `known` are the training classes, for a test part.
fn label(
    path: &Path,
    root: &str,
    files: Vec<Entry>,
    folders: &[String],
    known: Option<&[String]>,
    loose: &mut Vec<String>,
) -> Result<(Labelled, Vec<String>), DataError> {
    let mut members = BTreeMap::<String, Vec<Entry>>::new();
    for entry in files {
        match entry
            .path
            .strip_prefix(root)
            .and_then(|rest| rest.split_once('/'))
        {
            Some((class, _)) => members.entry(class.to_owned()).or_default().push(entry),
            None => loose.push(entry.path),
        }
    }
    for folder in folders
        .iter()
        .filter_map(|folder| folder.strip_prefix(root))
    {
        let class = !folder.is_empty() && !folder.contains('/') && !folder.starts_with('.');
        if class && folder != "__MACOSX" && !members.contains_key(folder) {
            let problem = "empty class: no JPEG or PNG file in it";
            return Err(DataError::entry(path, format!("{root}{folder}"), problem));
        }
    }
    let classes: Vec<String> = match known {
        Some(known) => known.to_vec(),
        None => members.keys().cloned().collect(),
    };
    match classes.as_slice() {
        [] => {
            return Err(DataError::classes(
                path,
                format!("no class folder in '{root}'"),
            ));
        }
        [only] => {
            let problem = format!("one class only ('{only}'): expected at least two class folders");
            return Err(DataError::classes(path, problem));
        }
        many if many.len() > usize::from(u16::MAX) => {
            let problem = format!("{} classes: expected at most 65535", many.len());
            return Err(DataError::classes(path, problem));
        }
        _ => {}
    }
    let mut labelled = Vec::new();
    for (class, entries) in members {
        let number = classes
            .iter()
            .position(|known| *known == class)
            .ok_or_else(|| {
                let problem = "a test class without training images";
                DataError::entry(path, format!("{root}{class}"), problem)
            })?;
        labelled.extend(entries.into_iter().map(|entry| (number as u16, entry)));
    }
    Ok((Labelled { files: labelled }, classes))
}

/// The shape that every image will have, from the headers alone.
fn common_shape(
    path: &Path,
    train: &Labelled,
    test: &Option<Labelled>,
    wanted: Option<usize>,
    notes: &mut Vec<String>,
) -> Result<ImageShape, DataError> {
    let files: Vec<&Entry> = train
        .files
        .iter()
        .chain(test.iter().flat_map(|t| &t.files))
        .map(|(_, e)| e)
        .collect();
    let sizes = files
        .par_iter()
        .map(|entry| decode::size(path, &entry.path, &entry.bytes))
        .collect::<Result<Vec<_>, _>>()?;
    let (height, width) = sizes[0]; // arrange() refuses a tree without files
    let equal = sizes.iter().all(|&size| size == (height, width));
    let (height, width) = match wanted {
        Some(side) => (side, side),
        None if equal => (height, width),
        None => (DEFAULT_SIDE, DEFAULT_SIDE),
    };
    if sizes.iter().any(|&size| size != (height, width)) {
        let (low, high) = (sizes.iter().min(), sizes.iter().max());
        if let (Some(low), Some(high)) = (low, high) {
            notes.push(format!(
                "images of {}×{} … {}×{} (height×width) resized to {height}×{width}, centre kept",
                low.0, low.1, high.0, high.1
            ));
        }
    }
    Ok(ImageShape::new(3, height, width))
}

fn decode_all(path: &Path, part: &Labelled, shape: ImageShape) -> Result<Images, DataError> {
    let mut pixels = decode::buffer("the images", part.files.len(), shape)?;
    pixels
        .par_chunks_exact_mut(shape.bytes())
        .zip(&part.files)
        .try_for_each_init(Resizer::new, |resizer, (out, (_, entry))| {
            decode::decode(path, &entry.path, &entry.bytes)?.write(resizer, shape, out);
            Ok::<(), DataError>(())
        })?;
    Images::new(
        shape,
        pixels,
        part.files.iter().map(|(label, _)| *label).collect(),
    )
}

/// Says which classes of one tree are too small for a test image.
fn too_small(classes: &[String], all: &Images, test: &Images) -> Option<String> {
    let (counts, tested) = (
        all.class_counts(classes.len()),
        test.class_counts(classes.len()),
    );
    let small: Vec<usize> = (0..classes.len())
        .filter(|&class| tested[class] == 0)
        .collect();
    let &first = small.first()?;
    Some(format!(
        "{} of {} classes too small for a test image, such as '{}' ({} in all): \
         add images or raise the test fraction",
        small.len(),
        classes.len(),
        classes[first],
        counts[first]
    ))
}

/// Divides one tree into training and test images, the same way for every run.
fn set_aside(all: &Images, classes: usize, fraction: f64) -> Result<(Images, Images), DataError> {
    let split = Split::stratified(&all.labels, classes, 0, fraction)?;
    let pick = |positions: &[u32]| {
        let pixels = positions
            .iter()
            .flat_map(|&i| all.image(i as usize))
            .copied()
            .collect();
        let labels = positions.iter().map(|&i| all.label(i as usize)).collect();
        Images::new(all.shape, pixels, labels)
    };
    Ok((pick(&split.train)?, pick(&split.validation)?))
}
