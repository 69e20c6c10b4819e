//! What is loaded, what starts fresh, and the report of what does not fit.

use super::*;

struct File(BTreeMap<String, Tensor>);

impl WeightSource for File {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        Ok(self.0.get(name).map(Tensor::shallow_clone))
    }
}

fn file(names: &[(&str, &[i64])]) -> Option<Box<dyn WeightSource>> {
    let ones = |shape: &[i64]| Tensor::ones(shape, (Kind::Half, Device::Cpu));
    Some(Box::new(File(
        names
            .iter()
            .map(|(name, shape)| ((*name).to_owned(), ones(shape)))
            .collect(),
    )))
}

#[test]
fn one_report_lists_everything() {
    let params = Params::new(file(&[("a", &[2]), ("b", &[3]), ("z", &[1])]), ParamOptions::default());
    let _ = params.tensor("a", &[2], Role::Weight, Init::Normal(1.0));
    let _ = params.tensor("b", &[4], Role::Weight, Init::Normal(1.0));
    let _ = params
        .at("c")
        .tensor("weight", &[5, 5], Role::Weight, Init::Normal(1.0));
    let kept = params.clone();
    let error = params.finish().unwrap_err();
    assert_eq!(kept.fit().unexpected, ["z"]);
    assert_eq!(kept.fit().missing[0].shape, [5, 5]);
    assert_eq!(
        (&kept.fit().misshapen[0].file, &kept.fit().misshapen[0].model),
        (&vec![3], &vec![4])
    );
    assert_eq!(
        error.to_string(),
        "the weights do not fit the model: missing (1): c.weight [5, 5]; wrong (1): b is [3] in the file, [4] in \
         the model; unexpected (1): z; compare the config with the weights (`clipzoo inspect`)"
    );
}

#[test]
fn what_is_disregarded_is_neither_wanted_nor_unexpected() {
    for names in [&[("a", &[2i64] as &[i64])][..], &[("a", &[2]), ("b.count", &[])]] {
        let params = Params::new(file(names), ParamOptions::default());
        let _ = params.tensor("a", &[2], Role::Weight, Init::Normal(1.0));
        params.at("b").disregard("count");
        assert_eq!(params.finish().unwrap().iter().count(), 1);
    }
}

#[test]
fn half_weights_are_widened_and_a_name_is_given_once() {
    let params = Params::new(file(&[("a", &[2])]), ParamOptions::default());
    assert_eq!(
        params.tensor("a", &[2], Role::Weight, Init::Normal(1.0)).kind(),
        Kind::Float
    );
    let _ = params.tensor("a", &[2], Role::Weight, Init::Normal(1.0));
    assert!(params.finish().unwrap_err().what().contains("a: asked for twice"));
}

#[test]
fn fresh_values_depend_on_name_and_seed_alone() {
    let draw = |seed, names: &[&str]| {
        let options = ParamOptions {
            fresh: Fresh::Under(vec!["head".into()]),
            seed,
            ..Default::default()
        };
        let params = Params::new(None, options).at("head");
        names
            .iter()
            .for_each(|name| drop(params.tensor(name, &[4], Role::Weight, Init::Normal(1.0))));
        let parameters = params.finish().unwrap();
        Vec::<f32>::try_from(parameters.iter().last().unwrap().tensor.detach()).unwrap()
    };
    assert_eq!(draw(1, &["weight"]), draw(1, &["bias", "weight"]));
    assert_ne!(draw(1, &["weight"]), draw(2, &["weight"]));
}
