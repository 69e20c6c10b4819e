//! The terms against the words of their definition in f64, their gradients against finite differences of that.

mod case;

use clip_nn::Objective;
use clip_nn::tch::{Kind, Tensor};

use super::{Anchors, ConceptPrototypes, ConceptPrototypesConfig};
use case::{Case, DIM, NONE, Rows, case, drawn};

const TERMS: [&str; 4] = ["concept_text", "pair_image", "pair_text", "pair_prototype"];

fn only(name: &str) -> ConceptPrototypesConfig {
    let mut config = NONE;
    *match name {
        "concept_text" => &mut config.concept_text,
        "pair_image" => &mut config.pair_image,
        "pair_text" => &mut config.pair_text,
        _ => &mut config.pair_prototype,
    } = 0.5;
    config
}

fn close(got: f64, wanted: f64, tolerance: f64) -> bool {
    (got - wanted).abs() <= tolerance * wanted.abs().max(1.0)
}

#[test]
fn every_term_is_its_definition_and_so_is_its_gradient() {
    let case = case();
    for name in TERMS {
        let (value, leaves) = case.term(name, only(name));
        let wanted = case.by_hand(name, &case);
        assert!(close(value, wanted, 1e-6), "{name}: {value} against {wanted}");
        let mut reached = 0;
        for (number, leaf) in leaves.iter().enumerate() {
            let gradient = leaf.grad();
            for row in 0..leaf.size()[0] as usize {
                for at in 0..DIM {
                    let moved = |by: f64| {
                        let mut moved = case.clone();
                        moved.leaf(number)[row][at] += by;
                        moved.by_hand(name, &case)
                    };
                    let wanted = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    let got = match gradient.defined() {
                        true => gradient.double_value(&[row as i64, at as i64]),
                        false => 0.0,
                    };
                    assert!(
                        (got - wanted).abs() < 1e-5,
                        "{name} {number} {row} {at}: {got} against {wanted}"
                    );
                    reached += usize::from(got != 0.0);
                }
            }
        }
        assert!(reached >= 3 * DIM, "{name} moves {reached} numbers");
    }
}

#[test]
fn a_weight_of_nothing_asks_for_nothing() {
    let case = case();
    assert!(case.run(NONE, 0..5).0.is_empty());
    let needs = |config| ConceptPrototypes::new(config).unwrap().needs();
    assert_eq!(needs(NONE), clip_nn::Needs::default());
    let text = needs(only("concept_text"));
    assert_eq!((text.concept_texts, text.concept_bank, text.queue), (3, None, true));
    let image = needs(only("pair_image"));
    assert_eq!((image.concept_texts, image.concepts), (0, true));
    assert_eq!(image.concept_bank.map(|bank| (bank.every, bank.names)), Some((4, 2)));
    let all = ConceptPrototypesConfig {
        concept_text: 0.5,
        pair_image: 0.5,
        pair_text: 0.5,
        pair_prototype: 0.5,
        ..NONE
    };
    let names: Vec<&str> = case.run(all, 0..5).0.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, TERMS);
}

#[test]
fn no_term_where_nothing_is_live_or_no_pair_has_a_concept() {
    let all = |name| only(name);
    let mut empty = case();
    (empty.live, empty.named, empty.banked) = (vec![], vec![], vec![]);
    (empty.image_prototypes, empty.text_prototypes) = (vec![], vec![]);
    (empty.names, empty.bank) = (vec![], vec![]);
    let mut without = case();
    without.concepts = vec![vec![]; 5];
    without.captions = vec![None; 5];
    let mut weightless = case();
    weightless.weights = vec![1.0, 0.0, 0.0, 0.0, 0.0];
    for name in TERMS {
        assert!(empty.run(all(name), 0..5).0.is_empty(), "{name}");
        if name != "concept_text" {
            assert!(without.run(all(name), 0..5).0.is_empty(), "{name}");
            assert!(weightless.run(all(name), 0..5).0.is_empty(), "{name}");
        }
    }
}

#[test]
fn pairs_without_concepts_add_nothing() {
    let mut fewer = case();
    for views in [&mut fewer.images, &mut fewer.texts] {
        views.iter_mut().for_each(|rows| drop(rows.remove(0)));
    }
    fewer.concepts.remove(0);
    fewer.captions.remove(0);
    fewer.weights.remove(0);
    for name in &TERMS[1..] {
        let (with, without) = (case().term(name, only(name)).0, fewer.term(name, only(name)).0);
        assert!(close(with, without, 1e-6), "{name}: {with} against {without}");
    }
}

#[test]
fn the_order_of_rows_changes_nothing_and_slices_sum_to_the_whole() {
    let case = case();
    let order = [3, 0, 4, 2, 1];
    let mut shuffled = case.clone();
    let shuffle = |rows: &Rows| order.iter().map(|&row| rows[row].clone()).collect::<Rows>();
    shuffled.images = case.images.iter().map(shuffle).collect();
    shuffled.texts = case.texts.iter().map(shuffle).collect();
    shuffled.concepts = order.iter().map(|&row| case.concepts[row].clone()).collect();
    shuffled.captions = order.iter().map(|&row| case.captions[row]).collect();
    shuffled.weights = order.iter().map(|&row| case.weights[row]).collect();
    for name in TERMS {
        let (whole, leaves) = case.term(name, only(name));
        assert!(close(shuffled.term(name, only(name)).0, whole, 1e-6), "{name}");
        // Rows 0 and 2 give some terms nothing: a slice without a target is a term of 0, not none.
        let mut sum = 0.0;
        let mut gradients: Vec<Tensor> = leaves.iter().map(Tensor::zeros_like).collect();
        for rows in [0..1, 1..2, 2..5] {
            let (terms, leaves) = case.run(only(name), rows);
            sum += terms[0].1.double_value(&[]);
            terms[0].1.backward();
            for (gradient, leaf) in gradients
                .iter_mut()
                .zip(&leaves)
                .filter(|(_, leaf)| leaf.grad().defined())
            {
                *gradient += leaf.grad();
            }
        }
        assert!(close(sum, whole, 1e-6), "{name}: {sum} against {whole}");
        for (gradient, leaf) in gradients.iter().zip(&leaves).filter(|(_, leaf)| leaf.grad().defined()) {
            assert!((gradient - leaf.grad()).abs().max().double_value(&[]) < 1e-6, "{name}");
        }
    }
}

#[test]
fn random_anchors_know_nothing_of_prototypes() {
    let case = case();
    let mut other = case.clone();
    (other.image_prototypes, other.text_prototypes, other.bank) = (drawn(8, 4), drawn(9, 4), drawn(10, 3));
    for name in TERMS {
        let random = ConceptPrototypesConfig {
            anchors: Anchors::Random,
            ..only(name)
        };
        let (value, same) = (case.term(name, random).0, other.term(name, random).0);
        // The spread of pair_prototype, too, is by the random anchors.
        assert!(close(value, same, 1e-7), "{name}");
        let [one, another] = [&case, &other].map(|case| case.term(name, only(name)).0);
        assert!(!close(one, another, 1e-4), "{name}: {one} and {another}");
        assert!(!close(value, one, 1e-4), "{name}: {value} and {one}");
        // Drawn anew in the next step, unless they are fixed.
        let later = Case {
            step: case.step + 1,
            ..case.clone()
        };
        assert!(!close(value, later.term(name, random).0, 1e-4), "{name}");
        let fixed = ConceptPrototypesConfig {
            anchors: Anchors::Fixed,
            ..random
        };
        assert_eq!(case.term(name, fixed).0, later.term(name, fixed).0, "{name}");
    }
}

#[test]
fn many_rows_are_taken_a_tile_at_a_time() {
    // 4 anchors and 2^19 rows are two tiles: the mean over equal rows is that of one row.
    let row = |rows: &Rows, count: usize| vec![rows[1].clone(); count];
    let copies = |count: usize| {
        let mut case = case();
        case.images.truncate(1);
        case.images[0] = row(&case.images[0], count);
        case.texts[0] = row(&case.texts[0], count);
        case.concepts = vec![vec![20, 40]; count];
        case.captions = vec![None; count];
        case.weights = vec![1.0; count];
        case.term("pair_text", only("pair_text"))
    };
    let ((one, single), (many, leaves)) = (copies(1), copies(1 << 19));
    assert!(close(many, one, 1e-4), "{many} against {one}");
    let gradient = leaves[1].grad().sum_dim_intlist(0, false, Kind::Double);
    let wanted = single[1].grad().squeeze_dim(0);
    assert!((gradient - wanted).abs().max().double_value(&[]) < 1e-4);
}

#[test]
fn settings_out_of_range_are_refused() {
    for (setting, name) in [
        (
            ConceptPrototypesConfig {
                pair_image: -0.1,
                ..NONE
            },
            "pair_image",
        ),
        (
            ConceptPrototypesConfig {
                concept_text: f64::NAN,
                ..NONE
            },
            "concept_text",
        ),
        (ConceptPrototypesConfig { tau: 0.0, ..NONE }, "tau"),
        (
            ConceptPrototypesConfig {
                match_tau: -1.0,
                ..NONE
            },
            "match_tau",
        ),
        (ConceptPrototypesConfig { names: 0, ..NONE }, "names"),
        (ConceptPrototypesConfig { names: 1 << 20, ..NONE }, "names"),
        (ConceptPrototypesConfig { bank_every: 0, ..NONE }, "bank_every"),
        (ConceptPrototypesConfig { bank_names: 0, ..NONE }, "bank_names"),
    ] {
        let error = ConceptPrototypes::new(setting).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
}
