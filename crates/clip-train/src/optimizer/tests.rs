//! Each algorithm against its formula in f64, and states that go on.

use super::*;
use clip_nn::Role;

fn parameters() -> Vec<Parameter> {
    let make = |name: &str, values: &[f32], shape: &[i64], role| Parameter {
        name: name.into(),
        tensor: Tensor::from_slice(values).view(shape).set_requires_grad(true),
        role,
        layer: None,
    };
    vec![
        make("fc.weight", &[0.5, -0.25, 1.0, 2.0], &[2, 2], Role::Weight),
        make("fc.bias", &[0.1, -0.2], &[2], Role::Bias),
        make("head.weight", &[1.0, 1.0], &[1, 2], Role::Weight),
        make("unused", &[3.0], &[1], Role::Weight),
    ]
}

fn config() -> OptimizerConfig {
    OptimizerConfig {
        algorithm: Algorithm::AdamW,
        betas: [0.9, 0.98],
        eps: 1e-6,
        weight_decay: 0.2,
        no_decay: NoDecay::OpenClip,
        rates: BTreeMap::from([("head".to_owned(), 0.5)]),
        layer_decay: LayerDecay::NONE,
    }
}

fn backward(list: &[Parameter], factor: f64) {
    let loss = list[..3]
        .iter()
        .map(|p| (p.tensor.square() * factor + &p.tensor).sum(Kind::Float))
        .sum::<Tensor>();
    loss.backward();
}

fn values(list: &[Parameter]) -> Vec<f32> {
    list.iter()
        .flat_map(|p| Vec::<f32>::try_from(p.tensor.detach().flatten(0, -1)).unwrap())
        .collect()
}

/// AdamW by the book, in f64.
fn by_hand(start: &[f32], decays: &[f64], rates: &[f64], factors: &[f64]) -> Vec<f64> {
    let mut out = Vec::new();
    for ((&w, &decay), &rate) in start.iter().zip(decays).zip(rates) {
        let (mut w, mut m, mut v) = (f64::from(w), 0.0, 0.0);
        for (t, factor) in (1..).zip(factors) {
            let g = 2.0 * w * factor + 1.0;
            w -= rate * decay * w;
            m = 0.9 * m + 0.1 * g;
            v = 0.98 * v + 0.02 * g * g;
            let (m_hat, v_hat) = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.98f64.powi(t)));
            w -= rate * m_hat / (v_hat.sqrt() + 1e-6);
        }
        out.push(w);
    }
    out
}

#[test]
fn it_follows_the_formula() {
    let list = parameters();
    let start = values(&list);
    let mut optimizer = Optimizer::new(&list, &config()).unwrap();
    for factor in [1.0, 0.5, 2.0] {
        optimizer.clear_gradients().unwrap();
        backward(&list, factor);
        optimizer.step(0.01).unwrap();
    }
    let decays = [0.2, 0.2, 0.2, 0.2, 0.0, 0.0, 0.2, 0.2];
    let rates = [0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005];
    let wanted = by_hand(&start, &decays, &rates, &[1.0, 0.5, 2.0]);
    for (got, wanted) in values(&list).iter().zip(&wanted) {
        assert!((f64::from(*got) - wanted).abs() < 1e-6, "{got} against {wanted}");
    }
    // No gradient ever reached it, so it does not even decay.
    assert_eq!(values(&list)[8], 3.0);
    assert_eq!(optimizer.gradients().unwrap().len(), 3);
}

/// The other algorithms by the book, in f64, without groups: weight decay 0.2 for all.
fn others_by_hand(algorithm: Algorithm, start: f32, factors: &[f64]) -> f64 {
    let (mut w, mut m, mut v) = (f64::from(start), 0.0, 0.0);
    for (t, factor) in (1..).zip(factors) {
        let mut g = 2.0 * w * factor + 1.0;
        if algorithm != Algorithm::BertAdam {
            g += 0.2 * w;
        }
        m = match algorithm {
            Algorithm::Sgd => 0.9 * m + g,
            _ => 0.9 * m + 0.1 * g,
        };
        v = 0.98 * v + 0.02 * g * g;
        w -= 0.01
            * match algorithm {
                Algorithm::Sgd => m,
                Algorithm::BertAdam => m / (v.sqrt() + 1e-6) + 0.2 * w,
                _ => m / (1.0 - 0.9f64.powi(t)) / ((v / (1.0 - 0.98f64.powi(t))).sqrt() + 1e-6),
            };
    }
    w
}

#[test]
fn the_other_algorithms_follow_theirs() {
    for algorithm in [Algorithm::Adam, Algorithm::BertAdam, Algorithm::Sgd] {
        let list = parameters();
        let start = values(&list);
        let config = OptimizerConfig {
            algorithm,
            no_decay: NoDecay::Containing(Vec::new()),
            rates: BTreeMap::new(),
            ..config()
        };
        let mut optimizer = Optimizer::new(&list, &config).unwrap();
        for factor in [1.0, 0.5, 2.0] {
            optimizer.clear_gradients().unwrap();
            backward(&list, factor);
            optimizer.step(0.01).unwrap();
        }
        for (got, start) in values(&list).iter().zip(&start).take(8) {
            let wanted = others_by_hand(algorithm, *start, &[1.0, 0.5, 2.0]);
            assert!(
                (f64::from(*got) - wanted).abs() < 1e-6,
                "{algorithm:?}: {got} against {wanted}"
            );
        }
        assert_eq!(values(&list)[8], 3.0, "no gradient reached it");
    }
}

#[test]
fn a_saved_state_goes_on_to_the_bit() {
    let (one, two) = (parameters(), parameters());
    let mut first = Optimizer::new(&one, &config()).unwrap();
    let run = |optimizer: &mut Optimizer, list: &[Parameter], factor| {
        optimizer.clear_gradients().unwrap();
        backward(list, factor);
        optimizer.step(0.01).unwrap();
    };
    run(&mut first, &one, 1.0);
    let _guard = clip_nn::tch::no_grad_guard();
    for (from, to) in one.iter().zip(&two) {
        to.tensor.shallow_clone().copy_(&from.tensor);
    }
    drop(_guard);
    let saved: HashMap<String, Tensor> = first.state().into_iter().map(|(n, t)| (n, t.copy())).collect();
    run(&mut first, &one, 0.7);
    let mut second = Optimizer::new(&two, &config()).unwrap();
    second.restore(&saved).unwrap();
    run(&mut second, &two, 0.7);
    assert_eq!(values(&one), values(&two));
}

#[test]
fn a_state_of_other_parameters_is_refused() {
    let list = parameters();
    let mut optimizer = Optimizer::new(&list, &config()).unwrap();
    let mut state: HashMap<String, Tensor> = Optimizer::new(&list[..3], &config())
        .unwrap()
        .state()
        .into_iter()
        .collect();
    let error = optimizer.restore(&state).unwrap_err();
    assert!(error.to_string().contains("`unused/average` of shape [1]"), "{error}");
    state.extend(optimizer.state());
    state.insert("more/steps".into(), Tensor::from(1f32));
    assert!(
        optimizer
            .restore(&state)
            .unwrap_err()
            .to_string()
            .contains("13 tensors")
    );
}
