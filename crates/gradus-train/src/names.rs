//! Suggestions for a misspelt name.

/// A clause such as ` (did you mean resnet20?)`, or nothing when no known name is near.
///
/// Nearness is the Jaro–Winkler similarity (Winkler, 1990) of at least 0.7.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut ranked: Vec<(f64, &str)> = known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&name.to_lowercase(), candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.7)
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<&str> = ranked.into_iter().take(3).map(|(_, candidate)| candidate).collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(" (did you mean {}?)", names.join(" or "))
    }
}
