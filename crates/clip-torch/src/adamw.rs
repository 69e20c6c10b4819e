//! AdamW over many tensors at once.
#![allow(unsafe_code, reason = "calls the shim")]

use tch::{Kind, Tensor};
use torch_sys::C_tensor;

use crate::error::{Result, TorchError};
use crate::ffi::{clip_torch_fused_adamw, outcome};

/// The lists of a step, of one length: entry `i` of each belongs to parameter `i`. All f32, on one device.
#[derive(Debug, Clone, Copy)]
pub struct AdamW<'a> {
    /// What is trained.
    pub parameters: &'a [Tensor],
    /// Their gradients, of the same shapes.
    pub gradients: &'a [Tensor],
    /// The running averages of the gradients.
    pub averages: &'a [Tensor],
    /// The running averages of the squared gradients.
    pub squares: &'a [Tensor],
    /// Scalars: the number of this step, 1 for the first. The operator reads and does not raise them.
    pub steps: &'a [Tensor],
}

/// One step of AdamW (Loshchilov and Hutter, 2019) in place, one pass over memory, outside the graph: with step `t`
///
/// ```text
/// p <- p - lr * weight_decay * p
/// m <- beta1 * m + (1 - beta1) * g
/// v <- beta2 * v + (1 - beta2) * g²
/// p <- p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
/// ```
///
/// It is libtorch's `_fused_adamw_`, as `torch.optim.AdamW(fused=True)` calls it. Lists that do not fit together are
/// errors, and nothing is changed.
///
/// ```
/// use clip_torch::{AdamW, fused_adamw};
/// use tch::Tensor;
/// let (p, g) = ([Tensor::from_slice(&[1f32])], [Tensor::from_slice(&[0.5f32])]);
/// let (m, v, t) = ([p[0].zeros_like()], [p[0].zeros_like()], [Tensor::from(1f32)]);
/// let lists = AdamW { parameters: &p, gradients: &g, averages: &m, squares: &v, steps: &t };
/// fused_adamw(&lists, 0.1, 0.9, 0.999, 0.0, 1e-8)?;
/// assert!((p[0].double_value(&[0]) - 0.9).abs() < 1e-6);
/// # Ok::<(), clip_torch::TorchError>(())
/// ```
pub fn fused_adamw(lists: &AdamW<'_>, lr: f64, beta1: f64, beta2: f64, weight_decay: f64, eps: f64) -> Result<()> {
    let count = lists.parameters.len();
    check(lists)?;
    if count == 0 {
        return Ok(());
    }
    // The kernel walks raw memory, so that a gradient laid out otherwise would be read in the wrong order.
    let gradients: Vec<Tensor> = lists.gradients.iter().map(Tensor::contiguous).collect();
    let [parameters, gradients, averages, squares, steps] =
        [lists.parameters, &gradients, lists.averages, lists.squares, lists.steps].map(pointers);
    // SAFETY: five lists of `count` pointers to live tensors (`check` compared the lengths), borrowed for the call; the
    // shim copies the handles and catches every exception. Data races are ruled out as for tch's own in-place operators:
    // a Tensor is not Sync.
    let status = unsafe {
        clip_torch_fused_adamw(
            parameters.as_ptr(),
            gradients.as_ptr(),
            averages.as_ptr(),
            squares.as_ptr(),
            steps.as_ptr(),
            count,
            lr,
            beta1,
            beta2,
            weight_decay,
            eps,
        )
    };
    outcome(status)
}

fn pointers(tensors: &[Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(Tensor::as_ptr).collect()
}

/// What the kernel takes for granted.
fn check(lists: &AdamW<'_>) -> Result<()> {
    let refuse = |text: String| Err(TorchError::Refused(text));
    let others = [
        ("gradients", lists.gradients),
        ("averages", lists.averages),
        ("squares", lists.squares),
        ("steps", lists.steps),
    ];
    for (name, list) in others {
        if list.len() != lists.parameters.len() {
            return refuse(format!(
                "AdamW over {} parameters and {} {name}",
                lists.parameters.len(),
                list.len()
            ));
        }
        for (at, (tensor, parameter)) in list.iter().zip(lists.parameters).enumerate() {
            let shape = if name == "steps" { vec![] } else { parameter.size() };
            let fits = tensor.defined() && tensor.kind() == Kind::Float && tensor.size() == shape;
            if !fits {
                return refuse(format!(
                    "AdamW: entry {at} of the {name} is no f32 tensor of shape {shape:?}"
                ));
            }
        }
    }
    let written = [lists.parameters, lists.averages, lists.squares];
    let flat = |tensor: &Tensor| tensor.kind() == Kind::Float && tensor.is_contiguous();
    if !written.iter().all(|list| list.iter().all(flat)) {
        return refuse("AdamW takes contiguous f32 parameters and averages".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// The formula of the doc, in f64.
    fn plain(state: &mut [f64; 3], gradient: f64, step: i32, [lr, beta1, beta2, decay, eps]: [f64; 5]) {
        let [p, m, v] = state;
        *p -= lr * decay * *p;
        *m = beta1 * *m + (1.0 - beta1) * gradient;
        *v = beta2 * *v + (1.0 - beta2) * gradient * gradient;
        let (m, v) = (*m / (1.0 - beta1.powi(step)), *v / (1.0 - beta2.powi(step)));
        *p -= lr * m / (v.sqrt() + eps);
    }

    #[test]
    fn agrees_with_the_plain_formula_over_steps_and_layouts() {
        tch::set_num_threads(1);
        tch::manual_seed(1);
        let settings = [0.01, 0.9, 0.98, 0.2, 1e-6];
        let shapes: [&[i64]; 3] = [&[5, 7], &[], &[33]];
        let draw = |shape: &&[i64]| Tensor::randn(*shape, CPU);
        let parameters: Vec<_> = shapes.iter().map(|s| draw(s).set_requires_grad(true)).collect();
        let zeros = || -> Vec<Tensor> { shapes.iter().map(|s| Tensor::zeros(*s, CPU)).collect() };
        let (averages, squares, mut steps) = (zeros(), zeros(), vec![]);
        let values = |t: &Tensor| Vec::<f32>::try_from(t.detach().contiguous().flatten(0, -1)).unwrap();
        let mut expected: Vec<Vec<[f64; 3]>> = parameters
            .iter()
            .map(|p| values(p).iter().map(|&x| [f64::from(x), 0.0, 0.0]).collect())
            .collect();
        for step in 1..=4 {
            // The first gradient lies transposed in memory.
            let mut gradients: Vec<_> = shapes.iter().map(draw).collect();
            gradients[0] = Tensor::randn([7, 5], CPU).transpose(0, 1);
            steps = (0..3).map(|_| Tensor::from(step as f32)).collect();
            let lists = AdamW {
                parameters: &parameters,
                gradients: &gradients,
                averages: &averages,
                squares: &squares,
                steps: &steps,
            };
            let [lr, beta1, beta2, decay, eps] = settings;
            fused_adamw(&lists, lr, beta1, beta2, decay, eps).unwrap();
            for (states, gradient) in expected.iter_mut().zip(&gradients) {
                for (state, g) in states.iter_mut().zip(values(gradient)) {
                    plain(state, f64::from(g), step, settings);
                }
            }
        }
        for (parameter, states) in parameters.iter().zip(&expected) {
            for (value, state) in values(parameter).iter().zip(states) {
                assert!((f64::from(*value) - state[0]).abs() < 1e-6, "{value} {}", state[0]);
            }
        }
        assert_eq!(steps[0].double_value(&[]), 4.0);
    }

    #[test]
    fn lists_that_do_not_fit_are_refused_and_nothing_changes() {
        let one = [Tensor::ones([2], CPU)];
        let steps = [Tensor::from(1f32)];
        let step = |gradients: &[Tensor]| {
            let lists = AdamW {
                parameters: &one,
                gradients,
                averages: &one,
                squares: &one,
                steps: &steps,
            };
            fused_adamw(&lists, 0.1, 0.9, 0.999, 0.0, 1e-8)
        };
        let error = step(&[]).unwrap_err();
        assert_eq!(error.to_string(), "AdamW over 1 parameters and 0 gradients");
        let error = step(&[Tensor::ones([3], CPU)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "AdamW: entry 0 of the gradients is no f32 tensor of shape [2]"
        );
        assert!(step(&[Tensor::new()]).is_err());
        assert_eq!(one[0].double_value(&[0]), 1.0);
    }
}
