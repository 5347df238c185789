//! Gradients against finite differences, for tests.

use candle_core::{Device, Tensor, Var};

use super::layer::Layer;

/// A variable of numbers that are neither large nor equal.
pub(super) fn variable(shape: &[usize], seed: f64) -> Var {
    let n: usize = shape.iter().product();
    let values: Vec<f64> = (0..n).map(|i| (seed + 1.7 * i as f64).sin() * 0.8).collect();
    Var::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Asserts that back-propagation gives every one of `variables` a gradient of the scalar `f`, and
/// that it is what (f(x + h) - f(x - h)) / 2h says for every number.
pub(super) fn check(variables: &[Var], f: impl Fn() -> Tensor) {
    check_layers(&[], variables, f);
}

/// The same of the weights and biases of `layers` too.
pub(super) fn check_layers(layers: &[&Layer], variables: &[Var], f: impl Fn() -> Tensor) {
    let store = f().backward().unwrap();
    let mut all: Vec<(Var, Option<Tensor>)> = Vec::new();
    for layer in layers {
        let gradients = layer.gradients(&store).unwrap();
        all.extend([layer.weight.clone(), layer.bias.clone()].into_iter().zip(gradients));
    }
    all.extend(variables.iter().map(|var| (var.clone(), store.get(var).cloned())));
    let value = || f().to_scalar::<f64>().unwrap();
    for (number, (var, gradient)) in all.iter().enumerate() {
        let gradient = gradient.as_ref().unwrap_or_else(|| panic!("variable {number} has none"));
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let before = var.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let set = |values: &[f64]| {
            var.set(&Tensor::from_slice(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
        };
        for i in 0..before.len() {
            let h = 1e-5;
            let mut moved = before.clone();
            moved[i] += h;
            set(&moved);
            let above = value();
            moved[i] -= 2.0 * h;
            set(&moved);
            let below = value();
            let expected = (above - below) / (2.0 * h);
            assert!(
                (gradient[i] - expected).abs() < 1e-6 * (1.0 + expected.abs()),
                "variable {number}, entry {i}: expected {expected}, got {}",
                gradient[i]
            );
        }
        set(&before);
    }
}
