//! `evaluation.json`: what the trained model does on the test set.

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;

use super::numbers::{lenient, nan};
use crate::ReportError;
use crate::draw::Pixels;

/// Scores, confusion matrix and worst mistakes of one split.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Split's name, "test" as a rule.
    pub split: String,
    /// Number of images.
    pub n: u64,
    /// Mean loss.
    pub loss: f64,
    /// Top-1 accuracy in `[0, 1]`.
    pub accuracy: f64,
    /// Top-5 accuracy in `[0, 1]`; NaN if not recorded.
    pub top5: f64,
    /// Class names, K of them.
    pub classes: Vec<String>,
    /// `[K][K]` counts, row = true class, column = predicted class. Empty if not recorded.
    pub confusion: Vec<Vec<u64>>,
    /// One row a class; counted from the confusion matrix where the file has none.
    pub per_class: Vec<ClassScore>,
    /// Worst first.
    pub mistakes: Vec<Mistake>,
}

/// How one class fares.
#[derive(Debug, Clone, Deserialize)]
pub struct ClassScore {
    /// Its name.
    pub class: String,
    /// Images of this class.
    pub n: u64,
    /// Of these, classified right.
    pub correct: u64,
    /// `correct / n`, the recall; NaN for an empty class.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub accuracy: f64,
    /// Of the images given this class, the share that belongs to it; NaN if there are none.
    #[serde(default = "nan", deserialize_with = "lenient")]
    pub precision: f64,
}

/// One image that was classified wrongly.
#[derive(Debug, Clone)]
pub struct Mistake {
    /// Index in the split.
    pub index: u64,
    /// True class's name.
    pub truth: String,
    /// Predicted class's name.
    pub predicted: String,
    /// Probability given to the predicted class, in `[0, 1]`.
    pub probability: f64,
    /// Loss of this image.
    pub loss: f64,
    /// The image itself.
    pub image: Pixels,
}

impl Evaluation {
    /// The pairs most often confused, as `(true, predicted, count)` class indices, most frequent
    /// first.
    #[must_use]
    pub fn most_confused(&self, limit: usize) -> Vec<(usize, usize, u64)> {
        let mut pairs: Vec<_> = (0..self.confusion.len())
            .flat_map(|t| (0..self.confusion.len()).map(move |p| (t, p)))
            .filter(|(t, p)| t != p)
            .map(|(t, p)| (t, p, self.confusion[t][p]))
            .filter(|&(_, _, count)| count > 0)
            .collect();
        pairs.sort_by_key(|&(t, p, count)| (std::cmp::Reverse(count), t, p));
        pairs.truncate(limit);
        pairs
    }
}

/// Trainers may name a class by its index or by its name.
#[derive(Deserialize)]
#[serde(untagged)]
enum ClassRef {
    Index(usize),
    Name(String),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    split: Option<String>,
    #[serde(default)]
    n: Option<u64>,
    #[serde(default = "nan", deserialize_with = "lenient")]
    loss: f64,
    #[serde(default = "nan", deserialize_with = "lenient")]
    accuracy: f64,
    #[serde(default = "nan", deserialize_with = "lenient")]
    top5: f64,
    classes: Vec<String>,
    #[serde(default)]
    confusion: Vec<Vec<u64>>,
    #[serde(default)]
    per_class: Vec<ClassScore>,
    #[serde(default)]
    mistakes: Vec<WrittenMistake>,
}

#[derive(Deserialize)]
struct WrittenMistake {
    index: u64,
    #[serde(rename = "true")]
    truth: ClassRef,
    predicted: ClassRef,
    #[serde(default = "nan", deserialize_with = "lenient")]
    probability: f64,
    #[serde(default = "nan", deserialize_with = "lenient")]
    loss: f64,
    image: WrittenImage,
}

#[derive(Deserialize)]
struct WrittenImage {
    shape: [usize; 3],
    pixels: String,
}

pub(super) fn read(path: &Path) -> Result<Option<Evaluation>, ReportError> {
    let Some(file) = super::json::<File>(path)? else {
        return Ok(None);
    };
    check(file)
        .map(Some)
        .map_err(|problem| ReportError::malformed(path, None, problem))
}

fn check(file: File) -> Result<Evaluation, String> {
    let classes = file.classes;
    let k = classes.len();
    if !file.confusion.is_empty() {
        if file.confusion.len() != k {
            return Err(format!(
                "`confusion`: expected {k} rows, one a class, found {}",
                file.confusion.len()
            ));
        }
        if let Some(row) = file.confusion.iter().position(|row| row.len() != k) {
            let found = file.confusion[row].len();
            return Err(format!(
                "`confusion` row {row}: expected {k} columns, found {found}"
            ));
        }
    }
    let name = |class: ClassRef| match class {
        ClassRef::Name(name) => Ok(name),
        ClassRef::Index(i) => classes.get(i).cloned().ok_or_else(|| {
            format!("class {i} in `mistakes`: expected an index below {k}, the number of classes")
        }),
    };
    let mut mistakes = Vec::with_capacity(file.mistakes.len());
    for (i, m) in file.mistakes.into_iter().enumerate() {
        let bytes = BASE64_STANDARD
            .decode(m.image.pixels.as_bytes())
            .map_err(|e| format!("`mistakes[{i}].image.pixels`: not base64: {e}"))?;
        let image = Pixels::from_planes(m.image.shape, &bytes)
            .map_err(|e| format!("`mistakes[{i}].image`: {e}"))?;
        mistakes.push(Mistake {
            index: m.index,
            truth: name(m.truth)?,
            predicted: name(m.predicted)?,
            probability: m.probability,
            loss: m.loss,
            image,
        });
    }
    let mut per_class = if file.per_class.is_empty() {
        scores(&classes, &file.confusion)
    } else {
        file.per_class
    };
    // 0 of 0 is no share, whatever was written for it.
    for class in per_class.iter_mut().filter(|c| c.n == 0) {
        class.accuracy = f64::NAN;
    }
    Ok(Evaluation {
        split: file.split.unwrap_or_else(|| "test".into()),
        n: file
            .n
            .unwrap_or_else(|| file.confusion.iter().flatten().sum()),
        loss: file.loss,
        accuracy: file.accuracy,
        top5: file.top5,
        classes,
        confusion: file.confusion,
        per_class,
        mistakes,
    })
}

/// Recall and precision of each class: `C[k][k] / Σⱼ C[k][j]` and `C[k][k] / Σᵢ C[i][k]`.
fn scores(classes: &[String], confusion: &[Vec<u64>]) -> Vec<ClassScore> {
    let rows = confusion.iter().zip(classes).enumerate();
    rows.map(|(k, (row, class))| {
        let n: u64 = row.iter().sum();
        let given: u64 = confusion.iter().map(|r| r[k]).sum();
        ClassScore {
            class: class.clone(),
            n,
            correct: row[k],
            accuracy: row[k] as f64 / n as f64,
            precision: row[k] as f64 / given as f64,
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(json: &str) -> Result<Evaluation, String> {
        check(serde_json::from_str(json).map_err(|e| e.to_string())?)
    }

    #[test]
    fn scores_are_counted_from_the_matrix() {
        let e = checked(r#"{"classes":["a","b"],"confusion":[[3,1],[2,4]]}"#).unwrap();
        assert_eq!(e.n, 10);
        assert_eq!(e.per_class[0].accuracy, 0.75);
        assert_eq!(e.per_class[0].precision, 0.6);
        assert_eq!(e.most_confused(5), [(1, 0, 2), (0, 1, 1)]);
    }

    #[test]
    fn a_class_without_images_has_no_accuracy() {
        let counted = r#"{"classes":["a","b"],"confusion":[[3,0],[0,0]]}"#;
        let null = r#"{"classes":["a","b"],"per_class":[
            {"class":"a","n":3,"correct":3,"accuracy":1.0,"precision":1.0},
            {"class":"b","n":0,"correct":0,"accuracy":null,"precision":null}]}"#;
        let zero = null.replace("null", "0.0");
        for json in [counted, null, &zero] {
            let e = checked(json).unwrap();
            assert_eq!(e.per_class[0].accuracy, 1.0);
            assert!(e.per_class[1].accuracy.is_nan(), "{json}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let ragged = checked(r#"{"classes":["a","b"],"confusion":[[3,1],[2]]}"#).unwrap_err();
        assert_eq!(ragged, "`confusion` row 1: expected 2 columns, found 1");
        let image = r#"{"classes":["a"],"mistakes":[{"index":0,"true":0,"predicted":"a",
            "image":{"shape":[3,2,2],"pixels":"AAAA"}}]}"#;
        assert!(checked(image).unwrap_err().contains("`mistakes[0].image`"));
        let class = r#"{"classes":["a"],"mistakes":[{"index":0,"true":7,"predicted":0,
            "image":{"shape":[1,1,1],"pixels":"AA=="}}]}"#;
        assert!(checked(class).unwrap_err().contains("index below 1"));
    }
}
