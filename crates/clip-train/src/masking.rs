//! Which tokens of a text are masked, and what stands in their place.

use clip_core::Vocabulary;

use crate::seeds::mix;

/// A text with masked tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masked {
    /// The text's ids, others at the masked places.
    pub ids: Vec<u32>,
    /// The masked places, ascending.
    pub places: Vec<usize>,
    /// The ids that stood there.
    pub targets: Vec<u32>,
}

/// Numbers drawn one after another.
struct Chance {
    draw: u64,
    drawn: u64,
}

impl Chance {
    fn next(&mut self) -> u64 {
        self.drawn += 1;
        mix(mix(self.draw) ^ self.drawn)
    }

    /// A number below `count`, which is above 0.
    fn below(&mut self, count: usize) -> usize {
        // The high half of a product: the bias is below 2⁻³² for counts that fit a vocabulary.
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }
}

/// BERT's rule (Devlin et al. 2019): a share of the tokens, rounded and at least one, drawn without special tokens; in the
/// place of 80 % of them stands the mask token, of 10 % a random token that is not special, 10 % stay as they are. A
/// vocabulary without a mask token has random tokens in its place. A text of special tokens alone has no masked place.
///
/// A function of its arguments alone: the same draw masks the same.
pub fn mask(ids: &[u32], vocabulary: &Vocabulary, share: f64, draw: u64) -> Masked {
    let mut special = vocabulary.special.clone();
    special.extend(vocabulary.mask);
    special.retain(|&id| (id as usize) < vocabulary.size);
    special.sort_unstable();
    special.dedup();
    let mut chance = Chance { draw, drawn: 0 };
    let mut places: Vec<usize> = (0..ids.len())
        .filter(|&at| special.binary_search(&ids[at]).is_err())
        .collect();
    let count = ((share * places.len() as f64).round() as usize).clamp(places.len().min(1), places.len());
    for at in 0..count {
        let other = at + chance.below(places.len() - at);
        places.swap(at, other);
    }
    places.truncate(count);
    places.sort_unstable();
    let mut masked = Masked {
        ids: ids.to_vec(),
        targets: places.iter().map(|&at| ids[at]).collect(),
        places,
    };
    for &at in &masked.places {
        // Both are drawn at every place, so that no place depends on what became of the one before.
        let (fate, other) = (chance.below(10), random(vocabulary.size, &special, &mut chance));
        let other = other.unwrap_or(masked.ids[at]);
        masked.ids[at] = match fate {
            9 => masked.ids[at],
            8 => other,
            _ => vocabulary.mask.unwrap_or(other),
        };
    }
    masked
}

/// A token that is not special, all of them equally likely; `None` where there is none.
fn random(size: usize, special: &[u32], chance: &mut Chance) -> Option<u32> {
    let plain = size.saturating_sub(special.len());
    if plain == 0 {
        return None;
    }
    let drawn = chance.below(plain) as u32;
    // Ascending: each special token at or below it moves it up by one.
    Some(special.iter().fold(drawn, |id, &special| id + u32::from(special <= id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bert() -> Vocabulary {
        Vocabulary {
            size: 20,
            mask: Some(4),
            special: vec![0, 1, 2, 3],
        }
    }

    /// [CLS] eight words [SEP] and padding.
    const TEXT: [u32; 12] = [2, 10, 11, 12, 13, 14, 15, 16, 17, 3, 0, 0];

    #[test]
    fn a_share_of_the_words_is_masked_and_never_a_special_token() {
        let mut seen = [0; 12];
        for draw in 0..2000 {
            let masked = mask(&TEXT, &bert(), 0.25, draw);
            assert_eq!(masked, mask(&TEXT, &bert(), 0.25, draw));
            assert_eq!(masked.places.len(), 2);
            assert!(masked.places.is_sorted() && masked.places[0] != masked.places[1]);
            for (&at, &target) in masked.places.iter().zip(&masked.targets) {
                assert_eq!(target, TEXT[at]);
                seen[at] += 1;
            }
            let kept = (0..12).filter(|at| !masked.places.contains(at));
            assert!(kept.into_iter().all(|at| masked.ids[at] == TEXT[at]));
        }
        for (at, seen) in seen.into_iter().enumerate() {
            // 500 of 2,000 with a deviation of 19.
            let wanted = if (1..9).contains(&at) { 400..600 } else { 0..1 };
            assert!(wanted.contains(&seen), "place {at} {seen} times");
        }
    }

    #[test]
    fn what_stands_at_a_masked_place_follows_berts_shares() {
        let (mut masks, mut same, mut others) = (0, 0, [0; 20]);
        for draw in 0..4000 {
            let masked = mask(&TEXT, &bert(), 0.25, draw);
            for (&at, &target) in masked.places.iter().zip(&masked.targets) {
                match masked.ids[at] {
                    4 => masks += 1,
                    id if id == target => same += 1,
                    id => others[id as usize] += 1,
                }
            }
        }
        // Of 8,000: 6,400 masks; 800 stay and another 800 / 15 are drawn as they were.
        assert!((6250..6550).contains(&masks), "{masks}");
        assert!((750..960).contains(&same), "{same}");
        assert_eq!(others[..5], [0; 5]);
        assert!(others[5..].iter().all(|&count| (20..90).contains(&count)), "{others:?}");
    }

    #[test]
    fn without_a_mask_token_random_ones_stand_in() {
        // As in CLIP: start and end are the last two.
        let clip = Vocabulary {
            size: 30,
            mask: None,
            special: vec![28, 29],
        };
        let mut changed = 0;
        for draw in 0..1000 {
            let masked = mask(&[28, 7, 8, 29], &clip, 0.15, draw);
            // Less than half a word is still one.
            assert_eq!(masked.places.len(), 1);
            let id = masked.ids[masked.places[0]];
            assert!(id < 28);
            changed += usize::from(id != masked.targets[0]);
        }
        // 90 % are random, of which 1 in 28 is what it was.
        assert!((820..910).contains(&changed), "{changed}");
    }

    #[test]
    fn nothing_to_mask_is_no_place() {
        let masked = mask(&[2, 3, 0], &bert(), 0.5, 1);
        assert_eq!((masked.ids, masked.places), (vec![2, 3, 0], Vec::new()));
        assert!(mask(&[], &bert(), 0.5, 1).places.is_empty());
        assert_eq!(mask(&TEXT, &bert(), 1.0, 1).places.len(), 8);
        // Nothing but special tokens to put there: the text stays.
        let bare = Vocabulary {
            size: 2,
            mask: None,
            special: vec![0, 1],
        };
        assert_eq!(mask(&[0, 5], &bare, 1.0, 1).ids, [0, 5]);
    }
}
