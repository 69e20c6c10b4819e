//! English plurals, as far as spelling alone decides them.

/// Words whose plural is another word; compounds end in one (`gentleman`, `policewoman`).
const IRREGULAR: [(&str, &str); 8] = [
    ("man", "men"),
    ("woman", "women"),
    ("child", "children"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("mouse", "mice"),
    ("goose", "geese"),
    ("person", "people"),
];

/// Words that end like a plural and are none: what would be left is another word.
const NO_PLURAL: [&str; 4] = ["news", "always", "besides", "perhaps"];

/// The other spellings under which a phrase in lower case is the same one: its plural, and where it is one itself its
/// singular. Only the last word changes (`running shoe`, `running shoes`). A spelling that is no word does no harm, since
/// no text holds it.
///
/// Only words of two letters and more without a digit have plurals: `6s` is no number of sixes.
pub(crate) fn other_forms(phrase: &str) -> Vec<String> {
    let Some((before, word)) = last_word(phrase) else {
        return Vec::new();
    };
    let mut forms = plurals(word);
    forms.extend(singulars(word));
    forms.sort_unstable();
    forms.dedup();
    forms.retain(|form| form != word);
    forms.into_iter().map(|form| format!("{before}{form}")).collect()
}

/// What one of a phrase in lower case may be, where its last word ends like a plural.
pub(super) fn singulars_of(phrase: &str) -> Vec<String> {
    let Some((before, word)) = last_word(phrase) else {
        return Vec::new();
    };
    let forms = singulars(word).into_iter().filter(|form| form != word);
    forms.map(|form| format!("{before}{form}")).collect()
}

/// A phrase's last word and what stands before it, if such a word has plurals.
fn last_word(phrase: &str) -> Option<(&str, &str)> {
    let letters = phrase.char_indices().rev().take_while(|(_, c)| c.is_alphabetic());
    let (before, word) = phrase.split_at(letters.last().map_or(phrase.len(), |(at, _)| at));
    let bare = word.chars().count() < 2 || before.ends_with(|c: char| c.is_alphanumeric());
    (!bare).then_some((before, word))
}

/// How many of a word may be spelt. Where spelling leaves it open (`scarves`, `roofs`), both.
fn plurals(word: &str) -> Vec<String> {
    if let Some(plural) = irregular(word, |&(singular, plural)| (singular, plural)) {
        return vec![plural];
    }
    let with = |stem: &str, end: &str| format!("{stem}{end}");
    let mut forms = Vec::new();
    if let Some(stem) = word.strip_suffix('y').filter(|stem| !stem.ends_with(is_vowel)) {
        return vec![with(stem, "ies")];
    }
    if let Some(stem) = word.strip_suffix("fe").or_else(|| word.strip_suffix('f')) {
        forms.push(with(stem, "ves"));
    }
    let hisses = word.ends_with(['s', 'x', 'z']) || word.ends_with("ch") || word.ends_with("sh");
    if hisses || word.ends_with('o') {
        forms.push(with(word, "es"));
    }
    if !hisses || word.ends_with("ch") {
        // `ch` may be a k: stomachs.
        forms.push(with(word, "s"));
    }
    forms
}

/// What one of a word may be, where the word ends like a plural.
fn singulars(word: &str) -> Vec<String> {
    if let Some(singular) = irregular(word, |&(singular, plural)| (plural, singular)) {
        return vec![singular];
    }
    let no_plural = ["ss", "us", "is"].iter().any(|end| word.ends_with(end)) || NO_PLURAL.contains(&word);
    let Some(stem) = word.strip_suffix('s').filter(|_| !no_plural) else {
        return Vec::new();
    };
    let mut forms = vec![stem.to_owned()];
    if let Some(stem) = stem.strip_suffix('e') {
        if let Some(stem) = stem.strip_suffix('i') {
            forms.push(format!("{stem}y"));
        }
        if let Some(stem) = stem.strip_suffix('v') {
            forms.extend(["f", "fe"].map(|end| format!("{stem}{end}")));
        }
        if stem.ends_with(['s', 'x', 'z', 'o']) || stem.ends_with("ch") || stem.ends_with("sh") {
            forms.push(stem.to_owned());
        }
    }
    // What is left of a short word is often another word: `toes` is no plural of `to`, but `tvs` is one of `tv`.
    forms.retain(|form| form.chars().count() > 2 || (form.chars().count() == 2 && !form.ends_with(is_vowel)));
    forms
}

/// The other form of a word that is irregular or ends in such a word.
fn irregular(
    word: &str,
    sides: impl Fn(&(&'static str, &'static str)) -> (&'static str, &'static str),
) -> Option<String> {
    // The longest first: `woman` ends in `man` too, with the same result.
    IRREGULAR.iter().map(sides).find_map(|(from, to)| {
        let stem = word.strip_suffix(from)?;
        // Compounds of the four-letter words and shorter ones are all people: `gentlemen`; a `talisman` is a chance.
        (stem.is_empty() || matches!(from, "man" | "men" | "woman" | "women")).then(|| format!("{stem}{to}"))
    })
}

fn is_vowel(c: char) -> bool {
    matches!(c, 'a' | 'e' | 'i' | 'o' | 'u')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_and_plural_know_each_other() {
        for (one, many) in [
            ("dress", "dresses"),
            ("box", "boxes"),
            ("baby", "babies"),
            ("shoe", "shoes"),
            ("watch", "watches"),
            ("brush", "brushes"),
            ("toy", "toys"),
            ("scarf", "scarves"),
            ("roof", "roofs"),
            ("knife", "knives"),
            ("glove", "gloves"),
            ("tomato", "tomatoes"),
            ("piano", "pianos"),
            ("cookie", "cookies"),
            ("bus", "buses"),
            ("woman", "women"),
            ("snowman", "snowmen"),
            ("child", "children"),
            ("t-shirt", "t-shirts"),
            ("red running shoe", "red running shoes"),
            ("café", "cafés"),
            ("house", "houses"),
            ("tv", "tvs"),
        ] {
            assert!(
                other_forms(one).contains(&many.to_owned()),
                "{one}: {:?}",
                other_forms(one)
            );
            assert!(
                other_forms(many).contains(&one.to_owned()),
                "{many}: {:?}",
                other_forms(many)
            );
        }
    }

    #[test]
    fn words_that_only_end_alike_stay() {
        let not = |phrase: &str, form: &str| {
            assert!(!other_forms(phrase).contains(&form.to_owned()), "{phrase} -> {form}");
        };
        for (phrase, form) in [
            ("dress", "dres"),
            ("news", "new"),
            ("toes", "to"),
            ("bus", "bu"),
            ("baby", "babys"),
            ("box", "boxs"),
            ("child", "childs"),
            ("gas", "ga"),
        ] {
            not(phrase, form);
        }
        assert_eq!(other_forms("iphone 6s"), [""; 0]);
        assert_eq!(other_forms("3d"), [""; 0]);
        assert_eq!(other_forms("100%"), [""; 0]);
        assert_eq!(other_forms(""), [""; 0]);
    }
}
