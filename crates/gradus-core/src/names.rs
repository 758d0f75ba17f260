//! The nearest known names to a misspelt one.
//!
//! ```text
//! likeness(a, b) = 1 − d(a, b) / max(|a|, |b|)
//! ```
//!
//! where d is the Damerau–Levenshtein distance (insertions, deletions, replacements and swaps of
//! neighbours; Damerau 1964) of the words in lower case with `-` written `_`. A known name that
//! begins with what was typed counts as near, too.

/// Names at least this like the one that was typed are suggested.
const LIKENESS: f64 = 0.5;

/// Names less like it than the nearest one by more than this are not.
const MARGIN: f64 = 0.1;

/// Up to three of the `known` names, the nearest first.
///
/// ```
/// use gradus_core::names::nearest;
/// assert_eq!(nearest("resent20", ["linear", "resnet20", "resnet32"])[0], "resnet20");
/// assert!(nearest("zebra", ["linear", "mlp"]).is_empty());
/// ```
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let typed = normal(name);
    if typed.is_empty() {
        return Vec::new();
    }
    let mut ranked: Vec<(f64, &str)> = known
        .into_iter()
        .map(|known| {
            let likeness = strsim::normalized_damerau_levenshtein(&typed, &normal(known));
            let begins = normal(known).starts_with(&typed);
            (
                if begins {
                    likeness.max(LIKENESS)
                } else {
                    likeness
                },
                known,
            )
        })
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .collect();
    // A stable sort: of equally near names the earlier comes first.
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = ranked.first().map_or(1.0, |(likeness, _)| *likeness);
    ranked.retain(|(likeness, _)| *likeness >= best - MARGIN);
    ranked.into_iter().take(3).map(|(_, known)| known).collect()
}

/// A phrase such as `did you mean cnn or mlp?`, or nothing when no name is near.
///
/// ```
/// use gradus_core::names::did_you_mean;
/// assert_eq!(did_you_mean("flx", ["flex", "cuda"]), "did you mean flex?");
/// ```
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, known)[..] {
        [] => String::new(),
        ref near => format!("did you mean {}?", near.join(" or ")),
    }
}

/// The form of a name that is compared: lower case, `-` as `_`.
#[must_use]
pub fn normal(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_missing_and_wrong_letters_are_found() {
        let known = ["sgd", "adam", "adamw", "cross-entropy", "label_smoothing"];
        for (typed, meant) in [
            ("sdg", "sgd"),
            ("adm", "adam"),
            ("Cross_Entropie", "cross-entropy"),
            ("label-smothing", "label_smoothing"),
            ("label", "label_smoothing"),
        ] {
            assert_eq!(nearest(typed, known).first(), Some(&meant), "{typed}");
        }
    }

    #[test]
    fn a_clear_winner_stands_alone_and_equals_stand_together() {
        assert_eq!(nearest("cifar-10", ["cifar10", "cifar100"]), ["cifar10"]);
        assert_eq!(nearest("adam_", ["adamw", "adamx"]), ["adamw", "adamx"]);
    }

    #[test]
    fn nonsense_and_nothing_suggest_nothing() {
        assert!(nearest("xyzzy", ["sgd", "adam"]).is_empty());
        assert!(nearest("", ["sgd", "adam"]).is_empty());
    }
}
