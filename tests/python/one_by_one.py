"""The slow oracle of `gradist.measure`: every gradient by autograd alone, every moment by its definition, float64."""

import numpy as np
import torch


def gradients(model, loss_fn, inputs, targets):
    """g_i of every example, [N, P], trainable parameters in the model's order."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    rows = []
    for i in range(len(targets)):
        loss = loss_fn(model(inputs[i : i + 1]), targets[i : i + 1])[0]
        parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([part.reshape(-1) for part in parts]))
    return torch.stack(rows).double().numpy()


def moments(variance, full):
    """The named moments from the variance of each coordinate of the estimate, [P], and the full gradient, [P]."""
    second = variance + full**2
    used = second > 0
    return {
        "trace_covariance": variance.sum(),
        "average_variance": variance.mean(),
        "normalized_variance": (variance[used] / second[used]).mean(),
        "noise_ratio": variance.sum() / second.sum(),
        "noise_to_signal": variance.sum() / (full**2).sum(),
        "mean_squared_norm": second.sum(),
        "bias_squared": 0.0,
        "mse": variance.sum(),
    }


def uniform(gradients, draws, replacement=True, control=0.0):
    """Mean of `draws` uniform draws of g_i - h_i, plus the mean of h_i."""
    examples = len(gradients)
    factor = 1.0 if replacement else (examples - draws) / (examples - 1)
    return moments(factor * (gradients - control).var(axis=0) / draws, gradients.mean(axis=0))


def stratified(gradients, assignments):
    """One draw a cluster with weight N_k / N, [Faghri20] Proposition 3.1."""
    parts = [gradients[assignments == k] for k in np.unique(assignments)]
    variance = sum(len(part) ** 2 * part.var(axis=0) for part in parts) / len(gradients) ** 2
    return moments(variance, gradients.mean(axis=0))
