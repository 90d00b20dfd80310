//! "Did you mean …": the nearest of the words that would have been right.

/// The nearest candidate, if it is near enough to be meant: one mistake for each three letters, at least one.
pub(super) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // Nobody means a known key with a word of this length; and the comparison costs its length.
    if word.len() > 64 {
        return None;
    }
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let word = plain(word);
    candidates
        .iter()
        .map(|candidate| (distance(&word, &plain(candidate)), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to add, drop, replace, or swap with their neighbour (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (row[j] + usize::from(a != b)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (left, right, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("setup", "setup", 0),
            ("setpu", "setup", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
            assert_eq!(distance(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn only_near_words_are_proposed() {
        let keys = ["setup", "on_start", "sleep_after", "ports", "memory"];
        assert_eq!(nearest("steup", &keys), Some("setup"));
        assert_eq!(nearest("on-start", &keys), Some("on_start"));
        assert_eq!(nearest("PORT", &keys), Some("ports"));
        assert_eq!(nearest("memroy", &keys), Some("memory"));
        assert_eq!(nearest("sleepafter", &keys), Some("sleep_after"));
        assert_eq!(nearest("volumes", &keys), None);
        assert_eq!(nearest(&"x".repeat(100_000), &keys), None);
    }
}
